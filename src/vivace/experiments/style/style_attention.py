"""Experiment: where in the style each place of the content looks, and what of attention's promises holds."""

import math
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from scipy.ndimage import median_filter
from torch import Tensor

from vivace.base.images import heat_colors, read_image, reduce_to, resize
from vivace.base.parameters import FilePath, FolderPath, ImagePath, RunFolder, Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Tell, ignore
from vivace.base.training import Precision
from vivace.experiments.loss_network import loss_network
from vivace.experiments.one_pass import (
    CHANNELS,
    Task,
    adain_decoder,
    encoder,
    learned,
    style_attention_net,
    training_table,
)
from vivace.experiments.standard_error import two_standard_errors
from vivace.experiments.style_pictures import HELD_OUT, SHOWN, painted
from vivace.experiments.training_flags import need_training
from vivace.style import StyleAttentionNet, StyleDecoder, attention_weights, ssim, stylize
from vivace.style.adain import Encode

QUICK = {"size": 128, "study": 96}

WIDTHS = (8, 64, 512, 4096)  # of queries and keys
KEYS = 256
POINTS = ((0.2, 0.75), (0.5, 0.33), (0.85, 0.85))  # places of the content, down and across, as shares of its sides
MARKS = ((1.0, 0.1, 0.1), (0.1, 0.9, 0.2), (0.2, 0.4, 1.0))
TEXTURES = tuple(combinations(("brick", "grass", "gravel", "coins", "moon"), 2))
STROKES = {"content": 0.15, "style": 1.0, "smoothness": 2.5, "fringes": 30.0, "identity": 2.0}  # weights of the losses
SPOT = 0.2  # a pixel so far from its neighbours' median is a spot


@checked
def run(*, content: ImagePath = "china", style: ImagePath = "poppies",
        alpha: Annotated[float, Ge(0), Le(1)] = 1.0, size: Annotated[int, Ge(64), Le(2048)] = 512,
        study: Annotated[int, Ge(96), Le(512)] = 256, weights: FilePath = None,
        train_steps: Annotated[int, Ge(0), Le(1_000_000)] = 0, batch_size: Annotated[int, Ge(1), Le(256)] = 2,
        rate: Annotated[float, Ge(1e-6), Le(1)] = 1e-3, data: FolderPath = None, styles: FolderPath = None,
        devices: Annotated[int, Ge(1), Le(64)] = 1, precision: Precision = "32-true", seed: Seed = 0,
        folder: RunFolder = None, resume: FolderPath = None, tell: Tell = ignore) -> Report:  # fmt: skip
    """A photograph in a picture's style, each place in that of the places it attends to.

    vivace run style_attention        60 s on two cores; unscaled, the softmax saturates: 0.08 nats at d = 4096

    content: the picture whose things stay
    style: the picture whose colours and strokes are taken, place by place
    alpha: how much of the style is taken
    size: the longer side of the result in pixels; smaller pictures stay as they are
    study: the longer side of the pictures that claims are measured on
    weights: a network that was trained before, in place of the shipped one
    train_steps: train a network anew, from AdaIN's decoder, for so many steps and use it
    batch_size: photographs, and styles, in a step of training; each is seen in two styles
    rate: the highest learning rate of training
    data: a folder of photographs to train on; BSDS500's, if they are at hand, or the shipped ones, without it
    styles: a folder of pictures whose styles are learned; paintings by formula without it
    devices: processes or GPUs that train together
    precision: the arithmetic of training
    seed: of training, and of random queries and keys
    resume: the folder of a training that was stopped, to go on with it
    """
    need_training(train_steps, "--train-steps", data=data, styles=styles, resume=resume)
    judge = loss_network()[0]
    report = Report(
        "Each place takes the style of the places it attends to",
        "The content's features ask, the style's answer: $\\mathrm{softmax}(Q K^T / \\sqrt{d_k})\\, V$ with "
        "$Q = W_q \\bar F_c$, $K = W_k \\bar F_s$, $V = W_v F_s$; bars are features normalised channel by channel, so "
        "that structure is compared and not colour. What is found is added to the content's features.",
    )
    adain = adain_decoder()
    if train_steps:
        with seeded(seed):
            net = StyleAttentionNet(CHANNELS)
        net.decoder.load_state_dict(adain.state_dict())
        for part in (net.attention.query, net.attention.key):
            part.requires_grad_(False)  # the style's loss is one for all places: they would learn to look anywhere
        task = Task(judge, lambda net, c, s: net(c, s), **STROKES)
        fitted = learned(net, task, train_steps, data=data, styles=styles, batch_size=batch_size, rate=rate,
                         seed=seed, precision=precision, devices=devices, folder=folder, resume=resume,
                         tell=tell)  # fmt: skip
        training_table(report, fitted)
    else:
        net = style_attention_net(weights)
    photo, shelf = read_image(content, max_side=size), painted(size)
    painting = shelf[str(style)] if str(style) in shelf else read_image(style, max_side=size)
    lab = Lab(encoder(judge), net.eval(), adain, study, shelf)
    with torch.no_grad():
        lab.pictures(report, photo, painting, alpha)
        lab.maps(report, reduce_to(photo, study), reduce_to(painting, study))
        lab.regions(report)
        lab.far_away(report)
        lab.against_adain(report)
    _saturation(report, seed)
    _as_printed(report)
    return report


class Lab:
    """The network at work, next to AdaIN with a decoder of the same kind."""

    def __init__(self, encode: Encode, net: StyleAttentionNet, adain: StyleDecoder, side: int,
                 shelf: Mapping[str, Tensor]) -> None:  # fmt: skip
        self.encode, self.net, self.adain, self.side = encode, net, adain, side
        self.shelf = {name: reduce_to(picture, side) for name, picture in shelf.items()}

    def made(self, photo: Tensor, painting: Tensor, alpha: float = 1) -> Tensor:
        return stylize(self.encode, self.net.decoder, photo, painting, alpha=alpha, restyle=self.net.restyled)

    def look(self, photo: Tensor, painting: Tensor, at: list[tuple[float, float]]) -> Tensor:
        """Where in the style these places of the content (shares of height and width) look: (n, h, w), sums of 1."""
        deep, style = (self.encode(_whole(image)[None])[-1] for image in (photo, painting))
        rows, columns = deep.shape[-2:]
        return self.net.attention.look(deep, style, [(int(y * rows), int(x * columns)) for y, x in at])[0]

    def pictures(self, report: Report, photo: Tensor, painting: Tensor, alpha: float) -> None:
        result = self.made(photo, painting, alpha)
        report.image("result", result, f"{photo.shape[-1]} x {photo.shape[-2]} pixels in one pass.")
        report.images("triple", {"content": photo, "style": painting, "result": result,
                                 "AdaIN": stylize(self.encode, self.adain, photo, painting, alpha=alpha)},
                      "AdaIN gives every place the style's mean statistics; attention those of places like it.",
                      columns=2)  # fmt: skip
        small = reduce_to(photo, self.side)
        shown = {name: self.made(small, picture) for name, picture in self.shelf.items()}
        report.images(
            "styles",
            {"content": small} | shown,
            f"Training never saw a picture of {' and '.join(HELD_OUT)}.",
            columns=3,
        )

    def maps(self, report: Report, photo: Tensor, painting: Tensor) -> None:
        """Attention from three places of the content to the style, and to the content itself."""
        places = list(POINTS)
        marked = photo.clone()
        for place, color in zip(places, MARKS, strict=True):
            _mark(marked, place, color)
        for name, other in (("cross", painting), ("self", photo)):
            shown = {"content, with three places": marked} if name == "cross" else {}
            for words, place, looked in zip(("red", "green", "blue"), places, self.look(photo, other, places),
                                            strict=True):  # fmt: skip
                heat = resize((looked / looked.max())[None].sqrt(), (other.shape[-2], other.shape[-1]))[0]
                picture = 0.45 * other + 0.55 * heat_colors(heat)
                if name == "self":
                    _mark(picture, place, (1.0, 1.0, 1.0))
                shown[f"{words} looks at"] = picture
            where = "the style" if name == "cross" else "the content itself (self-attention): near places and far"
            report.images(f"{name}_attention", shown, f"Where in {where}: blue little, red much.", columns=4)

    def regions(self, report: Report) -> None:
        """Two textures in the content, the same two in the style, elsewhere and in other colours."""
        shares: list[float] = []
        shown: dict[str, Tensor] = {}
        grid = [(y, x) for y in np.linspace(0.1, 0.9, 8) for x in (0.15, 0.3, 0.7, 0.85)]
        for first, second in TEXTURES:
            photo, painting = _two_regions(first, second, self.side)
            looked = self.look(photo, painting, grid)
            upper = looked[:, : looked.shape[1] // 2].sum((1, 2))
            on_left = torch.tensor([x < 0.5 for _, x in grid])
            share = torch.where(on_left, upper, 1 - upper)
            shares += [float(share[on_left].mean()), float(share[~on_left].mean())]
            if len(shown) < 6:
                shown |= {f"content: {first}, {second}": photo, f"style: {first}, {second}": painting,
                          f"result, {share.mean():.0%} on the right one": self.made(photo, painting)}  # fmt: skip
        report.images("regions", shown, "Left against right in the content is above against below in the style.",
                      columns=3)  # fmt: skip
        report.claim("6.8.c3", measured=float(np.mean(shares)), low=0.5, spread=two_standard_errors(shares),
                     detail=f"share of the attention that falls on the same texture's region, mean of {len(shares)} "
                            f"from {min(shares):.2f} to {max(shares):.2f}; by chance 0.5")  # fmt: skip

    def far_away(self, report: Report) -> None:
        """The style is the content, mirrored: what is alike is far away."""
        factors = []
        for name in SHOWN:
            photo = _whole(read_image(name, max_side=self.side))
            places = [(y, x) for y in (0.2, 0.35, 0.5, 0.65, 0.8) for x in (0.15, 0.3, 0.7, 0.85)]
            looked = self.look(photo, photo.flip(-1), places)
            rows, columns = looked.shape[1:]
            for (y, x), map_ in zip(places, looked, strict=True):
                row, column = int(y * rows), columns - 1 - int(x * columns)
                near = map_[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
                factors.append(float(near.sum()) / (near.numel() / map_.numel()))
        report.claim("6.8.x1", measured=float(np.mean(factors)), low=2, spread=two_standard_errors(factors),
                     detail="attention on the 3 x 3 cells where the mirrored content has the same thing, over what "
                            f"chance gives them: mean of {len(factors)} places")  # fmt: skip

    def against_adain(self, report: Report) -> None:
        """What is kept of the content, and how restless the pictures are."""
        kept, spots, tv, rows = [], [], [], []
        for painter, painting in self.shelf.items():
            for name in SHOWN[:3]:
                photo = read_image(name, max_side=self.side)
                both = [self.made(photo, painting), stylize(self.encode, self.adain, photo, painting)]
                likeness = [float(ssim(_grey(photo), _grey(picture))) for picture in both]
                restless = [float(picture.diff(dim=1).abs().mean() + picture.diff(dim=2).abs().mean())
                            for picture in both]  # fmt: skip
                speckles = [_spots(picture) for picture in both]
                kept.append(likeness[0] - likeness[1])
                tv.append(math.log(restless[0] / restless[1]))
                spots.append(math.log((speckles[0] + 1) / (speckles[1] + 1)))
                rows.append((name, painter, *(f"{v:.3f}" for v in (*likeness, *restless)),
                             *(f"{v:.1f}" for v in speckles)))  # fmt: skip
        report.table("against_adain", ("content", "style", "SSIM, attention", "SSIM, AdaIN", "TV, attention",
                                       "TV, AdaIN", "spots, attention", "spots, AdaIN"), rows,
                     "SSIM of the light with the content's; total variation; spots in 1,000 pixels.")  # fmt: skip
        # what is taught is said of every style: the worst painter decides
        each = np.array([kept, spots, tv]).reshape(3, len(self.shelf), -1).mean(2)
        report.claim("6.8.c4", measured=float(each[0].min()), low=0,
                     detail="SSIM to the content, attention's less AdaIN's: the worst of five painters' means; of "
                            f"all {np.mean(kept):.3f}, higher in {sum(k > 0 for k in kept)} of "
                            f"{len(kept)} pairs")  # fmt: skip
        report.claim("6.8.c5", measured=math.exp(each[1].max()), high=1,
                     detail="spots, attention's over AdaIN's: the worst of five painters' geometric means; of "
                            f"all {math.exp(np.mean(spots)):.2f}, fewer in {sum(v < 0 for v in spots)} of {len(spots)} "
                            f"pairs; total variation {math.exp(np.mean(tv)):.2f}")  # fmt: skip


def _saturation(report: Report, seed: int) -> None:
    """The softmax of products of random queries and keys, wider and wider."""
    generator = torch.Generator().manual_seed(seed)
    entropy: dict[bool, list[float]] = {True: [], False: []}
    top = 0.0
    for width in WIDTHS:
        Q, K = (torch.randn(1, KEYS, width, generator=generator) for _ in range(2))
        for scaled in (True, False):
            A = attention_weights(Q, K, scaled=scaled)
            entropy[scaled].append(float(torch.special.entr(A).sum(-1).mean()))
            top = float(A.amax(-1).mean())
    report.curve("entropy", {"over the root of d": (WIDTHS, entropy[True]), "not scaled": (WIDTHS, entropy[False]),
                             "all alike": (WIDTHS, [math.log(KEYS)] * len(WIDTHS))}, x="width d of queries and keys",
                 y="entropy of the softmax, nats", log_x=True,
                 caption=f"{KEYS} random keys: without the root one of them takes all.")  # fmt: skip
    report.claim("6.8.c1", measured=entropy[False][-1], high=0.5,
                 detail=f"entropy of the unscaled softmax at d = {WIDTHS[-1]}, {KEYS} keys; at "
                        + ", ".join(f"{w}: {e:.2f}" for w, e in zip(WIDTHS[:-1], entropy[False][:-1], strict=True))
                        + f"; scaled {entropy[True][-1]:.2f} of {math.log(KEYS):.2f}; largest {top:.2f}")  # fmt: skip


def as_printed(content_features: Tensor, style_features: Tensor) -> Tensor:
    """The lecture's code for style attention."""
    Q = content_features
    K, V = style_features
    attention = torch.softmax(torch.matmul(Q, K.transpose(-2, -1)), dim=-1)
    return torch.matmul(attention, V)


def mended(content_features: Tensor, style_features: Tensor) -> Tensor:
    """The same with what it lacks: rows for places, keys and values of the same style, the root of the width."""
    Q, K = (maps.flatten(2).mT for maps in (content_features, style_features))
    return (attention_weights(Q, K) @ K).mT.view_as(content_features)


def _as_printed(report: Report) -> None:
    """Run the printed code on features B x C x H x W, and see what comes out."""
    rows, right = [], []
    for batch in (1, 2, 3, 4):
        content, style = (torch.randn(batch, 8, 16, 16, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
        for name, code in (("printed", as_printed), ("mended", mended)):
            said, ok = _outcome(code, content, style)
            rows.append((name, batch, said))
            if name == "printed":
                right.append(ok)
    report.table("printed_code", ("code", "batch", "what happens"), rows,
                 "`K, V = style_features` unpacks the batch; products of H x W maps compare columns of pixels, not "
                 "places.")  # fmt: skip
    report.claim("6.8.c2", measured=float(np.mean(right)), low=1,
                 detail="share of the batch sizes 1 to 4 with which the printed code runs and each picture's result "
                        "depends on its own style alone")  # fmt: skip


def _outcome(code: Callable[[Tensor, Tensor], Tensor], content: Tensor, style: Tensor) -> tuple[str, bool]:
    """What the code does, in words, and whether picture 0's result hangs on its own style and on no other's."""
    try:
        out = code(content, style)
    except ValueError as error:
        return f"ValueError: {error}", False
    others, own = style.clone(), style.clone()
    others[1:] += 1
    own[0] += torch.randn(own[0].shape, generator=torch.Generator().manual_seed(2))
    apart = len(style) == 1 or torch.allclose(code(content, others)[0], out[0], atol=1e-5)
    uses = not torch.allclose(code(content, own)[0], out[0], atol=1e-5)
    right = out.shape == content.shape and apart and uses
    return ("right" if right else "runs, but the values of all are another picture's"), right


def _two_regions(first: str, second: str, side: int) -> tuple[Tensor, Tensor]:
    """The textures left and right in grey; and, from elsewhere in their pictures, above and below in colours."""
    side = side // 16 * 16
    halves = []
    for name in (first, second):
        texture = resize(read_image(name, max_side=512).mean(0, keepdim=True), 2 * side)
        texture = 0.5 + 0.18 * (texture - texture.mean()) / texture.std()
        halves.append((texture[:, :side, : side // 2], texture[:, -side // 2 :, -side:]))
    (a, above), (b, below) = halves
    photo = torch.cat([a, b], 2).clamp(0, 1).expand(3, -1, -1)
    colors = torch.tensor([[0.5, 0.9, 1.3], [1.3, 1.0, 0.4]])[..., None, None]
    return photo, torch.cat([above * colors[0], below * colors[1]], 1).clamp(0, 1)


def _whole(image: Tensor) -> Tensor:
    """Cut to sides that halve evenly."""
    height, width = (max(16, side // 16 * 16) for side in image.shape[-2:])
    large_enough = image if min(image.shape[-2:]) >= 16 else resize(image, (height, width))
    return large_enough[..., :height, :width]


def _mark(image: Tensor, place: tuple[float, float], color: tuple[float, float, float]) -> None:
    """A small square there, in place."""
    height, width = image.shape[-2:]
    half = max(2, min(height, width) // 40)
    y, x = int(place[0] * height), int(place[1] * width)
    image[:, max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1] = torch.tensor(color)[:, None, None]


def _spots(picture: Tensor) -> float:
    """Pixels far from the median of the 5 x 5 around them, in a thousand."""
    grey = picture.mean(0).numpy()
    return 1000 * float((np.abs(grey - median_filter(grey, 5)) > SPOT).mean())


def _grey(image: Tensor) -> Tensor:
    return image.mean(0, keepdim=True)[None]
