"""DeepDream: let a network see more of what it already sees in a photograph.

Mordvintsev, Olah, Tyka, "Inceptionism: going deeper into neural networks" (Google research blog, 2015).
In: a model and a picture (3, H, W), RGB, in [0, 1], sides of at least 32. Out: the picture dreamt (3, H, W).
Departs from the paper: steps are relative to the gradient's root mean square, not to its mean size.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.hooks import evaluating
from vivace.base.images import check_image, resize
from vivace.base.progress import Step, Tell, ignore
from vivace.explain.objectives import Objective


def deep_dream(
    model: nn.Module,
    image: Float[Tensor, "3 h w"],
    objective: Objective,
    *,
    octaves: int = 4,
    octave_scale: float = 1.4,
    steps: int = 10,
    rate: float = 0.01,
    jitter: int = 32,
    generator: torch.Generator | None = None,
    tell: Tell = ignore,
) -> Float[Tensor, "3 h w"]:
    """The picture changed so that the objective, such as `energy("blocks.9")`, grows: first small, then larger.

    octaves, octave_scale: how many sizes, each so much larger than the one before, the last the picture's own (sizes
    with a side below 32 pixels are left out); what was dreamt at one size is enlarged and laid on the picture at the
    next, so that small things grow detail
    steps, rate: ascents at each size, and how far each moves a pixel on average (root mean square)
    jitter: before each step the picture is moved by up to so many pixels, and back after it
    """
    check_image(image)
    height, width = image.shape[1:]
    scales = [octave_scale**-i for i in range(octaves) if min(height, width) * octave_scale**-i >= 32][::-1]
    if not scales or octave_scale <= 1:
        raise InputError(f"a dream needs sides of at least 32 pixels, an octave, and a scale above 1, not {height} x "
                         f"{width}, {octaves} and {octave_scale}")  # fmt: skip
    dreamt = torch.zeros_like(image)[None]
    for octave, scale in enumerate(scales):
        base = resize(image, (round(height * scale), round(width * scale)))[None]
        dreamt = F.interpolate(dreamt, size=base.shape[-2:], mode="bilinear", align_corners=False)
        for step in range(steps):
            x = _stepped(model, objective, (base + dreamt).clamp(0, 1), rate, jitter, generator)
            dreamt = x - base
            size = f"{base.shape[-1]} x {base.shape[-2]}"
            tell(Step(octave * steps + step + 1, len(scales) * steps, size, image=x[0]))
    return (image + dreamt[0]).clamp(0, 1)


def _stepped(
    model: nn.Module,
    objective: Objective,
    x: Float[Tensor, "1 3 h w"],
    rate: float,
    jitter: int,
    generator: torch.Generator | None,
) -> Float[Tensor, "1 3 h w"]:
    """One step up the gradient at the picture rolled by a random number of pixels, rolled back."""
    move = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
        rolled = x.detach().roll(move, (2, 3)).clone().requires_grad_()
        f = objective(model, rolled)
        if not f.requires_grad:
            raise InputError("the objective does not depend on the picture in a way that can be differentiated")
        (gradient,) = torch.autograd.grad(f.sum(), rolled)
    up = rate * gradient / gradient.square().mean().sqrt().clamp_min(1e-12)
    return (rolled.detach() + up).clamp(0, 1).roll([-m for m in move], (2, 3))
