"""Feature inversion: find a picture that a layer cannot tell from the one it saw, and see what the layer has kept.

Mahendran and Vedaldi, "Understanding deep image representations by inverting them" (2015), eq. 1 to 4.
In: a layer's features (B, ...), nothing else of the pictures. Out: pictures (B, 3, H, W), RGB, [0, 1].
Departs from the paper: Adam with a falling rate finds the picture, not momentum; clipping keeps its pixels in range,
not the alpha-norm (norm= is its weight). parameters= writes it in frequencies, as later work does.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vivace.base.errors import InputError, unknown
from vivace.base.hooks import Layer, activations, evaluating
from vivace.base.images import total_variation
from vivace.base.progress import Step, Tell, ignore
from vivace.explain.image_parameterization import ImageParameters

Distance = Literal["l2", "l1", "cosine"]


def feature_inversion(
    model: nn.Module,
    features: Float[Tensor, "b ..."],
    layer: Layer,
    *,
    size: tuple[int, int],
    steps: int = 200,
    rate: float = 0.1,
    distance: Distance = "l2",
    smoothness: float = 10.0,
    norm: float = 0.0,
    parameters: ImageParameters | None = None,
    generator: torch.Generator | None = None,
    tell: Tell = ignore,
) -> Float[Tensor, "b 3 h w"]:
    """Pictures of `size` (height, width) whose features at `layer` are the given ones.

        (features,) = activations(model, images, ["blocks.4"])
        again = feature_inversion(model, features, "blocks.4", size=(224, 224))

    steps, rate: of Adam, whose rate falls to 0 along a cosine
    distance: between features: squared, absolute, or the angle between the vectors at each position
    smoothness: weight of the total variation; more for deeper layers, which leave more open
    norm: weight of the mean sixth power of the pixels' distance from grey
    parameters: what the pictures are written in and where they start; pixels and noise where not given
    InputError for an unknown layer or distance, no steps, features that are all zero, and those that the layer cannot
    have at this size.
    """
    if steps < 1:
        raise InputError(f"inversion takes at least one step, not {steps}")
    if distance not in get_args(Distance):
        raise unknown("distance", distance, get_args(Distance))
    if not features.any():
        raise InputError("these features are zero everywhere: nothing of the picture is left in them")
    if parameters is None:
        parameters = ImageParameters(size, count=len(features), basis="pixel", decorrelate=False, limit="clip",
                                     deviation=0.1, generator=generator).to(features.device)  # fmt: skip
    phi_0 = features.detach()
    optimizer = torch.optim.Adam(parameters.parameters(), lr=rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
        for done in range(1, steps + 1):
            x = parameters()
            (phi,) = activations(model, x, [layer])
            if phi.shape != phi_0.shape:
                raise InputError(
                    f"the features are {tuple(phi_0.shape)}; of pictures {tuple(x.shape)} they are {tuple(phi.shape)}"
                )
            error = feature_distance(phi, phi_0, distance)
            loss = error + smoothness * total_variation(x) + norm * (x - 0.5).pow(6).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            parameters.clip()
            tell(Step(done, steps, "inverting", {"distance": error.item()}, x.detach()[0]))
    return parameters().detach().clamp(0, 1)


def feature_distance(
    phi: Float[Tensor, "b ..."], phi_0: Float[Tensor, "b ..."], distance: Distance = "l2"
) -> Float[Tensor, ""]:
    """How far features are from given ones, relative to these, so that it means the same at every layer (eq. 3)."""
    match distance:
        case "l2":
            return (phi - phi_0).square().sum() / phi_0.square().sum()
        case "l1":
            return (phi - phi_0).abs().sum() / phi_0.abs().sum()
        case "cosine":
            return 1 - F.cosine_similarity(phi, phi_0, dim=1).mean()
