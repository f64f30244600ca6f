"""Experiment: a texture from one layer at a time, from coarse to fine, and with layers weighted up and down."""

from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge, Le
from scipy.stats import spearmanr
from torch import Tensor

from vivace.base.drawing import PALETTE, drawing
from vivace.base.images import middle_square, read_image, resize
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.loss_network import Backbone, loss_network
from vivace.experiments.standard_error import two_standard_errors
from vivace.experiments.texture_measures import mean_frequency, spectrum, structure_size
from vivace.style import See, neural_texture, seeing, style_distance

QUICK = {"exemplar": 64, "size": 64, "steps": 10, "seeds": 2}

WEIGHTS = (1.0, 0.8, 0.5, 0.3)  # from shallow to deep, as they are taught
DEPTHS = {"efficientnet-lite0": (0, 2, 4, 6), "vgg19": (0, 1, 2, 3)}  # VGG: conv1_1, conv2_1, conv3_1, conv4_1

Path = tuple[Tensor, list[tuple[int, float]]]  # a texture, and on its way the pixels evaluated so far with the error


@checked
def run(*, texture: ImagePath = "mosaic", exemplar: Annotated[int, Ge(64), Le(512)] = 128,
        size: Annotated[int, Ge(64), Le(1024)] = 128, steps: Annotated[int, Ge(10), Le(2000)] = 30,
        coarsest: Annotated[int, Ge(32), Le(512)] = 32, seeds: Annotated[int, Ge(2), Le(20)] = 3,
        backbone: Backbone = "efficientnet-lite0", seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """A texture from one layer at a time, from coarse to fine, and with layers weighted up and down.

    vivace run multiscale_texture        3 min on two cores; from coarse to fine: larger structures for the same work

    texture: a picture of the texture, of which the square in the middle is taken
    exemplar: the side in pixels that this square is reduced to
    size: the side of the textures that are made
    steps: evaluations of the loss at full size; each coarser size takes twice as many
    coarsest: the side of the coarsest texture
    seeds: textures made for each number
    backbone: the network that looks; vgg19 is the paper's and needs its published weights
    seed: of the first noise
    """
    study = Study(texture, exemplar, size, steps, coarsest, backbone, seed, seeds, tell)
    report = Report(
        "A texture at several scales",
        f"Grams of four layers of {backbone}, from shallow to deep; each layer's error is relative to its own "
        f"Gram's size, so that a weight means the same at every depth. Made from noise; {seeds} seeds for each number.",
    )
    study.one_layer(report)
    study.weights(report)
    study.coarse_to_fine(report)
    return report


class Study:
    def __init__(self, texture: object, exemplar: int, size: int, steps: int, coarsest: int, backbone: Backbone,
                 seed: int, seeds: int, tell: Tell) -> None:  # fmt: skip
        model, gaze = loss_network(backbone)
        gaze = replace(gaze, style=tuple(gaze.style[i] for i in DEPTHS[backbone]))
        self.names = [layer if isinstance(layer, str) else layer[1] for layer in gaze.style]
        self.exemplar = middle_square(read_image(texture), exemplar)  # type: ignore[arg-type]
        self.see = seeing(model, replace(gaze, content=gaze.style[:1]))  # the content has no weight
        self.alone = [seeing(model, replace(gaze, content=(layer,), style=(layer,))) for layer in gaze.style]
        self.size, self.steps, self.coarsest = size, steps, coarsest
        self.seed, self.seeds, self.tell = seed, seeds, tell
        self.done = 0

    def made(self, weights: tuple[float, ...], seed: int, *, see: See | None = None,
             exemplar: Tensor | None = None, coarsest: int | None = None,
             steps: int | None = None) -> Path:  # fmt: skip
        """A texture, and on the way the pixels evaluated so far with the error."""
        path: list[tuple[int, float]] = []

        def listen(step: Step) -> None:
            assert step.image is not None
            path.append(((path[-1][0] if path else 0) + step.image[0].numel(), step.values["style"]))
            self.done += 1
            self.tell(Step(self.done, max(self.done, 15 * self.seeds * self.steps), step.text, step.values, step.image))

        size = (self.size, self.size)
        texture = neural_texture(see or self.see, self.exemplar if exemplar is None else exemplar, size,
                                 steps=steps or self.steps, coarsest=coarsest, tell=listen,
                                 layer_weights=(*weights, 0.5),
                                 generator=torch.Generator().manual_seed(self.seed + seed))  # fmt: skip
        return texture, path

    def one_layer(self, report: Report) -> None:
        """Each layer alone (with the colours)."""
        made = {
            name: [self.made((1.0,), s, see=see)[0] for s in range(self.seeds)]
            for name, see in zip(self.names, self.alone, strict=True)
        }
        frequencies = [[mean_frequency(image) for image in images] for images in made.values()]
        means = [sum(row) / self.seeds for row in frequencies]
        shown = {f"{name}: {f:.3f}": images[0] for (name, images), f in zip(made.items(), means, strict=True)}
        report.images("one_layer", {f"exemplar: {mean_frequency(self.exemplar):.3f}": self.exemplar, **shown},
                      "From one layer's Gram alone, shallow to deep; mean frequency in cycles a pixel.")  # fmt: skip
        figure, axes = drawing()
        pictures = {"exemplar": self.exemplar, **{name: images[0] for name, images in made.items()}}
        for (name, image), color in zip(pictures.items(), PALETTE, strict=False):
            axes.loglog(*spectrum(image), color=color, label=name)
        axes.set(xlabel="frequency (cycles a pixel)", ylabel="power")
        axes.legend()
        report.figure("spectra", figure, "What each layer alone leaves of the exemplar's spectrum: a deep one "
                                         "doesn't see that fine noise is left.")  # fmt: skip
        order = spearmanr(range(len(means)), means).statistic
        spread = max(max(row) - min(row) for row in frequencies)
        words = ", ".join(f"{name} {f:.3f}" for name, f in zip(self.names, means, strict=True))
        report.claim("6.6.c1", measured=order, high=-0.7,
                     detail=f"rank correlation of depth with the mean frequency ({words}; exemplar "
                            f"{mean_frequency(self.exemplar):.3f}; seeds differ by {spread:.3f} at most)")  # fmt: skip

    def weights(self, report: Report) -> None:
        """The taught weights, and the other way round."""
        rows = {"shallow first": WEIGHTS, "deep first": WEIGHTS[::-1]}
        made = {name: [self.made(w, s)[0] for s in range(self.seeds)] for name, w in rows.items()}
        errors = {name: [self.errors(image) for image in images] for name, images in made.items()}
        report.images("weights", {f"{name}: {' / '.join(map(str, w))}": made[name][0] for name, w in rows.items()},
                      "The same noise and layers, weights from shallow to deep.")  # fmt: skip
        shift = [[float(torch.log(d[i] / s[i])) for s, d in zip(*errors.values(), strict=True)] for i in (0, -1)]
        change = [sum(row) / self.seeds for row in shift]
        report.table("weights_errors", ["weights", *self.names],
                     [[name, *(f"{sum(float(e[i]) for e in es) / self.seeds:.2g}" for i in range(len(self.names)))]
                      for name, es in errors.items()],
                     "What is left of each layer's error: smaller where the weight is larger.")  # fmt: skip
        report.claim("6.6.c3", measured=change[0] - change[1], low=0.1,
                     detail=f"log of the error with weights reversed over that with {WEIGHTS}: first layer "
                            f"{change[0]:+.2f}, deepest {change[1]:+.2f}; their difference")  # fmt: skip
        f = {name: sum(mean_frequency(image) for image in images) / self.seeds for name, images in made.items()}
        report.claim("6.6.x1", measured=f["shallow first"] / f["deep first"], low=1.1,
                     detail=f"mean frequency, shallow layers first ({f['shallow first']:.3f}) over deep first "
                            f"({f['deep first']:.3f})")  # fmt: skip

    def pair(self, seed: int, exemplar: Tensor | None = None) -> tuple[Path, Path, float]:
        """Coarse to fine and full size only, for the same pixels evaluated; and the share that reaches the same."""
        equal = (1.0,) * len(self.names)
        pyramid = self.made(equal, seed, exemplar=exemplar, coarsest=self.coarsest)
        pixels = pyramid[1][-1][0]
        fine = self.made(equal, seed, exemplar=exemplar, steps=round(pixels / self.size**2))
        reached = [at for at, error in pyramid[1][-self.steps :] if error <= fine[1][-1][1]]
        return pyramid, fine, (reached[0] if reached else 2 * pixels) / fine[1][-1][0]

    def coarse_to_fine(self, report: Report) -> None:
        """The same pixels evaluated at full size only, and from coarse to fine."""
        fine, pyramid, shares = [], [], []
        for s in range(self.seeds):
            with_pyramid, without, share = self.pair(s)
            pyramid.append(with_pyramid)
            fine.append(without)
            shares.append(share)
        ratio = [structure_size(p[0]) / structure_size(f[0]) for p, f in zip(pyramid, fine, strict=True)]
        report.images("coarse_to_fine", {"exemplar": self.exemplar, "full size only": fine[0][0],
                                         "coarse to fine": pyramid[0][0]},
                      "The same noise, layers and number of pixels evaluated.")  # fmt: skip
        lines = {name: ([p for p, _ in path], [e for _, e in path])
                 for name, path in (("full size only", fine[0][1]), ("coarse to fine", pyramid[0][1]))}  # fmt: skip
        report.curve("work", lines, x="pixels evaluated", y="error of the Grams at the size of the moment", log_y=True,
                     caption="Each jump is a change to a finer size, with its own targets.")  # fmt: skip
        report.claim("6.6.c2", measured=sum(ratio) / self.seeds, low=1.05, spread=two_standard_errors(ratio),
                     detail="size of the structures (autocorrelation 1/e), coarse to fine over full size only; "
                            f"exemplar's {structure_size(self.exemplar):.1f} pixels")  # fmt: skip
        report.claim("6.6.c4", measured=sum(shares) / self.seeds, high=1, spread=two_standard_errors(shares),
                     detail="pixels evaluated by coarse to fine until its full-size error is what full size alone ends "
                            "with, over what that took (2 where never)")  # fmt: skip

        *_, share = self.pair(0, middle_square(read_image("gravel"), self.exemplar.shape[-1]))
        report.claim("6.6.x3", measured=share, high=1,
                     detail="the same for gravel, whose structures are small already; one seed")  # fmt: skip
        self.scales(report, [p[0] for p in pyramid], [f[0] for f in fine])

    def scales(self, report: Report, pyramid: list[Tensor], fine: list[Tensor]) -> None:
        """Scale consistency: seen from twice as far, is the texture still the exemplar's?"""
        at = {"as made": self.size, "at half size": self.size // 2}
        found = {name: [[float(self.errors(x, side / self.size).mean()) for x in made] for side in at.values()]
                 for name, made in (("full size only", fine), ("coarse to fine", pyramid))}  # fmt: skip
        report.table("scales", ["error of the Grams", *at],
                     [[name, *(f"{sum(row) / self.seeds:.2g}" for row in rows)] for name, rows in found.items()],
                     "Both the texture and the exemplar seen as made and at half size.")  # fmt: skip
        far = [p / f for p, f in zip(found["coarse to fine"][1], found["full size only"][1], strict=True)]
        report.claim("6.6.x2", measured=sum(far) / self.seeds, high=0.8, spread=two_standard_errors(far),
                     detail="error of the Grams seen at half size, coarse to fine over full size only")  # fmt: skip

    @torch.no_grad()
    def errors(self, image: Tensor, scale: float = 1.0) -> Tensor:
        """Each layer's error, relative to the exemplar's Gram; both reduced by the scale."""
        seen = [self.see(resize(x, round(scale * x.shape[-1]))[None])[1][:-1] for x in (image, self.exemplar)]
        pairs = zip(*seen, strict=True)
        return torch.cat([style_distance([f], [a], relative=True) for f, a in pairs])
