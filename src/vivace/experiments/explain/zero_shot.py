"""Experiment: naming classes of which no picture was seen, with attributes and without."""

import csv
import math
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from vivace.base.data import cifar10_at_hand
from vivace.base.drawing import BLUE, GREY, drawing
from vivace.base.errors import InputError
from vivace.base.images import resize
from vivace.base.parameters import FilePath, FolderPath, Seed, checked
from vivace.base.report import Report, Tell, ignore, part_of
from vivace.experiments.embedded_pictures import Pictures, digit_pictures, embed_all, pictures
from vivace.experiments.parts import in_turn
from vivace.explain import ESZSL, DirectAttributePrediction
from vivace.generative import PCA

QUICK = {"dataset": "digits", "count": 500, "draws": 20}

METHODS = {"DAP": DirectAttributePrediction, "ESZSL": ESZSL}
CODES = 64  # PCA's numbers of an embedding that attributes are learnt from
PAIRS = 45  # at most: two classes withheld at a time
SHOWN = 8
# a 1 for each attribute that a class has, written down by hand before anything was measured
CIFAR10 = """
class       flies wheels hull legs fur feathers hooves horns_or_crest metal windows water road sky long_neck grass pet
airplane    1     1      0    0    0   0        0      0              1     1       0     0    1   0         0     0
automobile  0     1      0    0    0   0        0      0              1     1       0     1    0   0         0     0
bird        1     0      0    1    0   1        0      1              0     0       0     0    1   0         1     0
cat         0     0      0    1    1   0        0      0              0     0       0     0    0   0         0     1
deer        0     0      0    1    1   0        1      1              0     0       0     0    0   1         1     0
dog         0     0      0    1    1   0        0      0              0     0       0     0    0   0         1     1
frog        0     0      0    1    0   0        0      0              0     0       1     0    0   0         1     0
horse       0     0      0    1    1   0        1      0              0     0       0     0    0   1         1     0
ship        0     0      1    0    0   0        0      0              1     1       1     0    1   0         0     0
truck       0     1      0    0    0   0        0      0              1     1       0     1    0   0         0     0
"""
DIGITS = """
class top upper_left upper_right middle lower_left lower_right bottom loop_above loop_below straight
0     1   1          1           0      1          1           1      0          0          0
1     0   0          1           0      0          1           0      0          0          1
2     1   0          1           0      1          0           1      0          0          0
3     1   0          1           1      0          1           1      0          0          0
4     0   1          1           1      0          1           0      0          0          1
5     1   1          0           1      0          1           1      0          0          0
6     0   1          0           1      1          1           1      0          1          0
7     1   0          1           0      0          1           0      0          0          1
8     1   1          1           1      1          1           1      1          1          0
9     1   1          1           1      0          1           0      1          0          0
"""


@checked
def run(*, data: FolderPath = None, attributes: FilePath = None, dataset: Literal["auto", "cifar10", "digits"] = "auto",
        count: Annotated[int, Ge(100), Le(10_000)] = 2000, side: Annotated[int, Ge(32), Le(512)] = 96,
        draws: Annotated[int, Ge(2), Le(50)] = 20, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Classes that no picture was seen of are named by the attributes that they share with those seen.

    vivace run zero_shot --data photos/ --attributes traits.csv        2000 of CIFAR-10's pictures in 30 s on one core;
    of two withheld classes the right one is named for 78 % of the pictures; without attributes by chance

    data: a folder of your own pictures instead, a sub-folder for each class; needs attributes
    attributes: a CSV file for it: a line for each class (the folder's name, then numbers from 0 to 1), and a first
      line with the attributes' names
    dataset: without a folder: CIFAR-10's test pictures, scikit-learn's digits (their strokes are the attributes, and
      their pixels the embedding), or auto: CIFAR-10 where it is there
    count: pictures, where no folder is given
    side: pixels to which a picture is brought
    draws: how many tables of random numbers take the attributes' place
    seed: the random tables, and which classes are withheld where there are many
    """
    strokes = data is None and (dataset == "digits" or not (dataset == "cifar10" or cifar10_at_hand()))
    given = (
        digit_pictures(count) if strokes else pictures(data, "cifar10", count=count, side=side, seed=seed, tell=tell)
    )
    names, S = _attributes(given, attributes, own=data is not None)
    if strokes:
        E = given.some(range(len(given.labels))).flatten(1)
    else:
        E = embed_all(given, tell=part_of(tell, 0, len(given.labels) + 2))
    X = torch.from_numpy(PCA(min(CODES, *E.shape)).fit_transform(F.normalize(E).double().numpy()))
    withheld = _withheld(len(given.classes), seed)
    report = Report(
        f"Zero-shot: {len(given.classes)} classes, two withheld at a time",
        f"{given.name[0].upper()}{given.name[1:]}; attributes are learnt from the pictures of the classes that are "
        "left, and the pictures of the two withheld go to the one whose description fits better. "
        + (
            "The embedding is the picture's 64 pixels."
            if strokes
            else "The network learnt ImageNet's 1000 classes "
            "before, pictures of these kinds among them: what is new to the learner of attributes is not new to the "
            "network."
        ),
    )
    in_turn(
        (("with attributes", partial(_with_attributes, report, given, X, names, S, withheld)),
         ("without", partial(_without, report, given, X, S, withheld, draws, seed))),
        part_of(tell, len(given.labels), len(given.labels) + 2),
    )  # fmt: skip
    return report


def _attributes(given: Pictures, path: str | Path | None, *, own: bool) -> tuple[list[str], Float[Tensor, "k a"]]:
    """The attributes' names, and a row for each class."""
    if own and path is None:
        raise InputError("your own classes need --attributes: a CSV file with a line for each class")
    if path is None:
        lines = [line.split() for line in (CIFAR10 if "cat" in given.classes else DIGITS).strip().splitlines()]
    else:
        lines = _lines(Path(path).expanduser())
    table = {line[0]: line[1:] for line in lines[1:]}
    missing = [name for name in given.classes if name not in table]
    if missing:
        raise InputError(f"no attributes for the class '{missing[0]}' in {path}")
    try:
        S = torch.tensor([[float(cell) for cell in table[name]] for name in given.classes], dtype=torch.float64)
    except ValueError:
        raise InputError(f"{path}: every class needs as many numbers as there are attributes") from None
    if S.shape[1] != len(lines[0]) - 1 or not bool(((S >= 0) & (S <= 1)).all()):
        raise InputError(f"{path}: each class needs a number from 0 to 1 for each of {len(lines[0]) - 1} attributes")
    if len(given.classes) < 4:
        raise InputError(f"{len(given.classes)} classes; with two withheld, two must be left to learn from: 4 or more")
    return lines[0][1:], S


def _lines(path: Path) -> list[list[str]]:
    try:
        lines = [line for line in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()) if line]
    except FileNotFoundError:
        raise InputError(f"no file {path}") from None
    except (OSError, UnicodeDecodeError, csv.Error):
        raise InputError(f"{path} is not a CSV file that can be read") from None
    if len(lines) < 2 or len(lines[0]) < 2:
        raise InputError(f"{path}: the first line names the attributes, each other one is a class and its numbers")
    return [[cell.strip() for cell in line] for line in lines]


def _withheld(classes: int, seed: int) -> list[tuple[int, int]]:
    pairs = list(combinations(range(classes), 2))
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))[:PAIRS]
    return [pairs[i] for i in order.sort().values.tolist()]


def _right(
    model: Any, X: Float[Tensor, "n d"], labels: Tensor, S: Float[Tensor, "k a"], pair: tuple[int, int]
) -> float:
    """The share of the withheld classes' pictures that are named rightly: the mean of the two classes."""
    new = (labels == pair[0]) | (labels == pair[1])
    said = model.fit(X[~new], labels[~new], S).scores(X[new], S[list(pair)]).argmax(1)
    truth = (labels[new] == pair[1]).long()
    return float(np.mean([(said[truth == c] == c).double().mean() for c in (0, 1)]))


def _with_attributes(report: Report, given: Pictures, X: Float[Tensor, "n d"], names: list[str],
                     S: Float[Tensor, "k a"], withheld: list[tuple[int, int]]) -> None:  # fmt: skip
    """Two classes withheld: which of them is it, by attributes (5.6.x4)? Then the hardest pairs and the table."""
    labels = given.labels
    right = {name: np.array([_right(kind(), X, labels, S, pair) for pair in withheld])
             for name, kind in METHODS.items()}  # fmt: skip
    spread = 2 * right["ESZSL"].std() / math.sqrt(len(withheld))
    report.claim("5.6.x4", right["ESZSL"].mean(), low=0.6, spread=spread,
                 detail=f"pictures of two withheld classes named rightly by ESZSL, mean of {len(withheld)} pairs; by "
                 f"direct attribute prediction {right['DAP'].mean():.2f}; chance 0.5; spread: two standard "
                 "errors")  # fmt: skip
    order = np.argsort(right["ESZSL"])
    called = [" or ".join(given.classes[c] for c in pair) for pair in withheld]
    some = [*order[:4], *order[-4:]] if len(order) > 8 else list(order)
    rows = [(called[i], *(f"{100 * right[name][i]:.0f}" for name in METHODS)) for i in some]
    report.table("pairs", ("withheld", *(f"{name}, right, %" for name in METHODS)), rows,
                 "The pairs that are hardest and easiest to tell apart without a picture of either: hard where their "
                 "descriptions differ in little.")  # fmt: skip
    report.figure("attributes", _drawn(given.classes, names, S), "The attributes, by hand: all that is known of a "
                  "class of which no picture is seen.")  # fmt: skip
    pair = withheld[int(order[-1])]
    new = (labels == pair[0]) | (labels == pair[1])
    model = ESZSL().fit(X[~new], labels[~new], S)
    said = model.scores(X[new], S[list(pair)]).argmax(1)
    places = torch.nonzero(new)[:, 0]
    each = [[i for i in range(len(places)) if labels[places[i]] == c][: SHOWN // 2] for c in pair]
    tiles = {}
    for number, i in enumerate([*each[0], *each[1]], start=1):
        place = int(places[i])
        tiles[f"{number}: said {given.classes[pair[int(said[i])]]}"] = resize(given.see(place), (96, 96))
    report.images("named", tiles, f"No picture of '{given.classes[pair[0]]}' or '{given.classes[pair[1]]}' was learnt "
                  "from; the pair that is told apart best.")  # fmt: skip


def _drawn(classes: tuple[str, ...], names: list[str], S: Float[Tensor, "k a"]) -> Figure:
    figure, axes = drawing(width=2 + 0.36 * len(names), height=1.6 + 0.26 * len(classes))
    axes.imshow(S.numpy(), cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
    axes.set_xticks(range(len(names)), [name.replace("_", " ") for name in names], rotation=50, ha="right", fontsize=8)
    axes.set_yticks(range(len(classes)), classes, fontsize=8)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(classes) + 1) - 0.5, minor=True)
    axes.grid(False)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    return figure


def _without(report: Report, given: Pictures, X: Float[Tensor, "n d"], S: Float[Tensor, "k a"],
             withheld: list[tuple[int, int]], draws: int, seed: int) -> None:  # fmt: skip
    """The same with random numbers for attributes: what the embedding alone knows about names (5.6.c6)."""
    generator = torch.Generator().manual_seed(seed)
    tables = [torch.randint(0, 2, S.shape, generator=generator).double() for _ in range(draws)]
    means = np.array([np.mean([_right(ESZSL(), X, given.labels, T, pair) for pair in withheld]) for T in tables])
    report.claim("5.6.c6", means.mean(), low=0.6, spread=2 * means.std(ddof=1) / math.sqrt(draws),
                 detail=f"pictures of two withheld classes named rightly where the attributes are {draws} random "
                 "tables in turn, so that nothing but the embedding is known; spread: two standard errors")  # fmt: skip
    real = np.mean([_right(ESZSL(), X, given.labels, S, pair) for pair in withheld])
    figure, axes = drawing(width=6.4, height=1.8)
    axes.barh(["with attributes", "with random tables"], [100 * real, 100 * means.mean()], color=[BLUE, GREY],
              xerr=[0, 100 * means.std(ddof=1)], height=0.6)  # fmt: skip
    axes.axvline(50, color=GREY, linestyle="--", linewidth=1)
    axes.set(xlim=(0, 100), xlabel="pictures of two withheld classes named rightly, % (dashed: chance)")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    report.figure("needed", figure, "Names come from what is shared between classes, not from the embedding alone.")
