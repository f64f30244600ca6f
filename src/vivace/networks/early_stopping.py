"""Early stopping: training ends when what is watched has not got better for a while, and the best weights come back.

Prechelt, "Early stopping - but when?" (1998), the criterion UP in its plain form: count the epochs without improvement.
In: a number an epoch (a validation loss or accuracy) and the model. Out: whether to stop; the model at its best epoch.
Departs from the paper: counts epochs since the best value, not successive rises. (`vivace.base.fit` has it built in as
`monitor=` and `patience=`; this is for loops of one's own.)
"""

import math

from torch import Tensor, nn

from vivace.base.errors import InputError, unknown


class EarlyStopping:
    """`if stopping.update(value, model): break` in the loop, then `stopping.restore(model)`."""

    def __init__(self, patience: int = 10, *, mode: str = "min", min_delta: float = 0.0) -> None:
        """patience: epochs without improvement after which to stop; mode: whether "min" or "max" is best.

        min_delta: how much better a value must be to count as an improvement.
        """
        if patience < 1:
            raise InputError(f"patience is {patience}, but must be at least 1 epoch")
        if mode not in ("min", "max"):
            raise unknown("mode", mode, ("min", "max"))
        self.patience, self.min_delta = patience, min_delta
        self.sign = 1.0 if mode == "min" else -1.0
        self.best = math.inf  # of sign * value
        self.best_epoch = self.epoch = 0  # counted from 1
        self.weights: dict[str, Tensor] = {}

    def update(self, value: float, model: nn.Module | None = None) -> bool:
        """Take in an epoch's value; whether it is time to stop. A NaN is no improvement."""
        self.epoch += 1
        if self.sign * value < self.best - self.min_delta:
            self.best, self.best_epoch = self.sign * value, self.epoch
            if model is not None:
                self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        return self.epoch - self.best_epoch >= self.patience

    def restore(self, model: nn.Module) -> None:
        """Give the model the weights of its best epoch."""
        if not self.weights:
            raise InputError("no weights were kept: give update() the model, and call it before restore()")
        model.load_state_dict(self.weights)
