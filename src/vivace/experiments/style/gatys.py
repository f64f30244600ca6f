"""Experiment: a photograph in the style of a painting, and what of the usual story about it holds."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from scipy.stats import spearmanr
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.base.images import SHIPPED, read_image, reduce_to, resize
from vivace.base.parameters import ImagePath, OptionalImage, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.loss_network import Backbone, loss_network
from vivace.experiments.style.gram import shuffled_tiles
from vivace.style import Gaze, See, color_transfer, gatys, seeing, ssim, style_distance

QUICK = {"size": 128, "steps": 10, "study": 64, "study_steps": 16}

RATIOS = (0.1, 1.0, 10.0, 100.0, 1000.0)  # of the content's weight to the style's
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)  # of gradient descent, which is given the best of them
TURNS = 2 + len(RATIOS) + 3 + 2 + len(RATES) + 9  # times that the study goes through its steps
FRAMES, FRAME_SIDE = 40, 256  # of the film


@checked
def run(*, content: ImagePath = "astronaut", style: ImagePath = "swirls", second_style: OptionalImage = None,
        mix: Annotated[float, Ge(0), Le(1)] = 0.5, mask: OptionalImage = None,
        size: Annotated[int, Ge(64), Le(8192)] = 512, steps: Annotated[int, Ge(1), Le(5000)] = 60,
        content_weight: Annotated[float, Ge(0), Le(1e6)] = 0.2, style_weight: Annotated[float, Ge(0), Le(1e6)] = 1.0,
        smoothness: Annotated[float, Ge(0), Le(1e6)] = 0.1, colors: Literal["style", "content", "mixed"] = "style",
        init: Literal["content", "noise", "style"] = "content", optimizer: Literal["lbfgs", "adam", "gd"] = "lbfgs",
        tile: Annotated[int, Ge(64), Le(8192)] = 512,
        backbone: Backbone = "efficientnet-lite0", measure: bool = True,
        study: Annotated[int, Ge(64), Le(512)] = 128, study_steps: Annotated[int, Ge(10), Le(1000)] = 40,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """A photograph in the style of a painting.

    vivace run gatys        150 s on two cores at 512 pixels, half of it for the claims (--no-measure leaves them out)

    content: the picture whose things stay
    style: the picture whose strokes and colours are taken; swirls, stained_glass, waves and others are shipped
    second_style: another picture whose style comes, too: everywhere, or where the mask is black
    mix: how much the second style counts where both come
    mask: white where the style comes; where it is black the second style, or the content as it is
    size: the longer side of the result in pixels; smaller pictures stay as they are
    steps: evaluations of the loss at full size; each coarser size takes twice as many
    content_weight: how much the content counts
    style_weight: how much the style counts
    smoothness: how much differences between neighbouring pixels count (total variation)
    colors: whose colours the result has; mixed is the paper's way, to which both contribute
    init: what the picture starts from
    optimizer: L-BFGS, Adam or plain gradient descent
    tile: larger pictures are seen in tiles of this side; 1,024 x 1,024 pixels so take 4 GB
    backbone: the network that looks; vgg19 is the paper's and needs its published weights
    measure: also measure the claims, on small versions of the two pictures
    study: the longer side, in pixels, of those small versions
    study_steps: evaluations in each of those measurements
    seed: of the noise
    """
    model, gaze = loss_network(backbone)
    see = seeing(model, gaze)
    photo, painting = (reduce_to(read_image(path), size) for path in (content, style))
    paintings = [painting] if second_style is None else [painting, reduce_to(read_image(second_style), size)]
    masks = None if mask is None else _masks(mask, photo, len(paintings))
    shares = None if mask is not None or second_style is None else [1 - mix, mix]
    given = color_transfer(photo, painting) if colors == "style" else photo
    styles = [color_transfer(picture, photo) for picture in paintings] if colors == "content" else paintings
    watched = Watched(tell, later=TURNS * study_steps if measure else 0)
    result = gatys(see, given, styles, steps=steps, content_weight=content_weight, style_weight=style_weight,
                   mix=shares, masks=masks, smoothness=smoothness, init=init, optimizer=optimizer, tile=tile,
                   generator=torch.Generator().manual_seed(seed), tell=watched)  # fmt: skip
    if masks is not None:  # where no style comes, the photograph's own colours, too
        result = torch.lerp(photo, result, masks.amax(0))
    report = Report(
        "A photograph in the style of a painting",
        "The pixels themselves are the variables: they are changed until the network sees the content's features and "
        f"the style's Gram matrices in them, $L = \\alpha L_c + \\beta L_s$. Looked at by {backbone}.",
    )
    report.image("result", result, f"{photo.shape[-1]} x {photo.shape[-2]} pixels.")
    shown = {"content": photo} | dict(zip(("style", "second style"), paintings, strict=False))
    if masks is not None:
        shown["mask"] = masks[:1].expand(3, -1, -1)
    report.images("triple", {**shown, "result": result}, f"{len(shown)} pictures given, one made.")
    watched.tell_of(report, result)
    if measure:
        small = Study(see, reduce_to(photo, study), reduce_to(painting, study), study_steps, seed, watched.after)
        for claim in (small.losses_fall, small.weights_trade, small.layout, small.third_picture, small.optimizers):
            claim(report)
        small.layers(report, model, gaze)
    return report


def _masks(path: str | Path, photo: Tensor, styles: int) -> Tensor:
    """One mask for each style from one picture's light: white is the first style's, black the second's."""
    white = resize(read_image(path), (photo.shape[-2], photo.shape[-1])).mean(0).clamp(0, 1)
    if white.max() == 0 or (styles == 2 and white.min() == 1):
        raise InputError(f"the mask {path} has no {'white' if white.max() == 0 else 'black'}: no place for a style")
    return torch.stack([white, 1 - white][:styles])


class Watched:
    """The making of the picture: its losses, and what it looked like on the way."""

    def __init__(self, tell: Tell, *, later: int) -> None:
        self.tell, self.later, self.done = tell, later, 0
        self.curves: dict[str, list[float]] = {"content": [], "style": []}
        self.strip: dict[str, Tensor] = {}
        self.frames: list[Tensor] = []

    def __call__(self, step: Step) -> None:
        for name, values in self.curves.items():
            values.append(step.values[name])
        if step.image is not None and step.done in (1, step.total // 3, 2 * step.total // 3):
            self.strip[f"after {step.done} of {step.total}"] = step.image
        if step.image is not None and len(self.frames) * step.total < FRAMES * step.done:
            self.frames.append(reduce_to(step.image, FRAME_SIDE))
        self.done = step.total
        self.tell(replace(step, total=step.total + self.later))

    def after(self, step: Step) -> None:
        """What is told of the measurements that follow."""
        self.tell(replace(step, done=self.done + step.done, total=self.done + self.later))

    def tell_of(self, report: Report, result: Tensor) -> None:
        report.images("on_the_way", {**self.strip, "result": result}, "From coarse to fine.")
        last = self.frames[-1]
        film = [resize(frame, (last.shape[-2], last.shape[-1])) for frame in [*self.frames, *8 * [last]]]
        report.video("film", torch.stack(film), 10, "The picture while it is being made.")
        evaluations = range(1, len(self.curves["content"]) + 1)
        report.curve("losses", {name: (evaluations, values) for name, values in self.curves.items()}, x="evaluation",
                     y="error, relative to the target", log_y=True,
                     caption="Each jump is a change to a finer size.")  # fmt: skip


class Study:
    """The claims, measured on small pictures with one size only."""

    def __init__(self, see: See, content: Tensor, style: Tensor, steps: int, seed: int, tell: Tell) -> None:
        self.see, self.content, self.style, self.steps, self.seed, self.tell = see, content, style, steps, seed, tell
        self.done = 0  # evaluations so far

    def made(
        self, see: See | None = None, *, recolor: bool = True, **options: object
    ) -> tuple[Tensor, list[Mapping[str, float]]]:
        """A picture made with these options, and the losses on the way."""
        losses: list[Mapping[str, float]] = []

        def listen(step: Step) -> None:
            losses.append(step.values)
            self.done += 1
            self.tell(replace(step, done=self.done))

        generator = torch.Generator().manual_seed(self.seed)
        chosen = {"steps": self.steps, "coarsest": None, "generator": generator, **options}
        content = color_transfer(self.content, self.style) if recolor else self.content
        return gatys(see or self.see, content, self.style, tell=listen, **chosen), losses  # type: ignore[arg-type]

    def losses_fall(self, report: Report) -> None:
        _, losses = self.made(init="noise", content_weight=10.0)
        ratios = {name: losses[-1][name] / losses[0][name] for name in ("content", "style")}
        report.claim("6.1.c1", measured=max(ratios.values()), high=0.9,
                     detail=f"end over start from noise: content {ratios['content']:.2f}, style {ratios['style']:.2g}; "
                            "the larger")  # fmt: skip
        _, losses = self.made()
        report.claim("6.1.x1", measured=losses[-1]["content"] - losses[0]["content"], high=0,
                     detail="change of the content's error when the picture starts as the content itself")  # fmt: skip

    def weights_trade(self, report: Report) -> None:
        """The ratio of the weights, from style alone to content alone."""
        target = color_transfer(self.content, self.style)
        shown, likeness, distance = {}, [], []
        for ratio in RATIOS:
            picture, losses = self.made(content_weight=ratio)
            shown[f"alpha / beta = {ratio:g}"] = picture
            likeness.append(float(ssim(picture.mean(0)[None, None], target.mean(0)[None, None])))
            distance.append(losses[-1]["style"])
        report.images("ratios", shown, "The content's weight over the style's.")
        report.curve("trade", {"SSIM to the content": (RATIOS, likeness)}, x="alpha / beta", y="SSIM", log_x=True,
                     caption="The more the content counts, the more of it stays.")  # fmt: skip
        report.curve("trade_style", {"error of the style": (RATIOS, distance)}, x="alpha / beta",
                     y="style's error", log_x=True, log_y=True,
                     caption="And the less of the style comes.")  # fmt: skip
        order = [float(spearmanr(RATIOS, values).statistic) for values in (likeness, distance)]
        report.claim("6.1.c2", measured=min(order), low=0.8,
                     detail=f"rank correlation of alpha / beta with the SSIM to the content ({order[0]:.2f}) and the "
                            f"style's error ({order[1]:.2f}), {len(RATIOS)} ratios; the smaller")  # fmt: skip

    def layout(self, report: Report) -> None:
        """The style's error between a picture and itself in another order."""
        generator = torch.Generator().manual_seed(self.seed)
        size = min(self.style.shape[-2:]) // 32 * 32
        painting = resize(self.style, (size, size))
        photo = resize(self.content, (size, size))
        shown = {"style": painting, "tiles": shuffled_tiles(painting, 32, generator),
                 "pixels": shuffled_tiles(painting, 1, generator), "content": photo}  # fmt: skip
        with torch.no_grad():
            maps = {name: self.see(picture[None])[1] for name, picture in shown.items()}
        error = {name: float(style_distance(f, maps["style"], relative=True)) for name, f in maps.items()}
        report.images("layout", {f"{name}, {error[name]:.3f}": picture for name, picture in shown.items()},
                      "The style's error against the first.")  # fmt: skip
        report.claim("6.1.c3", measured=error["tiles"] / error["content"], high=0.25,
                     detail="error of the style with tiles of 32 pixels shuffled, over the content's")  # fmt: skip
        report.claim("6.1.x2", measured=error["pixels"] / error["content"], high=0.25,
                     detail="style's error of the style with its pixels shuffled, over the content's")  # fmt: skip

    def third_picture(self, report: Report) -> None:
        """What comes out is none of the pictures that go in."""
        shown = {}
        distances = []
        for init in ("content", "noise", "style"):
            picture, _ = self.made(init=init)
            shown[f"from {init}"] = picture
            given = (self.content, resize(self.style, (picture.shape[-2], picture.shape[-1])))
            if init != "style":  # from the style little changes: it has its own style already
                distances += [float((picture - other).square().mean().sqrt()) for other in given]
        report.images("starts", shown, "One pair of pictures, three starts.")
        report.claim("6.1.c5", measured=min(distances), high=0.01,
                     detail="smallest RMS distance of a result (from content, from noise) to one given")  # fmt: skip

    def optimizers(self, report: Report) -> None:
        """The same loss, the same number of evaluations."""
        runs = {"L-BFGS": self.made(optimizer="lbfgs"), "Adam": self.made(optimizer="adam")}
        descents = []
        for rate in RATES:
            with suppress(InputError):  # too large a step diverges
                descents.append(self.made(optimizer="gd", rate=rate))
        runs["gradient descent"] = min(descents, key=lambda run: run[1][-1]["loss"])
        lines = {name: (range(1, len(losses) + 1), [v["loss"] for v in losses]) for name, (_, losses) in runs.items()}
        report.curve("optimizers", lines, x="evaluation", y="loss", log_y=True,
                     caption=f"Gradient descent at the best of {len(RATES)} rates up to {RATES[-1]}.")  # fmt: skip
        report.images("optimizer_pictures", {name: picture for name, (picture, _) in runs.items()})
        start = lines["L-BFGS"][1][0]
        fallen = {name: (start - losses[-1]) / start for name, (_, losses) in lines.items()}
        words = ", ".join(f"{name} {share:.1%}" for name, share in fallen.items())
        report.claim("6.1.c6", measured=lines["gradient descent"][1][-1] / lines["L-BFGS"][1][-1], high=1.1,
                     detail=f"gradient descent's over L-BFGS's loss, {self.steps} turns; fall {words}")  # fmt: skip

    def layers(self, report: Report, model: nn.Module, gaze: Gaze) -> None:
        """The content alone, as each layer sees it: what comes back from noise."""
        shown, errors = {"content": self.content}, []
        for layer in (gaze.style[0], *gaze.content, gaze.style[-1]):
            see = seeing(model, Gaze(content=(layer,), style=gaze.style[:1], enlarge=gaze.enlarge, margin=gaze.margin))
            picture, _ = self.made(see, init="noise", style_weight=0.0, content_weight=1.0, recolor=False,
                                   smoothness=1.0, steps=3 * self.steps)  # fmt: skip
            shown[layer if isinstance(layer, str) else layer[-1]] = picture
            errors.append(float((picture - self.content).square().mean().sqrt()))
        report.images("layers", shown, "From noise, made to have the content's features at one layer.")
        deepest = _blurred(picture)
        others = {name: _blurred(resize(read_image(name, max_side=64), 64)) for name in SHIPPED}
        likeness = {name: _correlation(deepest, other) for name, other in others.items()}
        own = _correlation(deepest, _blurred(self.content))
        other = max(
            value
            for name, value in likeness.items()
            if not torch.allclose(others[name], _blurred(self.content), atol=0.1)
        )
        report.claim("6.1.c4", measured=own - other, low=0,
                     detail=f"correlation, at 16 x 16, of what the deepest layer gives back with its photo ({own:.2f}) "
                            f"less that with the likest shipped one ({other:.2f}); pixels {errors[-1]:.2f} off, "
                            f"the first layer's {errors[0]:.2f}")  # fmt: skip


def _blurred(picture: Tensor) -> Tensor:
    return resize(picture.mean(0, keepdim=True), (16, 16))


def _correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])
