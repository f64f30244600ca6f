"""Experiment: more of a texture, by patches, pixels and statistics; tiles, backgrounds and mended holes from it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.images import heat_colors, middle_square, read_image, resize
from vivace.base.parameters import ImagePath, OptionalImage, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.loss_network import Backbone, loss_network
from vivace.experiments.texture_measures import autocorrelation, copied, patch_distances, seam
from vivace.style import (
    See,
    efros_leung,
    fill_hole,
    gatys,
    image_quilting,
    neural_texture,
    seeing,
    style_distance,
)

QUICK = {"exemplar": 64, "size": 96, "grown": 40, "window": 7, "steps": 8, "study": 64, "study_steps": 25}

SAMPLES = 5  # textures of which the seams are measured
PERIOD = 16  # pixels of the regular wall after which it repeats itself


@checked
def run(*, texture: ImagePath = "brick", exemplar: Annotated[int, Ge(32), Le(512)] = 128,
        size: Annotated[int, Ge(64), Le(2048)] = 256, seamless: bool = True,
        block: Annotated[int, Ge(4), Le(256)] | None = None, window: Annotated[int, Ge(3), Le(31)] = 11,
        grown: Annotated[int, Ge(32), Le(512)] = 96, steps: Annotated[int, Ge(1), Le(2000)] = 30,
        hole: OptionalImage = None, backbone: Backbone = "efficientnet-lite0", measure: bool = True,
        study: Annotated[int, Ge(64), Le(256)] = 96, study_steps: Annotated[int, Ge(10), Le(1000)] = 60,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """More of a texture: tiles, backgrounds and mended holes from one photograph of it.

    vivace run texture        70 s on two cores; quilting 256 x 256 takes 1 s of them (--no-measure: no claims)

    texture: a picture of the texture, of which the square in the middle is taken
    exemplar: the side in pixels that this square is reduced to
    size: the side of the textures that are made
    seamless: wrap the textures around, so that copies fit side by side
    block: the side of quilting's blocks, larger than the largest feature; a third of the exemplar's if not given
    window: the odd side of the surroundings that pixel-by-pixel sampling compares
    grown: the side of what is made pixel by pixel, from an exemplar of two thirds of it
    steps: evaluations of the network at full size; each coarser size takes twice as many
    hole: a picture, white where the exemplar has a hole to be mended, as large as the texture's; a square without it
    backbone: the network that looks; vgg19 is the paper's and needs its published weights
    measure: also measure the claims, on small textures
    study: the side in pixels of those small textures
    study_steps: evaluations in each of those measurements
    seed: of noise and draws
    """
    source = middle_square(read_image(texture), exemplar)
    if measure and float(source.std((1, 2)).max()) < 1e-3:
        raise InputError(f"{texture} is of one colour: there is nothing to measure on it; --no-measure leaves that out")
    model, gaze = loss_network(backbone)
    see = seeing(model, gaze)

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    report = Report(
        "More of a texture",
        "Three ways to make more of it. **Quilting** lays overlapping blocks of the exemplar and cuts them apart where "
        "the seam shows least; **Efros-Leung** copies pixel by pixel from where the surroundings look alike; **Gram "
        f"matching** changes noise until {backbone} finds the exemplar's statistics in it, $L = \\sum_l w_l "
        "\\lVert G_l - A_l \\rVert^2$, with no content term.",
    )
    completion = _mended(source, hole, window, generator())
    b = block or exemplar // 3
    quilted = image_quilting(source, (size, size), b, overlap=max(1, b // 4), seamless=seamless, generator=generator())
    small = min(exemplar, max(window + 1, round(grown / 1.5)))
    piece = source[:, :small, :small]
    sampled = efros_leung(piece, (grown, grown), window, generator=generator(), tell=tell)
    matched = neural_texture(
        see, source, (size, size), steps=steps, seamless=seamless, generator=generator(), tell=tell
    )
    report.images("three_ways", {"exemplar": source, "quilting": quilted, "Gram matching": matched,
                                 "piece of the exemplar": piece, "Efros-Leung": sampled},
                  "One exemplar, and what three methods make of it (Efros-Leung of a piece: it is slow).")  # fmt: skip
    _uses(report, source, {"quilting": quilted, "Gram matching": matched}, b, generator)
    report.images("completion", completion,
                  "Completion: the white part is grown in, pixel by pixel, from what is around it.")  # fmt: skip
    if measure:
        Study(see, resize(source, min(exemplar, 64)), study, study_steps, seed, tell).claims(report)
    return report


def _uses(report: Report, source: Tensor, made: Mapping[str, Tensor], block: int,
          generator: Callable[[], torch.Generator]) -> None:  # fmt: skip
    """A material that tiles, and a background."""
    tiles = {f"{name}, seam {seam(image, source):.2f}": image.repeat(1, 2, 2) for name, image in made.items()}
    report.images("material", tiles, "As a game's material: each texture laid 2 x 2. The seam: how far patches across "
                                     "the borders are from the exemplar's, over those inside; 1 can't be "
                                     "seen.")  # fmt: skip
    side = made["quilting"].shape[-1]
    wide = image_quilting(source, (side, 2 * side), block, overlap=max(1, block // 4), generator=generator())
    report.image("background", wide, f"A background of {2 * side} x {side} pixels, quilted.")


def _mended(source: Tensor, hole: str | Path | None, window: int, generator: torch.Generator) -> dict[str, Tensor]:
    """The exemplar with a hole, and with the hole grown in."""
    side = source.shape[-1]
    if hole is None:
        third = side // 3
        white = torch.zeros(side, side, dtype=torch.bool)
        white[third : third + third // 2 + 4, third : third + third // 2 + 4] = True
    else:
        white = middle_square(read_image(hole), side).mean(0) > 0.5
        if not white.any():
            raise InputError(f"{hole} has no white within its middle square: there is no hole to mend")
    mended = fill_hole(source, white, window, generator=generator)
    return {"with a hole": torch.where(white, 1.0, source), "completed": mended, "as it was": source}


class Study:
    """The claims, on small textures."""

    def __init__(self, see: See, exemplar: Tensor, side: int, steps: int, seed: int, tell: Tell) -> None:
        self.see, self.exemplar, self.side, self.steps, self.seed = see, exemplar, side, steps, seed
        self.tell, self.done = tell, 0

    def claims(self, report: Report) -> None:
        self.new_samples(report)
        self.transfer(report)
        self.regular(report)
        self.tiles(report)

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def listening(self, losses: list[float]) -> Tell:
        def listen(step: Step) -> None:
            losses.append(step.values["style"])
            self.done += 1
            self.tell(replace(step, done=self.done, total=3 * self.steps))

        return listen

    def matched(self, exemplar: Tensor) -> tuple[Tensor, list[float]]:
        """By Gram matching, at one size only, and the error on the way."""
        losses: list[float] = []
        made = neural_texture(self.see, exemplar, (self.side, self.side), steps=self.steps, coarsest=None,
                              generator=self.generator(), tell=self.listening(losses))  # fmt: skip
        return made, losses

    def quilted(self, exemplar: Tensor, *, seamless: bool = False, sample: int = 0) -> Tensor:
        b = exemplar.shape[-1] // 3
        return image_quilting(exemplar, (self.side, self.side), b, overlap=b // 4, seamless=seamless,
                              generator=torch.Generator().manual_seed(self.seed + sample))  # fmt: skip

    @torch.no_grad()
    def error(self, made: Tensor) -> float:
        """The style's error against the exemplar, relative to the exemplar's Grams."""
        return float(style_distance(self.see(made[None])[1], self.see(self.exemplar[None])[1], relative=True))

    def new_samples(self, report: Report) -> None:
        """Neither of the two methods should give back the exemplar; what each keeps differs."""
        matched, losses = self.matched(self.exemplar)
        quilted = self.quilted(self.exemplar)
        self.losses = losses
        made = {"Gram matching": matched, "quilting": quilted}
        far = {name: patch_distances(image, self.exemplar) for name, image in made.items()}
        error = {name: self.error(image) for name, image in made.items()}
        shown = {f"{name}: {copied(far[name]):.0%} copied, {float(far[name].mean()):.2f} off": image
                 for name, image in made.items()}  # fmt: skip
        maps = {f"distances, {name}": heat_colors(d.clamp(0, 1)) for name, d in far.items()}
        report.images("local_consistency", {**shown, **maps},
                      "Below, for each place, how far its 7 x 7 patch is from the nearest in the exemplar (blue 0, red "
                      "as much as the exemplar varies): quilting is off at its seams only.", columns=2)  # fmt: skip
        fallen = losses[-1] / losses[0]
        share = copied(far["Gram matching"])
        report.claim("6.4.c1", measured=max(fallen, share), high=0.2,
                     detail=f"error of the Grams left of noise's ({fallen:.2g}), and share of copied patches "
                            f"({share:.2g}; quilting {copied(far['quilting']):.2f}); the larger")  # fmt: skip
        report.claim("6.4.c2", measured=fallen, high=0.1,
                     detail=f"error of the Grams after {self.steps} evaluations over that of the noise at the start, "
                            "without a content term")  # fmt: skip
        means = {name: float(d.mean()) for name, d in far.items()}
        report.claim("6.4.c5", measured=means["quilting"] / means["Gram matching"], high=0.5,
                     detail=f"mean distance of patches to the exemplar's nearest, quilting's ({means['quilting']:.3f}) "
                            f"over Gram matching's ({means['Gram matching']:.3f})")  # fmt: skip
        report.claim("6.4.x2", measured=error["quilting"] / error["Gram matching"], high=1,
                     detail=f"error of the Grams, quilting's ({error['quilting']:.2g}) over Gram matching's "
                            f"({error['Gram matching']:.2g})")  # fmt: skip

    def transfer(self, report: Report) -> None:
        """The same style, from the same noise, with a content to keep."""
        losses: list[float] = []
        content = middle_square(read_image("astronaut"), self.side)
        lifted = gatys(self.see, content, self.exemplar, steps=self.steps, content_weight=0.2, center=False, whiten=0.0,
                       smoothness=0.0, coarsest=None, init="noise", generator=self.generator(),
                       tell=self.listening(losses))  # fmt: skip
        evaluations = range(1, self.steps + 1)
        lines = {"texture": (evaluations, self.losses), "style transfer": (evaluations, losses)}
        report.curve("against_transfer", lines, x="evaluation", y="error of the Grams", log_y=True,
                     caption="The same exemplar from noise, alone and with a content to keep.")  # fmt: skip
        report.images("transfer", {"content": content, "style transfer, from noise": lifted},
                      "The content holds the Grams back: their error stays higher.")  # fmt: skip
        report.claim(
            "6.4.c3",
            measured=self.losses[-1] / losses[-1],
            high=0.5,
            detail=f"error of the Grams after {self.steps} evaluations, texture's over style transfer's",
        )
        last = [_settled(line) for line in (self.losses, losses)]
        report.claim("6.4.x1", measured=last[0] / last[1], high=0.9,
                     detail=f"evaluations until the error is less than 1.5 times the last: texture {last[0]}, transfer "
                            f"{last[1]}; their ratio")  # fmt: skip

    def regular(self, report: Report) -> None:
        """A wall in which every brick is like the other: what comes again after three periods and more?"""
        exemplar = wall(64)
        made = {"exemplar": exemplar, "quilting": self.quilted(exemplar), "Gram matching": self.matched(exemplar)[0]}
        peaks = {name: _far_peaks(image) for name, image in made.items()}
        report.images("regular", {f"{name}: {peaks[name]:.2f}": image for name, image in made.items()},
                      "The numbers: correlation with itself, moved by two periods in any direction.")  # fmt: skip
        report.claim("6.4.c4", measured=peaks["Gram matching"], low=0.5,
                     detail=f"autocorrelation of Gram matching's wall at two periods' distance; the exemplar's is "
                            f"{peaks['exemplar']:.2f}")  # fmt: skip
        report.claim("6.4.x3", measured=peaks["quilting"], low=0.5,
                     detail="autocorrelation of the quilted wall at two periods' distance")  # fmt: skip

    def tiles(self, report: Report) -> None:
        """Whether copies fit side by side, if blocks lie around the borders, too."""
        wrapped, cut = (
            sum(seam(self.quilted(self.exemplar, seamless=wrap, sample=i), self.exemplar) for i in range(SAMPLES))
            / SAMPLES
            for wrap in (True, False)
        )
        report.claim("6.4.x4", measured=wrapped / cut, high=0.75,
                     detail=f"distance to the exemplar of patches across the borders, over those inside: {wrapped:.2f} "
                            f"if blocks wrap around, {cut:.2f} if not; {SAMPLES} textures each")  # fmt: skip


def wall(side: int) -> Tensor:
    """Bricks of 16 x 8 pixels in running bond, light mortar between them."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    row = y // (PERIOD // 2)
    mortar = (y % (PERIOD // 2) < 2) | ((x + row * PERIOD // 2) % PERIOD < 2)
    colors = torch.tensor([[0.62, 0.28, 0.2], [0.85, 0.83, 0.78]])
    return colors[mortar.long()].permute(2, 0, 1).contiguous()


def _far_peaks(image: Tensor) -> float:
    """The mean of the autocorrelation's peaks two periods down and right, each within two pixels of its place."""
    r = autocorrelation(image)
    far = 2 * PERIOD
    return float((r[far - 2 : far + 3, :3].max() + r[:3, far - 2 : far + 3].max()) / 2)


def _settled(losses: list[float]) -> int:
    """Evaluations until the error stays below 1.5 times the last."""
    above = [i for i, loss in enumerate(losses) if loss > 1.5 * losses[-1]]
    return above[-1] + 2 if above else 1
