"""Experiment: any style in one pass, by adaptive instance normalisation; how well it is met, and at what cost."""

import time
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor

from vivace.base.drawing import drawing
from vivace.base.images import read_image, reduce_to, resize
from vivace.base.parameters import FilePath, FolderPath, ImagePath, RunFolder, Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Step, Tell, ignore
from vivace.base.training import Precision
from vivace.experiments.loss_network import loss_network
from vivace.experiments.one_pass import (
    CHANNELS,
    Task,
    adain_decoder,
    encoder,
    judged,
    learned,
    style_error,
    training_table,
)
from vivace.experiments.style_pictures import HELD_OUT, SHOWN, TAUGHT, painted
from vivace.experiments.training_flags import need_training
from vivace.style import LITE0, StyleDecoder, adain_maps, color_transfer, feature_statistics, gatys, seeing, stylize
from vivace.style.adain import Encode
from vivace.style.gatys import MIN_SIDE

QUICK = {"size": 128, "study": 96, "evaluations": 2}

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
SMALL = 320  # the longer side of pictures in rows
FULL = 60  # evaluations of Gatys' loss that a picture takes by default
STROKES = {"content": 0.1, "style": 1.0, "smoothness": 1.5, "fringes": 30.0}  # weights of the losses


@checked
def run(*, content: ImagePath = "china", style: ImagePath = "stained_glass", second: ImagePath = "swirls",
        alpha: Annotated[float, Ge(0), Le(1)] = 1.0, size: Annotated[int, Ge(64), Le(4096)] = 512,
        study: Annotated[int, Ge(64), Le(512)] = 256, evaluations: Annotated[int, Ge(2), Le(1000)] = 20,
        weights: FilePath = None, train_steps: Annotated[int, Ge(0), Le(1_000_000)] = 0,
        batch_size: Annotated[int, Ge(1), Le(256)] = 2, rate: Annotated[float, Ge(1e-6), Le(1)] = 3e-3,
        data: FolderPath = None, styles: FolderPath = None, devices: Annotated[int, Ge(1), Le(64)] = 1,
        precision: Precision = "32-true", seed: Seed = 0, folder: RunFolder = None, resume: FolderPath = None,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """A photograph in any picture's style, in one pass (AdaIN).

    vivace run adain        40 s on two cores; maps meet the style's statistics, the picture to a fifth

    content: the picture whose things stay
    style: the picture whose colours and strokes are taken: any, the network needn't have learned from it
    second: another, to be mixed with the first
    alpha: how much of the style is taken
    size: the longer side of the results in pixels; smaller pictures stay as they are
    study: the longer side of the pictures that claims are measured on
    evaluations: how many of Gatys' optimisation are timed, for comparison
    weights: a decoder that was trained before, in place of the shipped one; to be trained on, with train_steps
    train_steps: train a decoder for so many steps (1,000 take about 7 CPU minutes) and use it
    batch_size: photographs, and styles, in a step of training; each is seen in two styles
    rate: the highest learning rate of training
    data: a folder of photographs to train on; BSDS500's, if they are at hand, or the shipped ones, without it
    styles: a folder of pictures whose styles are learned; paintings by formula without it
    devices: processes or GPUs that train together
    precision: the arithmetic of training
    seed: of training
    resume: the folder of a training that was stopped, to go on with it
    """
    need_training(train_steps, "--train-steps", data=data, styles=styles, resume=resume)
    judge = loss_network()[0]
    encode = encoder(judge)
    report = Report(
        "Any style in one pass",
        "An encoder's maps of the content get the style's mean and deviation, channel by channel: "
        "$\\mathrm{AdaIN}(x, y) = \\sigma(y)\\,(x - \\mu(x)) / \\sigma(x) + \\mu(y)$. A decoder, trained once on many "
        "styles, paints a picture from them. No style needs a network of its own.",
    )
    if train_steps:
        with seeded(seed):
            decoder = adain_decoder(weights) if weights else StyleDecoder(CHANNELS)
        task = Task(judge, lambda net, c, s: net(adain_maps(c, s)), **STROKES)
        fitted = learned(decoder, task, train_steps, data=data, styles=styles, batch_size=batch_size, rate=rate,
                         seed=seed, precision=precision, devices=devices, folder=folder, resume=resume,
                         tell=tell)  # fmt: skip
        training_table(report, fitted)
    else:
        decoder = adain_decoder(weights)
    photo, shelf = read_image(content, max_side=size), painted(size)
    paintings = [
        shelf[str(path)] if str(path) in shelf else read_image(path, max_side=size) for path in (style, second)
    ]
    with torch.no_grad():
        _pictures(report, encode, decoder, photo, paintings, shelf, alpha)
        lab = Lab(encode, decoder, judge, study, shelf, tell)
        lab.statistics(report, photo, paintings[0])
        lab.unseen(report)
    lab.cost(report, photo, paintings[0], evaluations)
    return report


def _pictures(report: Report, encode: Encode, decoder: StyleDecoder, photo: Tensor, paintings: list[Tensor],
              shelf: dict[str, Tensor], alpha: float) -> None:  # fmt: skip
    """What a user wants to see."""
    style, second = paintings
    began = time.perf_counter()
    result = stylize(encode, decoder, photo, style, alpha=alpha)
    took = time.perf_counter() - began
    report.image("result", result, f"{photo.shape[-1]} x {photo.shape[-2]} pixels in one pass: {took:.1f} s here.")
    report.images("triple", {"content": photo, "style": style, "result": result}, "Two pictures given, one made.")
    small, little, other = (reduce_to(picture, SMALL) for picture in (photo, style, second))
    report.images("alpha", {f"alpha = {a:g}": stylize(encode, decoder, small, little, alpha=a) for a in ALPHAS},
                  "The strength is chosen when the picture is made, not in training: the maps are "
                  "$(1 - \\alpha) f + \\alpha\\, \\mathrm{AdaIN}(f, s)$.", columns=5)  # fmt: skip
    mixes = {f"{1 - b:.0%} first, {b:.0%} second": stylize(encode, decoder, small, [little, other], weights=[1 - b, b])
             for b in ALPHAS}  # fmt: skip
    report.images("between", mixes, "Between two styles: a weighted mean of the maps.", columns=5)
    right = torch.linspace(-6, 6, small.shape[-1]).sigmoid().expand(small.shape[-2:])
    halves = stylize(encode, decoder, small, [little, other], weights=torch.stack([1 - right, right]))
    report.images("masks", {"first": little, "second": other, "first left, second right": halves},
                  "A weight may be a mask: each style in its own region.")  # fmt: skip
    shown = {name: stylize(encode, decoder, small, reduce_to(picture, SMALL)) for name, picture in shelf.items()}
    report.images("styles", {"content": small} | shown, "The same network throughout; of "
                  f"{' and '.join(HELD_OUT)} it never saw a picture in training.", columns=3)  # fmt: skip


class Lab:
    """The claims, on photographs that the decoder never saw."""

    def __init__(self, encode: Encode, decoder: StyleDecoder, judge: torch.nn.Module, side: int,
                 shelf: dict[str, Tensor], tell: Tell) -> None:  # fmt: skip
        self.encode, self.decoder, self.judge, self.side, self.tell = encode, decoder, judge, side, tell
        self.shelf = {name: reduce_to(picture, side) for name, picture in shelf.items()}

    def statistics(self, report: Report, photo: Tensor, style: Tensor) -> None:
        """Means and deviations before the decoder, where AdaIN sets them, and after it."""
        photo, style = (reduce_to(picture, self.side) for picture in (photo, style))
        worst = 0.0
        for name in ("coffee", "chelsea", None):
            picture = photo if name is None else read_image(name, max_side=self.side)
            f, s = (self.encode(image[None]) for image in (picture, style))
            for made, wanted in zip(adain_maps(f, s)[1:], s[1:], strict=True):
                worst = max(worst, _apart(made, wanted))
        report.claim("6.7.c2", measured=worst, high=1e-3,
                     detail="largest error of a channel's mean or deviation after AdaIN, over the style's deviation; "
                            "2 depths, 384 channels, 3 photographs")  # fmt: skip
        result = stylize(self.encode, self.decoder, photo, style)
        deepest = [self.encode(image[None])[-1] for image in (photo, style, result)]
        made = adain_maps(self.encode(photo[None]), self.encode(style[None]))[-1]
        _scatter(report, deepest[1], {"content": deepest[0], "after AdaIN": made, "picture painted": deepest[2]})

    def unseen(self, report: Report) -> None:
        """How much of the way to a style is left, for styles of the training and others."""
        shares: dict[str, list[float]] = {}
        rows: list[tuple[str, ...]] = []
        photos = {name: read_image(name, max_side=self.side) for name in SHOWN}
        own = {name: judged(self.judge, photo[None]) for name, photo in photos.items()}
        for painter, style in self.shelf.items():
            wanted = judged(self.judge, style[None])
            for name, photo in photos.items():
                self.tell(Step(len(rows), len(SHOWN) * len(self.shelf), "measuring styles"))
                made = judged(self.judge, stylize(self.encode, self.decoder, photo, style)[None])
                reached, before = (float(style_error(maps, wanted)) for maps in (made, own[name]))
                shares.setdefault(painter, []).append(reached / before)
                rows.append((name, painter, "no" if painter in HELD_OUT else "yes", f"{before:.3f}", f"{reached:.3f}",
                             f"{reached / before:.0%}"))  # fmt: skip
        report.table("reached", ("content", "style", "in training", "error of the style before", "after", "left"), rows,
                     "How far the picture's means and deviations (nine depths) are from the style's.")  # fmt: skip
        every = np.array([shares[painter] for painter in (*TAUGHT, *HELD_OUT)])
        report.claim("6.7.x1", measured=float(every.mean()), high=0.05, spread=float(every.std() / every.size**0.5),
                     detail="error of the painted pictures' statistics over that of the contents: mean of "
                            f"{every.size} pairs")  # fmt: skip
        taught, held = every[: len(TAUGHT)].mean(), every[len(TAUGHT) :].mean()
        report.claim("6.7.x2", measured=float(every[len(TAUGHT) :].max()), high=0.8,
                     detail=f"the largest share left of {2 * len(SHOWN)} pairs with painters that training never saw; "
                            f"mean {held:.0%}, of those that it saw {taught:.0%}")  # fmt: skip

    def cost(self, report: Report, photo: Tensor, style: Tensor, evaluations: int) -> None:
        """One pass against Gatys' optimisation: processor time, and what both reach."""
        photo, style = (reduce_to(picture, self.side) for picture in (photo, style))
        photo, style = (resize(picture, MIN_SIDE) if min(picture.shape[-2:]) < MIN_SIDE
                        else picture for picture in (photo, style))  # fmt: skip
        with torch.no_grad():
            began = time.process_time()
            mine = stylize(self.encode, self.decoder, photo, style)
            once = time.process_time() - began
        ticks: list[float] = []

        def listen(step: Step) -> None:
            ticks.append(time.process_time())
            self.tell(replace(step, text="Gatys, for comparison"))

        theirs = gatys(seeing(self.judge, LITE0), color_transfer(photo, style), style, steps=evaluations, tell=listen)
        long = FULL * float(np.median(np.diff(ticks[-evaluations:])))
        with torch.no_grad():
            maps = judged(self.judge, style[None])
            errors = {name: float(style_error(judged(self.judge, image[None]), maps))
                      for name, image in (("content", photo), ("AdaIN", mine), ("Gatys", theirs))}  # fmt: skip
        report.images("against_gatys", {f"{name}: {errors[name]:.3f}": image for name, image in
                                        (("content", photo), ("AdaIN", mine), ("Gatys", theirs))},
                      f"With the error of the style's means and deviations. Gatys after {evaluations} evaluations at "
                      "full size.")  # fmt: skip
        report.claim("6.7.x3", measured=long / once, low=20,
                     detail=f"processor seconds of {FULL} evaluations of Gatys' loss at full size ({long:.1f}) over "
                            f"those of one pass ({once:.2f})")  # fmt: skip


def _apart(features: Tensor, style: Tensor) -> float:
    """The largest error of a channel's mean or deviation, over the style's deviation."""
    (mean, deviation), (to_mean, to_deviation) = feature_statistics(features), feature_statistics(style)
    errors = torch.stack([mean - to_mean, deviation - to_deviation]).abs() / to_deviation
    return float(errors.max())


def _scatter(report: Report, style: Tensor, others: dict[str, Tensor]) -> None:
    figure, axes = drawing(1, 2, width=9.0, height=3.8)
    wanted = feature_statistics(style)
    for axis, which, title in zip(axes, (0, 1), ("mean", "deviation"), strict=True):
        for name, maps in others.items():
            axis.scatter(wanted[which][0], feature_statistics(maps)[which][0], s=7, label=name, alpha=0.7)
        axis.axline((float(wanted[which].mean()),) * 2, slope=1, color="#888888", linewidth=0.8)
        axis.set_xlabel(f"the style's {title}")
        axis.set_ylabel(title)
        axis.legend(frameon=False, fontsize=8)
    report.figure("statistics", figure, "The 240 channels of the deepest depth. On the line: the style's statistics. "
                  "AdaIN sets them exactly; the picture that the decoder paints has them about.")  # fmt: skip
