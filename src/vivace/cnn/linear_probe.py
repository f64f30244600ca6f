"""Linear probe: how well a layer's features, left as they are, separate classes by a plane.

Alain, Bengio, "Understanding intermediate layers using linear classifier probes" (2016), section 3.
In: a model of pictures (B, C, H, W), layers by name, pictures with a class each to learn from and others to test on.
Out: a `Probe` for each layer: its accuracies in [0, 1].
Departs from the paper: maps are averaged over places first, and the probe is multinomial logistic regression with an L2
penalty on standardised features, solved to the end, where the paper flattens maps and trains along with the network.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.hooks import Layer, activations, evaluating
from vivace.base.progress import Step, Tell, ignore


class Probe(NamedTuple):
    """The share of pictures that a layer's probe names rightly."""

    train: float
    test: float


def linear_probe(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    test_features: Float[Tensor, "m d"],
    test_labels: Int[Tensor, " m"],
    *,
    C: float = 1.0,
) -> Probe:
    """Logistic regression on features; `C` is scikit-learn's: the inverse of the penalty's strength."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if C <= 0:
        raise InputError(f"C is the inverse of a penalty's strength, above 0; got {C}")
    if len(labels.unique()) < 2:
        raise InputError("a probe needs pictures of two classes at least")
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000))
    probe.fit(features.double().cpu().numpy(), labels.cpu().numpy())
    return Probe(
        probe.score(features.double().cpu().numpy(), labels.cpu().numpy()),
        probe.score(test_features.double().cpu().numpy(), test_labels.cpu().numpy()),
    )


@torch.no_grad()
def pooled_features(model: nn.Module, images: Float[Tensor, "n c h w"], layers: Sequence[Layer], *,
                    batch_size: int = 50, tell: Tell = ignore) -> list[Float[Tensor, "n d"]]:  # fmt: skip
    """What each layer puts out for each picture, maps averaged over their places; the model predicts as in use."""
    found: list[list[Tensor]] = [[] for _ in layers]
    with evaluating(model):
        for start in range(0, len(images), batch_size):
            tell(Step(start, len(images), "looking at pictures"))
            for kept, output in zip(found, activations(model, images[start : start + batch_size], layers), strict=True):
                kept.append(output.flatten(2).mean(2) if output.ndim > 2 else output)
    return [torch.cat(kept) for kept in found]
