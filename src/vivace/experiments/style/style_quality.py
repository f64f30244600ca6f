"""Experiment: what goes wrong in style transfer, and what the usual remedies do about it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from scipy.stats import spearmanr
from skimage.data import lbp_frontal_face_cascade_filename, lfw_subset
from skimage.feature import Cascade
from torch import Tensor

from vivace.base.errors import InputError
from vivace.base.images import read_image, reduce_to, resize
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.loss_network import loss_network
from vivace.experiments.standard_error import two_standard_errors
from vivace.generative import PCA
from vivace.style import See, color_transfer, gatys, seeing, style_distance

QUICK = {"size": 64, "steps": 20, "styles": 2}

STYLES = ("swirls", "waves", "poppies", "mosaic", "stained_glass")

RATIOS = (0.2, 2.0, 20.0, 200.0)  # of the content's weight to the style's
FACES = 100  # of the LFW subset that scikit-image ships; the rest of it is no faces
SIDE = 25  # pixels, of those faces
COMPONENTS = 30
SMOOTHNESS = 300.0  # weight of the total variation where it is to be seen
TILES = 4  # on each side: places in which the style is measured by itself
BLOBS = (6, 24)  # pixels: distances at which a blob may come again


@checked
def run(*, portrait: ImagePath = "astronaut", size: Annotated[int, Ge(64), Le(512)] = 128,
        steps: Annotated[int, Ge(10), Le(500)] = 40, styles: Annotated[int, Ge(2), Le(5)] = 4, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """Noise, blobs, lost faces: the troubles of style transfer and their remedies, each measured with and without.

    vivace run style_quality        5 min on one core; with content weights from 0.2 to 200 times the style's

    portrait: a photograph of a face that looks at the camera
    size: side of the square around the face, in pixels
    steps: evaluations of the loss for each picture
    styles: how many painted pictures lend their style
    seed: of the noise that some pictures start from
    """
    photo, box = face_in(portrait, size)
    study = Study(photo, box, styles, steps, seed, tell)
    report = Report(
        "What keeps a stylised picture good",
        "Each picture is made twice or more, with one remedy more or less: the weight of the content for faces, total "
        "variation against noise, a falling rate for Adam, several resolutions against blobs.",
    )
    for claim in (study.faces, study.noise, study.rate, study.resolutions):
        claim(report)
    return report


def face_in(portrait: ImagePath, size: int) -> tuple[Tensor, tuple[int, int, int]]:
    """The square around the largest face that Viola and Jones' cascade finds, and the face in it: top, left, side."""
    picture = reduce_to(read_image(portrait), 512)
    detector = Cascade(lbp_frontal_face_cascade_filename())
    found = detector.detect_multi_scale(picture.permute(1, 2, 0).numpy(), scale_factor=1.2, step_ratio=1,
                                        min_size=(60, 60), max_size=(400, 400))  # fmt: skip
    if not found:
        raise InputError(f"no face that looks at the camera is found in {portrait}: take a portrait, such as astronaut")
    face = max(found, key=lambda box: box["width"])
    side = min(round(2.2 * face["width"]), *picture.shape[-2:])
    middle = face["r"] + face["width"] // 2, face["c"] + face["width"] // 2
    top, left = (min(max(0, at - side // 2), most - side) for at, most in zip(middle, picture.shape[-2:], strict=True))
    scale = size / side
    square = resize(picture[:, top : top + side, left : left + side], (size, size))
    return square, (round((face["r"] - top) * scale), round((face["c"] - left) * scale), round(face["width"] * scale))


class Study:
    """Pictures made of one portrait in several styles."""

    def __init__(
        self, photo: Tensor, face: tuple[int, int, int], styles: int, steps: int, seed: int, tell: Tell
    ) -> None:
        self.see: See = seeing(*loss_network())
        self.photo, self.face, self.steps, self.seed, self.tell = photo, face, steps, seed, tell
        side = photo.shape[-1]
        self.styles = {name: resize(read_image(name, max_side=2 * side), side) for name in STYLES[:styles]}
        self.total = styles * steps * (len(RATIOS) + 2 + 2 + 1 + 7)  # coarse to fine: 4 + 2 + 1
        self.done = 0

    def made(self, style: str, **options: object) -> tuple[Tensor, Mapping[str, float]]:
        """A picture and the losses at its end."""
        losses: Mapping[str, float] = {}

        def listen(step: Step) -> None:
            nonlocal losses
            losses = step.values
            self.done += 1
            self.tell(replace(step, done=min(self.done, self.total), total=self.total))

        generator = torch.Generator().manual_seed(self.seed)
        chosen = {"steps": self.steps, "coarsest": None, "generator": generator, **options}
        content = color_transfer(self.photo, self.styles[style])
        return gatys(self.see, content, self.styles[style], tell=listen, **chosen), losses  # type: ignore[arg-type]

    def faces(self, report: Report) -> None:
        """The face in the picture, by eigenfaces: whose it is, and how like the photograph's."""
        faces = torch.from_numpy(lfw_subset()[:FACES]).float()
        space = PCA(COMPONENTS).fit(_standardized(faces).numpy())
        top, left, side = self.face

        def embedded(picture: Tensor) -> Tensor:
            face = resize(picture[:, top : top + side, left : left + side].mean(0, keepdim=True), (SIDE, SIDE))
            return torch.as_tensor(space.transform(_standardized(face).numpy()))[0]

        own = embedded(self.photo)
        others = torch.as_tensor(space.transform(_standardized(faces).numpy()))
        shown: dict[str, Tensor] = {"photograph": self.photo}
        likeness: dict[str, list[float]] = {name: [] for name in self.styles}
        recognized = dict.fromkeys(RATIOS, 0)
        for name in self.styles:
            for ratio in RATIOS:
                picture, _ = self.made(name, content_weight=ratio)
                shown[f"{name}, {ratio:g}"] = picture
                code = embedded(picture)
                likeness[name].append(float(torch.cosine_similarity(code, own, dim=0)))
                recognized[ratio] += likeness[name][-1] > float(torch.cosine_similarity(code, others).max())
        report.images("faces", dict(list(shown.items())[1:]), "The content's weight over the style's rises to the "
                      "right.", columns=len(RATIOS))  # fmt: skip
        report.curve("likeness", {name: (RATIOS, values) for name, values in likeness.items()}, x="alpha / beta",
                     y="likeness to the face in the photograph", log_x=True,
                     caption=f"Cosine in the space of {COMPONENTS} eigenfaces of {FACES} faces.")  # fmt: skip
        order = [float(spearmanr(RATIOS, values).statistic) for values in likeness.values()]
        words = ", ".join(f"{count} of {len(self.styles)} at {ratio:g}" for ratio, count in recognized.items())
        report.claim("6.7.c1", measured=float(np.mean(order)), low=0.8,
                     detail=f"rank correlation of the content's weight with the likeness, {len(order)} styles; the "
                            f"photograph's face is nearer than {FACES} others in {words}")  # fmt: skip

    def noise(self, report: Report) -> None:
        """Without total variation and with much of it."""
        pairs = {name: [self.made(name, smoothness=weight) for weight in (0.0, SMOOTHNESS)]
                 for name in self.styles}  # fmt: skip
        report.images("noise", {f"{name}, {word}": picture for name, made in pairs.items()
                                for word, (picture, _) in zip(("without", "with"), made, strict=True)},
                      "Without and with total variation.", columns=2)  # fmt: skip
        grain = [_grain(made[1][0]) / _grain(made[0][0]) for made in pairs.values()]
        cost = float(np.mean([made[1][1]["style"] / made[0][1]["style"] for made in pairs.values()]))
        report.claim("6.7.c3", measured=float(np.mean(grain)), spread=two_standard_errors(grain), high=0.8,
                     detail=f"noise with over without total variation of weight {SMOOTHNESS:g}, mean of {len(grain)} "
                            f"styles; the style's error is {cost:.2g} times as large for it")  # fmt: skip

    def rate(self, report: Report) -> None:
        """Adam at a rate that suits the start, and the same falling to 0."""
        gains = []
        for name in self.styles:
            constant, falling = (self.made(name, optimizer="adam", rate=0.03, decay=decay) for decay in (False, True))
            gains.append(falling[1]["loss"] / constant[1]["loss"])
        report.claim("6.7.x4", measured=float(np.mean(gains)), spread=two_standard_errors(gains), high=0.8,
                     detail=f"loss after {self.steps} steps of Adam, rate falling from 0.03 to 0 over rate 0.03, mean "
                            f"of {len(gains)} styles")  # fmt: skip

    def resolutions(self, report: Report) -> None:
        """From noise, at full size only and from a quarter of it."""
        side = self.photo.shape[-1]
        shown: dict[str, Tensor] = {}
        rows, blobs = [], []
        for name, style in self.styles.items():
            pictures = {word: self.made(name, init="noise", content_weight=0.02, coarsest=coarsest)[0]
                        for word, coarsest in (("at once", None), ("coarse to fine", side // 3))}  # fmt: skip
            shown |= {f"{name}, {word}": picture for word, picture in pictures.items()}
            again = {word: repetition(picture) for word, picture in pictures.items()}
            blobs.append(again["at once"] - again["coarse to fine"])
            rows += [(name, word, again[word], self.unevenness(picture, style)) for word, picture in pictures.items()]
        report.images("resolutions", shown, "From noise, with little content: at full size only, and from a third of "
                      "it.", columns=2)  # fmt: skip
        report.table("resolutions_table", ("style", "made", "repetition", "unevenness of the style"), rows,
                     f"Repetition: the highest autocorrelation at {BLOBS[0]} to {BLOBS[1]} pixels. Unevenness: the "
                     f"deviation of the style's error over {TILES} x {TILES} places, over its mean.")  # fmt: skip
        report.claim("6.7.c6", measured=float(np.mean(blobs)), spread=two_standard_errors(blobs), low=0.02,
                     detail="repetition at full size only less that from coarse to fine, mean of "
                            f"{len(blobs)} styles")  # fmt: skip

    def unevenness(self, picture: Tensor, style: Tensor) -> float:
        """How differently far from the style a picture is in its places."""
        side = picture.shape[-1] // TILES
        places = picture.unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4).flatten(0, 1)
        with torch.no_grad():
            maps = self.see(style[None])[1]
            targets = [features.expand(len(places), -1, -1, -1) for features in maps]
            errors = style_distance(self.see(places.contiguous())[1], targets, relative=True)
        return float(errors.std() / errors.mean())


def repetition(picture: Tensor) -> float:
    """The highest autocorrelation, averaged around, beyond the first minimum and at a blob's distance."""
    light = picture.mean(0) - picture.mean()
    power = torch.fft.fft2(light).abs().square()
    correlation = torch.fft.ifft2(power).real / power.mean()
    side = picture.shape[-1]
    at = torch.fft.fftfreq(side, 1 / side)
    distance = (at[:, None].square() + at.square()).sqrt().round().long()
    rings = torch.zeros(int(distance.max()) + 1).scatter_reduce_(0, distance.flatten(), correlation.flatten(), "mean")
    near, far = BLOBS
    lowest = int(rings[:far].argmin())
    return float(rings[max(near, lowest) : far + 1].max() - rings[lowest])


def _standardized(faces: Tensor) -> Tensor:
    """Each face with mean 0 and deviation 1, in one row."""
    rows = faces.flatten(1)
    return (rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True)


def _grain(picture: Tensor) -> float:
    """The deviation of the noise (Immerkaer 1996): what a mask that sees no flat slope nor edge along an axis sees."""
    mask = torch.tensor([1.0, -2.0, 1.0])
    return float(F.conv2d(picture[:, None], (mask[:, None] * mask)[None, None]).abs().mean()) * (math.pi / 2) ** 0.5 / 6
