"""Experiment: a network that learned a style stylises in one pass; what that costs, and what it is worth."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypedDict

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from vivace.base.cost import cost
from vivace.base.fit import Fitted
from vivace.base.images import crop_center, read_image, reduce_to, resize
from vivace.base.parameters import FilePath, FolderPath, ImagePath, RunFolder, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.base.training import Precision
from vivace.cnn import vgg16
from vivace.experiments.picture_folders import pictures_in
from vivace.experiments.stylizers import (
    SHIPPED_STYLES,
    STYLE_SIDE,
    errors,
    learned,
    new_net,
    perceptual_loss,
    photograph,
    photographs,
    reduced,
    stylizer,
    train_stylizer,
)
from vivace.experiments.timing import quickest
from vivace.experiments.training_flags import need_training
from vivace.style import FeedForward, color_transfer, gatys, one_pass
from vivace.style._goal import Goal

QUICK = {"size": 256, "study": 80, "study_steps": 20}

CONTENTS = ("astronaut", "chelsea", "coffee", "china")
ITERATIONS, WIDTH, SIDE = 500, 32, 256  # the paper's: section 4.1 and table 1
DEEPEST = 23  # layers of VGG-16 up to relu4_3, the last that the paper looks at
SEEDS = 3  # starts from noise
PAN, PAN_SIDE = 16, 256  # frames of the film that is made of a photograph, and the side that they are cut to


class _Options(TypedDict):
    """Weights of the loss's parts; the style's is 1."""

    content_weight: float
    smoothness: float


@checked
def run(*, content: ImagePath = "astronaut", style: ImagePath = "swirls",
        size: Annotated[int, Ge(64), Le(8192)] = 512, weights: FilePath = None, video: FolderPath = None,
        train_steps: Annotated[int, Ge(20), Le(1_000_000)] | None = None,
        start: Literal["shipped", "nothing"] = "shipped", data: FolderPath = None,
        crop: Annotated[int, Ge(64), Le(1024)] = 128, batch_size: Annotated[int, Ge(1), Le(256)] = 1,
        learning_rate: Annotated[float, Gt(0), Le(1)] = 2e-3, width: Annotated[int, Ge(1), Le(256)] = 16,
        content_weight: Annotated[float, Ge(0), Le(1e6)] = 1.0, smoothness: Annotated[float, Ge(0), Le(1e6)] = 0.1,
        precision: Precision = "32-true", measure: bool = True, study: Annotated[int, Ge(64), Le(512)] = 128,
        study_steps: Annotated[int, Ge(10), Le(1000)] = 60, seed: Seed = 0, folder: RunFolder = None,
        resume: FolderPath = None, tell: Tell = ignore) -> Report:  # fmt: skip
    """A style that was learned once, in a single pass.

    vivace run feed_forward        60 s on two cores, nearly all of it for the claims (--no-measure: 3 s)

    content: the picture whose things stay
    style: swirls and poppies are learned already; another picture needs --train-steps, or --weights
    size: the longer side of the result in pixels; smaller pictures stay as they are
    weights: a file of weights that a training left: to be used, or to be trained on
    video: a folder of frames, stylised one by one in the order of their names
    train_steps: learn the style first, in so many steps; 300 take about three minutes of one core
    start: what such a training starts from, where no weights are given: a shipped style's network, or nothing
    data: the folder of photographs to learn on; without it BSDS500's where VIVACE_DATA has them, or the shipped ones
    crop: the side of the squares that are cut from them
    batch_size: squares in one step
    learning_rate: the highest of the schedule, which rises over 50 steps and then falls along a cosine
    width: channels at full size of a network that is trained from nothing; 32 is the paper's
    content_weight: how much the content counts, against 1 for the style
    smoothness: how much differences between neighbouring pixels count (total variation)
    precision: the arithmetic of training
    measure: also measure the claims, on small versions of the pictures
    study: the longer side, in pixels, of those small versions
    study_steps: evaluations that the optimisation gets, with which the network is compared
    seed: of the weights, of the training's crops, and of the noise
    resume: the folder of a training that was stopped, to go on with it
    """
    need_training(train_steps, "--train-steps", data=data, resume=resume)
    photo, painting = reduce_to(read_image(content), size), read_image(style, max_side=STYLE_SIDE)
    options: _Options = {"content_weight": content_weight, "smoothness": smoothness}
    report = Report(
        "A style in a single pass",
        "A network $f$ learned one style: the pictures $f(x)$ that it makes have a small perceptual loss "
        "$L = \\alpha L_c + L_s$, as a frozen classifier sees it. All descending was done in training; what is left "
        "is one pass.",
    )
    if train_steps is None:
        net = stylizer(learned(style, weights))
    else:
        net = _trained(report, painting, weights or (SHIPPED_STYLES[0] if start == "shipped" else None), data,
                       _Settings(train_steps, crop, batch_size, learning_rate, width, precision, seed, options),
                       folder, resume, tell)  # fmt: skip
    made = one_pass(net, photo)
    report.image("result", made, f"{photo.shape[-1]} x {photo.shape[-2]} pixels, in one pass.")
    report.images("triple", {"content": photo, "style": painting, "result": made}, "Two pictures given, one made.")
    pictures = {name: reduce_to(read_image(name), min(size, 320)) for name in CONTENTS}
    report.images("others", {name: one_pass(net, picture) for name, picture in pictures.items()},
                  "The same network, other pictures.")  # fmt: skip
    if video is not None:
        report.video("video", _film(net, video, size, tell), caption="Each frame by itself.")
    if measure:
        study_of = Study(net, painting, str(style), options, study, study_steps, seed, tell)
        for claim in (study_of.one_pass, study_of.against_descent, study_of.speed, study_of.stable, study_of.steady,
                      study_of.one_style):  # fmt: skip
            claim(report)
    return report


@dataclass(frozen=True)
class _Settings:
    steps: int
    crop: int
    batch_size: int
    rate: float
    width: int
    precision: Precision
    seed: int
    options: _Options


def _trained(report: Report, painting: Tensor, start: str | Path | None, data: str | Path | None, settings: _Settings,
             folder: Path | None, resume: str | Path | None, tell: Tell) -> FeedForward:  # fmt: skip
    device = "cuda" if torch.cuda.is_available() else "cpu"
    photos = photographs(data)
    net = stylizer(start) if start else new_net(settings.width, seed=settings.seed)
    loss = perceptual_loss(painting, device=device, **settings.options)
    some = [photograph(path, side=settings.crop) for path in photographs(data, part="test")[:8]]
    held_out = [crop_center(photo, settings.crop).to(device) for photo in some]

    def evaluate(model: nn.Module) -> dict[str, float]:
        return dict(zip(("loss", "content", "style"), errors(model, loss, held_out), strict=True))

    fitted = train_stylizer(net, loss, photos, steps=settings.steps, side=settings.crop, evaluate=evaluate,
                            batch_size=settings.batch_size, rate=settings.rate, seed=settings.seed, device=device,
                            precision=settings.precision, folder=folder, resume=resume, tell=tell)  # fmt: skip
    _tell_training(report, fitted, len(photos), folder)
    return net


def _film(net: FeedForward, folder: str | Path, size: int, tell: Tell) -> Tensor:
    """A folder's pictures, stylised; all are brought to the first one's size."""
    paths = pictures_in(folder)
    frames: list[Tensor] = []
    for index, path in enumerate(paths):
        given = reduce_to(read_image(path), size)
        frames.append(one_pass(net, resize(given, (frames[0].shape[-2], frames[0].shape[-1])) if frames else given))
        tell(Step(index + 1, len(paths), "stylising frames"))
    return torch.stack(frames)


def _tell_training(report: Report, fitted: Fitted, count: int, folder: Path | None) -> None:
    steps = [row["step"] for row in fitted.history]
    report.curve("training", {name: (steps, [row[name] for row in fitted.history]) for name in ("content", "style")},
                 x="step", y="error, relative to the target", log_y=True,
                 caption=f"On eight photographs; it learned on {count}, in {fitted.seconds / 60:.1f} minutes on "
                         f"{fitted.device}.")  # fmt: skip
    if folder is not None:
        report.file("weights", folder / "weights.safetensors", "The network's weights, for `--weights`.")


class Study:
    """The claims, measured on small pictures."""

    def __init__(self, net: FeedForward, painting: Tensor, style: str, options: _Options, side: int,
                 steps: int, seed: int, tell: Tell) -> None:  # fmt: skip
        self.net, self.painting, self.style, self.options = net, painting, style, options
        self.side, self.steps, self.seed, self.tell = side, steps, seed, tell
        self.loss = perceptual_loss(painting, **options)
        self.pictures = reduced(CONTENTS, side)
        self.error = errors(net, self.loss, self.pictures)  # loss, content's, style's
        self.equal = 0.0  # iterations after which the optimisation is as good
        self.done, self.turns = 0, steps * len(CONTENTS) + (SEEDS + 2) * max(10, steps // 2)

    def descended(self, content: Tensor, **more: object) -> tuple[Tensor, list[float]]:
        """What Gatys' optimisation of the same loss makes of the picture, and the loss on the way."""
        losses: list[float] = []

        def listen(step: Step) -> None:
            losses.append(step.values["loss"])
            self.done += 1
            self.tell(Step(min(self.done, self.turns), self.turns, "optimising, to compare", step.values))

        chosen = {"steps": self.steps, "coarsest": None, **self.options, **more}
        shown = color_transfer(content, self.painting)
        return gatys(self.loss.see, shown, self.painting, tell=listen, **chosen), losses  # type: ignore[arg-type]

    def one_pass(self, report: Report) -> None:
        """Whether the style is there after one pass (c1), and twice the same (c3)."""
        colors = torch.nn.Identity()
        shown = [color_transfer(picture, self.painting) for picture in self.pictures]
        before = errors(colors, self.loss, shown)[2]
        report.claim("6.5.c1", self.error[2] / before, high=0.5,
                     detail=f"style's error after one pass, {self.error[2]:.3f}, over that of the pictures in the "
                            f"style's colours, {before:.3f}; mean of {len(shown)} photographs")  # fmt: skip
        difference = max(float((one_pass(self.net, x) - one_pass(self.net, x)).abs().max()) for x in self.pictures)
        report.claim("6.5.c3", difference, high=0, detail="largest difference of two passes of the same picture")

    def against_descent(self, report: Report) -> None:
        """Its loss against that of the pixels' own optimisation (c6)."""
        runs = [self.descended(picture) for picture in self.pictures]
        means = torch.tensor([[min(losses[:i]) for i in range(1, self.steps + 1)] for _, losses in runs]).mean(0)
        better = (means <= self.error[0]).nonzero()
        self.equal = float(better[0, 0]) + 1 if len(better) else float(self.steps)
        iterations = range(1, self.steps + 1)
        report.curve("against_descent", {"optimisation": (iterations, means.tolist()),
                                         "one pass": ((1, self.steps), (self.error[0],) * 2)},
                     x="iteration", y="loss", log_y=True,
                     caption=f"The optimisation is as good as the single pass after {self.equal:.0f} iterations; means "
                             f"of {len(runs)} photographs.")  # fmt: skip
        rows = {"photograph": self.pictures[0], "one pass": one_pass(self.net, self.pictures[0]),
                f"{self.steps} iterations": runs[0][0]}  # fmt: skip
        report.images("quality", rows, "The pass is not the optimum of its own loss; the optimisation comes nearer.")
        report.claim("6.5.c6", self.error[0] / float(means[-1]), low=1.05,
                     detail=f"loss of the single pass, {self.error[0]:.3f}, over the optimisation's after {self.steps} "
                            f"iterations, {float(means[-1]):.3f}; equal after {self.equal:.0f}")  # fmt: skip

    def speed(self, report: Report) -> None:
        """How much cheaper a pass is, for the paper's networks (c2) and for ours at equal quality (x1)."""
        seen, net = (cost(model, (3, SIDE, SIDE)).multiply_adds
                     for model in (vgg16().features[:DEEPEST], FeedForward(width=WIDTH)))  # fmt: skip
        paper = 2 * seen / net  # forward, and backward to the picture
        report.claim("6.5.c2", ITERATIONS * paper, low=1000 / 3, high=3000,
                     detail=f"multiply-adds of {ITERATIONS} iterations through VGG-16 to relu4_3, {2 * seen / 1e9:.1f} "
                            f"billion each, over the transformation net's {net / 1e9:.1f}; 256 pixels")  # fmt: skip
        side = 2 * self.side
        picture = crop_center(read_image("chelsea"), min(side, SIDE))
        goal = Goal(self.loss.see, picture[None], [self.painting[None]], center=True, whiten=0.5,
                    weights=(self.options["content_weight"], 1.0, self.options["smoothness"]))  # fmt: skip
        seconds = quickest([lambda: one_pass(self.net, picture), lambda: goal.gradient(picture[None])], rounds=2)
        ours = seconds[1] / seconds[0]
        rows = [("multiply-adds, VGG-16 and the paper's width 32", *(_times(n * paper) for n in (1, 100, 300, 500)))]
        rows.append((f"seconds here, Lite0 and width {self.net.width}, {picture.shape[-1]} pixels",
                     *(_times(n * ours) for n in (1, 100, 300, 500))))  # fmt: skip
        report.table("speed_up", ("", "1 iteration", "100", "300", "500"), rows,
                     f"How many passes are as dear as the optimisation. A pass takes {seconds[0]:.3f} s here, an "
                     f"iteration {seconds[1]:.3f} s; the optimisation is as good after {self.equal:.0f}.")  # fmt: skip
        report.claim("6.5.x1", self.equal * ours, low=1000 / 3, unit="times",
                     detail=f"{self.equal:.0f} iterations reach the same loss, each as long as {ours:.2g} passes; "
                            f"{1 / seconds[0]:.1f} pictures a second")  # fmt: skip

    def stable(self, report: Report) -> None:
        """How much the result depends on the start: none, in a pass (c4); nor in a descent from the content (x2)."""
        picture, steps = self.pictures[1], max(10, self.steps // 2)
        made = {}
        for kind in ("noise", "content"):
            starts = [torch.Generator().manual_seed(self.seed + i) for i in range(SEEDS if kind == "noise" else 2)]
            made[kind] = torch.stack([self.descended(picture, init=kind, steps=steps, generator=g)[0] for g in starts])
        spread = {kind: float(pictures.std(0).square().mean().sqrt()) for kind, pictures in made.items()}
        report.images("starts", {f"noise {i + 1}": x for i, x in enumerate(made["noise"])},
                      f"The optimisation from three starts, after {steps} iterations.")  # fmt: skip
        passes = torch.stack([one_pass(self.net, picture) for _ in range(SEEDS)])
        own = float(passes.std(0).square().mean().sqrt())
        report.claim("6.5.c4", spread["noise"] - own, low=0.01,
                     detail=f"deviation of pixels over {SEEDS} starts from noise, less the pass's")  # fmt: skip
        report.claim("6.5.x2", spread["content"] - own, low=0.01,
                     detail="the same over two runs of an optimisation that starts from the content")  # fmt: skip

    def steady(self, report: Report) -> None:
        """A pan over a photograph, frame by frame (x3): what moved by whole pixels, is it still the same?"""
        photo = reduce_to(read_image("china"), 2 * PAN_SIDE)
        side = min(PAN_SIDE, 2 * self.side)
        frames = torch.stack([one_pass(self.net, photo[:, 20 : 20 + side, x : x + side]) for x in range(PAN)])
        report.video("pan", frames, 12, "A photograph that slides by one pixel a frame, each frame stylised by itself.")
        off = {shift: _aligned(frames, shift) for shift in (1, 2, 4)}
        report.claim("6.5.x3", off[1], high=1 / 255,
                     detail="RMS between neighbouring frames, put on top of each other again (the photograph's is 0); "
                            + ", ".join(f"{rms:.3f} after {shift} pixels" for shift, rms in off.items()))  # fmt: skip

    def one_style(self, report: Report) -> None:
        """What the other style's network is worth for this style (c5)."""
        other = next(name for name in SHIPPED_STYLES if name != self.style)
        net = stylizer(other)
        error = errors(net, self.loss, self.pictures)[2]
        photo = self.pictures[0]
        shown = {"photograph": photo, "its own": one_pass(self.net, photo), other: one_pass(net, photo)}
        report.images("other_network", shown, "Two networks, two styles.")
        report.claim("6.5.c5", error / self.error[2], low=2,
                     detail=f"style's error of what the network for {other} makes, {error:.3f}, over that of the "
                            f"style's own, {self.error[2]:.3f}")  # fmt: skip


def _aligned(frames: Tensor, shift: int) -> float:
    """RMS between frames `shift` apart, moved back by as many pixels; the border, where networks pad, left out."""
    inside = 32
    earlier, later = frames[:-shift, ..., inside + shift : -inside], frames[shift:, ..., inside : -inside - shift]
    return float((earlier - later).square().mean().sqrt())


def _times(factor: float) -> str:
    return f"{factor:,.0f}" if factor >= 10 else f"{factor:.1f}"
