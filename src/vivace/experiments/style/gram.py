"""Experiment: what the Gram matrix of a layer's features keeps of a texture, and what it forgets."""

from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from vivace.base.hooks import activations
from vivace.base.images import crop_center, read_image, resize
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore, part_of
from vivace.cnn import efficientnet_lite0
from vivace.style import Gaze, gatys, gram_matrix, seeing, style_distance

QUICK = {"size": 128, "steps": 12}

# from fine to coarse; each before its activation, where negative values still tell channels apart
LAYERS = ("stem.norm", "blocks.1.expand.norm", "blocks.3.expand.norm", "blocks.5.expand.norm", "blocks.8.expand.norm")
LEVELS = 3  # of size, for the textures that are made: `steps` at the finest, twice as many at each coarser one
ROUNDS = 2**LEVELS - 1
TILES = (64, 32, 16, 8, 4)  # sides, in pixels, of the pieces that a picture is cut into


@checked
def run(*, image: ImagePath = "brick", size: Annotated[int, Ge(128), Le(512)] = 256,
        steps: Annotated[int, Ge(1), Le(1000)] = 30, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """The Gram matrix keeps a texture and forgets where things are.

    vivace run gram        20 s on two cores; a texture laid 2 x 2 keeps its Gram to 1 %, its sum is 4 times

    image: the picture whose texture is looked at
    size: the side of the square that is taken from its middle, in pixels
    steps: evaluations at the finest of three sizes, for the textures that are made from one layer's Gram
    seed: of what is shuffled, and of the noise that the textures start from
    """
    model = efficientnet_lite0(weights="imagenet")
    for weight in model.parameters():
        weight.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    photo = read_image(image)
    picture = crop_center(resize(photo, max(size, min(photo.shape[-2:]) // 2)), size)
    total = 2 + len(TILES) + len(LAYERS) * steps * ROUNDS
    report = Report(
        "The Gram matrix keeps a texture and forgets where things are",
        "Features $F$ of $C$ channels at $M$ positions have the Gram matrix $G = F F^T / M$: how often, and how "
        "strongly, two channels fire at the same place, wherever that is. Pictures with the same $G$ look alike as "
        "textures.",
    )
    with torch.no_grad():
        tell(Step(0, total, "sizes"))
        _sizes(report, model, picture)
        tell(Step(1, total, "positions and kernels"))
        _positions(report, model, picture, generator)
        _kernels(report, generator)
        _tiles(report, model, picture, generator, part_of(tell, 2, total))
    _derivative(report, generator)
    _textures(report, model, picture, steps, generator, part_of(tell, 2 + len(TILES), total))
    return report


def _sizes(report: Report, model: nn.Module, picture: Tensor) -> None:
    """One matrix for pictures of any size; but only the mean over positions is comparable."""
    sides = [picture.shape[-1] * part // 4 for part in (2, 3, 4, 6)]
    shapes = {tuple(gram_matrix(_features(model, resize(picture, side), LAYERS[1])).shape[1:]) for side in sides}
    C = _features(model, picture, LAYERS[1]).shape[1]
    report.claim("6.2.c1", measured=len(shapes - {(C, C)}), high=0,
                 detail=f"shapes other than {C} x {C}, pictures of side {sides}")  # fmt: skip
    tiled = picture.repeat(1, 2, 2)
    once, four = (_features(model, p, LAYERS[1]) for p in (picture, tiled))
    ratios = [float(gram_matrix(four, divide=d).norm() / gram_matrix(once, divide=d).norm()) for d in (False, True)]
    for id_, ratio, how in (("6.2.c2", ratios[0], "summed over positions"), ("6.2.x1", ratios[1], "divided by H W")):
        report.claim(id_, measured=ratio, low=0.9, high=1.1,
                     detail=f"norm of the Gram, {how}: the picture laid 2 x 2 over the picture")  # fmt: skip
    report.images("sizes", {"picture": picture, "laid 2 x 2": tiled},
                  f"The same texture. The Gram summed over positions is {ratios[0]:.2f} times as large on the right, "
                  f"the one divided by $H W$ {ratios[1]:.2f} times.")  # fmt: skip


def _positions(report: Report, model: nn.Module, picture: Tensor, generator: torch.Generator) -> None:
    """Positions of the features are summed out exactly; correlations would need the means taken off."""
    F = _features(model, picture, "stem")  # after the activation, as the paper takes it
    flat = F.flatten(2)
    shuffled = flat[:, :, torch.randperm(flat.shape[2], generator=generator)].reshape(F.shape)
    report.claim("6.2.c3", measured=_change(gram_matrix(shuffled), gram_matrix(F)), high=1e-4,
                 detail="relative change of the stem's Gram when its features' positions are permuted")  # fmt: skip
    G = gram_matrix(F.double())[0]
    alive = G.diagonal() > 1e-8
    cosine = (G / G.diagonal().outer(G.diagonal()).sqrt())[alive][:, alive]
    correlation = torch.corrcoef(flat[0, alive].double())
    off = ~torch.eye(len(cosine), dtype=torch.bool)
    means = [float(m[off].mean()) for m in (cosine, correlation)]
    report.claim("6.2.c4", measured=float((cosine - correlation)[off].abs().mean()), high=0.05,
                 detail=f"mean distance of the Gram's cosines (mean {means[0]:.3f}) from the channels' correlations "
                        f"(mean {means[1]:.3f}); stem, after its activation")  # fmt: skip


def _kernels(report: Report, generator: torch.Generator) -> None:
    """||G - A||^2 is the squared maximum mean discrepancy with the kernel k(x, y) = (x . y)^2."""
    X, Y = (torch.randn(1, 8, 5, n, generator=generator, dtype=torch.float64) for n in (6, 9))
    grams = float((gram_matrix(X) - gram_matrix(Y)).square().sum())
    x, y = X.flatten(2)[0].T, Y.flatten(2)[0].T
    mmd = float((x @ x.T).square().mean() + (y @ y.T).square().mean() - 2 * (x @ y.T).square().mean())
    report.claim("6.2.c6", measured=abs(grams - mmd) / mmd, high=1e-9,
                 detail=f"relative difference of {grams:.6f} (Grams) and {mmd:.6f} (kernel)")  # fmt: skip


def _derivative(report: Report, generator: torch.Generator) -> None:
    """Its gradient, 4 (G - A) F / M for the squared distance, against differences."""
    F = torch.randn(1, 4, 3, 5, generator=generator, dtype=torch.float64).requires_grad_()
    P = torch.randn(1, 4, 6, 6, generator=generator, dtype=torch.float64)
    (slope,) = torch.autograd.grad(style_distance([F], [P]).sum(), F)
    step = torch.randn(F.shape, generator=generator, dtype=torch.float64)
    h = 1e-5
    with torch.no_grad():
        ahead, behind = (float(style_distance([F + sign * h * step], [P])) for sign in (1, -1))
    measured = (ahead - behind) / (2 * h)
    report.claim("6.2.c5", measured=abs(measured - float((slope * step).sum())) / abs(measured), high=1e-6,
                 detail="relative difference of autograd's slope and central differences")  # fmt: skip


def _tiles(report: Report, model: nn.Module, picture: Tensor, generator: torch.Generator, tell: Tell) -> None:
    """Cut the picture into tiles and shuffle them: what is larger than a tile is destroyed, what is smaller stays."""
    layers = [*LAYERS]
    whole = [gram_matrix(f) for f in activations(model, picture[None], layers)]
    changes: dict[str, list[float]] = {layer: [] for layer in layers}
    shown = {"whole": picture}
    for done, tile in enumerate(TILES):
        tell(Step(done, len(TILES), f"tiles of {tile}"))
        pieces = shuffled_tiles(picture, tile, generator)
        shown[f"tiles of {tile}"] = pieces
        for layer, G, f in zip(layers, whole, activations(model, pieces[None], layers), strict=True):
            changes[layer].append(_change(gram_matrix(f), G))
    pixels = shuffled_tiles(picture, 1, generator)
    report.images("tiles", {**shown, "pixels": pixels}, "The same tiles in another order.")
    report.curve("tiles_change", {layer.removesuffix(".norm"): (TILES, change) for layer, change in changes.items()},
                 x="side of a tile (pixels)", y="change of the Gram", log_x=True,
                 caption="How far the Gram moves when tiles change places, relative to its norm. A deep layer's sees "
                         "larger patterns, and so misses them sooner.")  # fmt: skip
    at = TILES.index(16)
    report.claim("6.2.c7", measured=changes[LAYERS[-1]][at] / changes[LAYERS[0]][at], low=2,
                 detail=f"change of {LAYERS[-1]}'s Gram over {LAYERS[0]}'s, tiles of 16 pixels")  # fmt: skip
    f = _features(model, pixels, LAYERS[0])
    report.claim("6.2.x2", measured=_change(gram_matrix(f), whole[0]), high=0.05,
                 detail=f"relative change of {LAYERS[0]}'s Gram when pixels are permuted")  # fmt: skip


def _textures(report: Report, model: nn.Module, picture: Tensor, steps: int, generator: torch.Generator,
              tell: Tell) -> None:  # fmt: skip
    """From noise, pictures that have one layer's Gram."""
    made = {"exemplar": picture}
    for i, layer in enumerate(LAYERS):
        see = seeing(model, Gaze(content=(layer,), style=(layer,), enlarge=1.0))
        heard = part_of(tell, i * steps * ROUNDS, len(LAYERS) * steps * ROUNDS)
        made[layer.removesuffix(".norm")] = gatys(
            see,
            torch.full_like(picture, 0.5),
            picture,
            steps=steps,
            content_weight=0.0,
            smoothness=0.0,
            coarsest=picture.shape[-1] >> (LEVELS - 1),
            init="noise",
            generator=generator,
            tell=heard,
        )
    report.images("textures", made, "From noise, made to have the Gram of this layer alone (and the colours').")


def shuffled_tiles(picture: Tensor, tile: int, generator: torch.Generator) -> Tensor:
    """The picture's tiles in a random order; what doesn't fill a tile at the right and below is cut off."""
    c, h, w = picture.shape
    rows, columns = h // tile, w // tile
    pieces = picture[:, : rows * tile, : columns * tile].reshape(c, rows, tile, columns, tile).permute(1, 3, 0, 2, 4)
    mixed = pieces.flatten(0, 1)[torch.randperm(rows * columns, generator=generator)]
    return mixed.reshape(rows, columns, c, tile, tile).permute(2, 0, 3, 1, 4).reshape(c, rows * tile, columns * tile)


def _features(model: nn.Module, picture: Tensor, layer: str) -> Tensor:
    return activations(model, picture[None], [layer])[0]


def _change(G: Tensor, reference: Tensor) -> float:
    return float((G - reference).norm() / reference.norm())
