"""Activation maximisation: paint, by gradient ascent, the picture that excites a unit of a network most.

Erhan, Bengio, Courville, Vincent, "Visualizing higher-layer features of a deep network" (2009), section 3.2; the
regularisers: Simonyan et al. (2013), Yosinski et al. (2015), Olah et al. (2017).
In: a model, an objective and a size (height, width). Out: pictures (B, 3, H, W), RGB, in [0, 1].
Departs from the paper: by default Adam climbs, in frequencies for pixels, with weights of l2 and smoothness that suit a
logit (a channel's mean takes a hundredth); the paper: parameters=ImageParameters(size, basis="pixel",
decorrelate=False, limit="none"), smoothness=0, l2=0, optimizer=torch.optim.SGD.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.hooks import evaluating
from vivace.base.images import total_variation
from vivace.base.progress import Step, Tell, ignore
from vivace.explain.image_parameterization import ImageParameters, blurred, high_frequencies

Objective = Callable[[nn.Module, Tensor], Tensor]  # such as `logit(130)`: a number for each picture (B,)
Views = Callable[[Tensor, torch.Generator | None], Tensor]  # such as `ImageTransformations()`
DECAY = 0.85  # of the frequencies: at 1, photographs' own, large shapes move so fast that they end in black and white


class Maximized(NamedTuple):
    """The pictures, and what the objective was at each step for each, as the network saw the views."""

    images: Float[Tensor, "b 3 h w"]
    activations: Float[Tensor, "steps b"]


def activation_maximization(
    model: nn.Module,
    objective: Objective,
    size: tuple[int, int] = (224, 224),
    *,
    count: int = 1,
    steps: int = 200,
    rate: float = 0.05,
    views: Views | None = None,
    l2: float = 5.0,
    smoothness: float = 800.0,
    frequency: float = 0.0,
    blur: float = 0.0,
    parameters: ImageParameters | None = None,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    generator: torch.Generator | None = None,
    tell: Tell = ignore,
) -> Maximized:
    """Pictures I that maximise f(I) - lambda R(I), from random noise; as many as `count`, or as `parameters` has.

    views: what the network is shown in place of the picture, drawn anew at each step: `ImageTransformations()` for
    pictures that people recognise; None shows the picture itself
    l2: weight of the mean square of the distance from grey
    smoothness: weight of the total variation (mean square of steps between neighbours)
    frequency: weight of the mean square of all that is finer than 8 pixels a cycle
    blur: after each fourth step the picture is blurred with this standard deviation, in pixels
    parameters: what a picture is made of, and whether it is clipped; frequencies where not given
    optimizer: called with the parameters, `lr=rate` and `maximize=True`; torch.optim.SGD is plain gradient ascent
    generator: for the noise and the views. InputError where the objective does not depend on the picture, or diverges
    """
    if steps < 1:
        raise InputError(f"gradient ascent takes at least one step, not {steps}")
    device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    picture = parameters or ImageParameters(size, count=count, decay=DECAY, generator=generator)
    picture = picture.to(device)
    solver: Any = optimizer(list(picture.parameters()), lr=rate, maximize=True)
    reached = []
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
        for step in range(steps):
            images = picture()
            f = objective(model, (views(images, generator) if views else images).contiguous())
            penalty = l2 * (images - 0.5).square().mean((1, 2, 3)).sum() if l2 else 0.0
            if smoothness:
                penalty = penalty + smoothness * len(images) * total_variation(images)
            if frequency:
                penalty = penalty + frequency * high_frequencies(images).sum()
            reached.append(_climb(solver, picture, f, penalty))
            picture.clip()
            if blur and step % 4 == 3:
                picture.write(blurred(picture().detach(), blur))
            tell(Step(step + 1, steps, "climbing", {"activation": float(reached[-1].mean())}, images.detach()[0]))
    with torch.no_grad():
        return Maximized(picture().detach(), torch.stack(reached).cpu())


def _climb(
    solver: torch.optim.Optimizer, picture: ImageParameters, f: Float[Tensor, " b"], penalty: Tensor | float
) -> Float[Tensor, " b"]:
    """One step up the sum of all pictures' goals, of which each depends on its own picture only."""
    if not f.requires_grad:
        raise InputError("the objective does not depend on the picture in a way that can be differentiated")
    if not bool(f.isfinite().all()):
        raise InputError("the objective is NaN or infinite: take a smaller rate, or keep the picture in [0, 1]")
    (picture.numbers.grad,) = torch.autograd.grad(f.sum() - penalty, picture.numbers)
    solver.step()
    return f.detach()
