"""Experiment: the feature space of a network, as a map to look around in, and what such a map can be trusted with."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from vivace.base.cost import cost
from vivace.base.data import ImageFolder, Labelled, cifar10, cifar10_at_hand, digits
from vivace.base.drawing import PALETTE, drawing
from vivace.base.errors import InputError
from vivace.base.images import grid, resize, total_variation
from vivace.base.parameters import FolderPath, Seed, checked
from vivace.base.report import Report, Tell, ignore
from vivace.cnn import efficientnet_lite0, head_inputs, pooled_features, vgg16
from vivace.experiments.labelled_pictures import cnn_features, directions, patches, pixels
from vivace.experiments.parts import in_turn
from vivace.experiments.picture_map import interactive_map, map_of_thumbnails
from vivace.experiments.standard_error import two_standard_errors
from vivace.explain import (
    ImageParameters,
    Mahalanobis,
    cka,
    continuity,
    distance_correlation,
    embedding_map,
    nearest_neighbors,
    neighbor_agreement,
    trustworthiness,
    umap_at_hand,
)
from vivace.generative import PCA
from vivace.learning import KMeans

QUICK = {"count": 160, "side": 96, "starts": 1, "steps": 2}

LAYERS = ("stem", "blocks.0", "blocks.2", "blocks.4", "blocks.7", "blocks.10", "blocks.13", "blocks.15", "head")
RING, NEAR = 300, 7  # points on a circle, whose shape as a whole is known, and how many each is kept near
CLASSES = 10  # of the standard pictures
LEAST = 20  # pictures that a map is worth making of
LINK = 5  # neighbours that are looked at

Rows = Float[np.ndarray, "n d"]


class Space(NamedTuple):
    """Pictures, what they are called, and the features by which they lie near or far (rows of length 1)."""

    given: Labelled
    names: list[str]
    half: Int[np.ndarray, " n"]  # each picture is in one of two halves; neighbours that count are in the other
    layers: list[Rows]  # of each of LAYERS
    features: Rows

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        return self.given.labels.numpy()

    def agreement(self, X: Rows) -> Float[np.ndarray, " n"]:
        """For each picture, the share of its five nearest in the other half that are of its class."""
        return neighbor_agreement(self.labels, nearest_neighbors(X, k=LINK, apart=(self.half, self.half))[0])


@checked
def run(*, data: FolderPath = None, count: Annotated[int, Ge(100), Le(5000)] = 600,
        groups: Annotated[int, Ge(2), Le(50)] = 10, side: Annotated[int, Ge(64), Le(512)] = 160,
        starts: Annotated[int, Ge(1), Le(10)] = 3, steps: Annotated[int, Ge(2), Le(1000)] = 100, seed: Seed = 0,
        tell: Tell = ignore) -> Report:  # fmt: skip
    """A folder of pictures as a map: neighbours, groups, outliers, and what a map in the plane keeps of the features.

    vivace run feature_space --data photos/        a map to look around in, in a minute; without --data also what such
    maps are worth, in two minutes on two cores: of five neighbours 4.6 are of the same photograph (2.4 by pixels)

    data: a folder of your own pictures, flat or with a sub-folder for each class; where not given, CIFAR-10 if it is
        at hand, else squares of ten photographs
    count: pictures in all; of more in your folder so many are drawn
    groups: into how many groups the pictures are clustered
    side: pixels to which a picture is enlarged for the network
    starts: random starts of each kind of map
    steps: gradient steps in which features are decoded into a picture
    seed: which pictures, and all starts
    """
    report = Report("The feature space of a network",
                    "A network's last layer makes each picture a point of 1,280 numbers; like pictures lie near each "
                    "other there. Below they are laid out in the plane, grouped and searched. ")  # fmt: skip
    space: list[Space] = []
    maps: dict[str, Rows] = {}
    parts = [
        ("looking at pictures", lambda: space.append(_space(data, count, side, seed))),
        ("laying out maps", lambda: maps.update(_maps(space[0], seed))),
        ("drawing maps", lambda: _show(report, space[0], maps, groups, seed)),
        ("between two pictures", lambda: _path(report, space[0], side, steps, seed)),
        ("comparing layers", lambda: _layers(report, space[0])),
    ]
    if data is None:
        parts += [
            ("neighbours", lambda: _neighbours(report, space[0])),
            ("counting numbers", partial(_sizes, report)),
            ("starts of maps", lambda: _starts(report, space[0], maps, starts, seed)),
            ("outliers", lambda: _outliers(report, space[0])),
            ("midpoints", lambda: _midpoints(report, space[0], side, seed)),
        ]
    in_turn(parts, tell)
    return report


def _space(data: str | Path | None, count: int, side: int, seed: int) -> Space:
    """The pictures, and what each of the network's layers says about them, averaged over places."""
    given, names, half = _own(data, count, side, seed) if data is not None else _standard(count, seed)
    model = efficientnet_lite0(weights="imagenet")
    enlarged = torch.cat([resize(some, (side, side)) for some in given.images.split(100)])
    layers = [found.double().numpy() for found in pooled_features(model, enlarged, LAYERS)]
    return Space(given, names, half, layers, directions(layers[-1]))


def _own(data: str | Path, count: int, side: int, seed: int) -> tuple[Labelled, list[str], Int[np.ndarray, " n"]]:
    folder = ImageFolder(data, size=side, flat=True)
    if len(folder) < LEAST:
        raise InputError(f"{data} has {len(folder)} pictures; a map needs {LEAST} at least")
    order = torch.randperm(len(folder), generator=torch.Generator().manual_seed(seed)).tolist()[:count]
    folder.paths, folder.labels = ([values[i] for i in sorted(order)] for values in (folder.paths, folder.labels))
    return folder.read(), [path.name for path in folder.paths], np.arange(len(folder)) % 2


def _standard(count: int, seed: int) -> tuple[Labelled, list[str], Int[np.ndarray, " n"]]:
    """CIFAR-10's test pictures, or squares of ten photographs; of these the left halves are one half, the right other.

    So no square shares a pixel with a neighbour that counts.
    """
    each = count // CLASSES // 2
    if cifar10_at_hand():
        every = cifar10("test")
        order = torch.randperm(len(every.labels), generator=torch.Generator().manual_seed(seed))
        given = every.taken(order).first_of_each(2 * each)
        half = np.array([int((given.labels[:i] == given.labels[i]).sum() >= each) for i in range(len(given.labels))])
    else:
        left, right = (patches(each, side=64, seed=seed, part=part) for part in ("left", "right"))
        given = Labelled(torch.cat([left.images, right.images]), torch.cat([left.labels, right.labels]), left.classes)
        half = np.arange(len(given.labels)) // len(left.labels)
    return given, [f"{given.classes[label]} {i}" for i, label in enumerate(given.labels.tolist())], half


def _maps(space: Space, seed: int) -> dict[str, Rows]:
    """PCA's, and those that begin at it."""
    plane = PCA(2).fit_transform(space.features)
    made = {"PCA": plane}
    for method in _methods():
        generator = torch.Generator().manual_seed(seed)
        made[method] = embedding_map(space.features, method.lower(), plane, generator=generator)
    return made


def _methods() -> list[str]:
    return ["t-SNE", "UMAP"] if umap_at_hand() else ["t-SNE"]


def _show(report: Report, space: Space, maps: Mapping[str, Rows], groups: int, seed: int) -> None:
    """The maps, the pictures' neighbours, groups with their central pictures, and outliers."""
    images, n = space.given.images, len(space.names)
    near, far = nearest_neighbors(space.features, k=LINK)
    unusual = far.mean(1)
    model = KMeans(min(groups, n), random_state=seed).fit(space.features)
    group = model.labels_
    classes = {"class": (space.given.classes, space.labels)} if len(space.given.classes) > 1 else {}
    by = {**classes, "cluster": ([str(1 + j) for j in range(group.max() + 1)], group)}
    order = sorted(maps, key=lambda name: name != "t-SNE")  # the most telling first
    page = interactive_map(images, {name: maps[name] for name in order}, names=space.names, groups=by,
                           scores={"distance to neighbours": unusual}, near=near)  # fmt: skip
    report.page("map", page, f"{n} pictures, the like ones together. Choose a map and what the frames' colours mean; "
                "point at a picture to see its nearest by features, which need not be the nearest on the map. The file "
                "map.html opens by itself, too.")  # fmt: skip
    colour, of = next(iter(by.items()))
    report.images("layouts", {name: map_of_thumbnails(images, where, of[1]) for name, where in maps.items()},
                  f"The same maps as pictures: frames in the colours of the {colour}; pictures that would cover others "
                  "are dots.")  # fmt: skip
    _measured_maps(report, space, maps)
    centre = np.linalg.norm(space.features - model.cluster_centers_[group], axis=1)
    asked = [int(np.flatnonzero(group == j)[centre[group == j].argmin()]) for j in range(group.max() + 1)][:4]
    chosen = [*asked, int(unusual.argmax())]
    rows = [torch.cat([_row(images[[i]], 96), torch.ones(3, 96, 12), _row(images[near[i]], 96)], 2) for i in chosen]
    report.image("neighbours", grid(rows, columns=1), "Left the picture asked for, then its five nearest by features. "
                 "In the last row the picture that is farthest from all.")  # fmt: skip
    sheets = {}
    for j in np.argsort(-np.bincount(group))[:10].tolist():
        mine = np.flatnonzero(group == j)
        central = images[mine[np.argsort(centre[mine], kind="stable")[:6]]]
        sheets[f"cluster {1 + j}: {len(mine)} pictures"] = grid(resize(central, (96, 96)), columns=3)
    report.images("clusters", sheets, "k-means on the features: of each cluster the pictures nearest to its centre, "
                  "the nearest first.")  # fmt: skip
    odd = np.argsort(-unusual, kind="stable")[:8].tolist()
    report.images("outliers", {f"{space.names[i]}, {unusual[i]:.2f}": _row(images[[i]], 128) for i in odd},
                  "The pictures farthest from their five nearest: mean distance of unit vectors, at most 2; "
                  f"the median is {np.median(unusual):.2f}.")  # fmt: skip


def _row(images: Float[Tensor, "n c h w"], side: int) -> Float[Tensor, "3 rows columns"]:
    """Pictures side by side."""
    tiles = resize(images, (side, side)).expand(-1, 3, -1, -1)
    spaced = [part for tile in tiles for part in (tile, torch.ones(3, side, 4))]
    return torch.cat(spaced[:-1], dim=2)


def _measured_maps(report: Report, space: Space, maps: Mapping[str, Rows]) -> None:
    known = len(space.given.classes) > 1
    rows = [
        (name, trustworthiness(space.features, where), continuity(space.features, where),
         distance_correlation(space.features, where), *([float(space.agreement(where).mean())] if known else []))
        for name, where in maps.items()
    ]  # fmt: skip
    if known:
        rows.append(
            (f"all {space.features.shape[1]:,} numbers", 1.0, 1.0, 1.0, float(space.agreement(space.features).mean()))
        )
    columns = (
        "map",
        "trustworthiness",
        "continuity",
        "distance correlation",
        *(["neighbours of own class"] if known else []),
    )
    missing = "" if umap_at_hand() else " UMAP is left out: its package, umap-learn, is not installed."
    report.table("maps", columns, rows, "How far each map can be believed. Trustworthiness: are neighbours on the map "
                 "neighbours in truth? Continuity: are true neighbours neighbours on the map? (5 neighbours; 1 is "
                 "without a fault.) Distance correlation: is far on the map far in truth?" + missing)  # fmt: skip


def _path(report: Report, space: Space, side: int, steps: int, seed: int) -> None:
    """From one picture's features to another's, shown by the nearest pictures and by decoded ones."""
    features, raw = space.features, space.layers[-1]
    a = int(np.linalg.norm(features - features.mean(0), axis=1).argmin())  # the most usual picture
    b = int(np.argsort(np.linalg.norm(features - features[a], axis=1))[len(features) // 2])  # one as far as most
    shares = np.array([0.25, 0.5, 0.75])
    between = (1 - shares)[:, None] * raw[a] + shares[:, None] * raw[b]
    others = np.setdiff1d(np.arange(len(raw)), [a, b])
    near = others[nearest_neighbors(features[others], directions(between), 1)[0][:, 0]]
    ends, tiles = space.given.images[[a, b]], space.given.images[near]
    labels = [f"{share:.0%} of the way" for share in shares]
    strip = {"from": ends[0], **dict(zip(labels, tiles, strict=True)), "to": ends[1]}
    report.images("interpolation", {label: _row(tile[None], 128) for label, tile in strip.items()},
                  "Features on the straight line between two pictures, shown by the nearest other picture: it jumps, "
                  "for there is no picture in between.")  # fmt: skip
    targets = torch.from_numpy(np.stack([raw[a], *between, raw[b]])).float()
    decoded, apart = _decoded(efficientnet_lite0(weights="imagenet"), targets, side, steps, seed)
    names = ["from", *labels, "to"]
    report.images("decoded", {f"{name}: {100 * error:.0f} % off": _row(x[None], 128) for name, x, error in zip(
        names, decoded, apart.tolist(), strict=True)}, f"Pictures sought by {steps} gradient steps for the same "
        "features, those of the two ends included; how far off they still are. They look like no photograph, the ends "
        "neither: averages don't say where things are, and hardly what colour.")  # fmt: skip


def _decoded(model: nn.Module, targets: Float[Tensor, "k d"], side: int, steps: int, seed: int
             ) -> tuple[Float[Tensor, "k 3 h w"], Float[Tensor, " k"]]:  # fmt: skip
    """Pictures whose averaged last maps come near the targets, and how far these are, relative to their length."""
    sought = ImageParameters((side, side), count=len(targets), generator=torch.Generator().manual_seed(seed))
    optimizer = torch.optim.Adam(sought.parameters(), lr=0.05)
    model.requires_grad_(False)
    for _ in range(steps + 1):
        images = sought()
        error = (model.features(images).mean((2, 3)) - targets).square().sum(1) / targets.square().sum(1)  # type: ignore[operator]
        optimizer.zero_grad()
        (error.sum() + 0.2 * len(targets) * total_variation(images)).backward()
        shown = images.detach()
        optimizer.step()
    return shown, error.detach().sqrt()


def _layers(report: Report, space: Space) -> None:
    """How alike the layers see the pictures, and from where on neighbours are of one class."""
    table = np.array([[cka(X, Y) for Y in space.layers] for X in space.layers])
    report.figure("cka", _squares(table), "How alike two layers see the same pictures (linear CKA, 1: the same up to "
                  "turning and scale). Early layers resemble each other, and so do late ones.")  # fmt: skip
    if len(space.given.classes) > 1:
        figure, axes = drawing(height=3.4)
        shares = [100 * float(space.agreement(directions(X)).mean()) for X in space.layers]
        axes.plot(range(len(LAYERS)), shares, marker="o", color=PALETTE[0])
        axes.set_xticks(range(len(LAYERS)), LAYERS, rotation=45, ha="right")
        axes.set(ylabel="neighbours of own class, %", ylim=(0, 100))
        report.figure("along-the-network", figure, "Of each picture's five nearest in the other half of the pictures, "
                      "those of its class, by the averaged features of nine layers. Where a class is a "
                      "photograph, textures and colours, which the first layer knows, nearly suffice.")  # fmt: skip


def _squares(table: Float[np.ndarray, "l l"]) -> Figure:
    figure, axes = drawing(width=5.4, height=4.6)
    axes.imshow(table, cmap="viridis", vmin=0, vmax=1)
    axes.grid(False)
    for (i, j), value in np.ndenumerate(table):
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", size=7, color="white" if value < 0.6 else "#222222")
    axes.set_xticks(range(len(LAYERS)), LAYERS, rotation=45, ha="right")
    axes.set_yticks(range(len(LAYERS)), LAYERS)
    return figure


def _neighbours(report: Report, space: Space) -> None:
    """Do neighbours by features belong to one class, more than by pixels? (5.4.c1; digits: 5.4.x1)"""
    raw, deep = space.agreement(pixels(space.given.images)), space.agreement(space.features)
    first = float(space.agreement(directions(space.layers[0])).mean())
    report.claim("5.4.c1", (deep - raw).mean(), low=0, spread=two_standard_errors(deep - raw),
                 detail=f"of the five nearest, {deep.mean():.2f} are of the picture's class by features, "
                 f"{raw.mean():.2f} by pixels, {first:.2f} by the first layer's averages, 0.10 by chance; "
                 f"{len(deep)} pictures, neighbours in the other half "
                 "(where pictures are squares of photographs, the other half of the photograph)")  # fmt: skip
    some = digits("train").first(300)
    half, y = np.arange(300) % 2, some.labels.numpy()
    found = {}
    for name, X in (("pixels", pixels(some.images)), ("features", directions(cnn_features(some.images, 64)))):
        found[name] = neighbor_agreement(y, nearest_neighbors(X, k=LINK, apart=(half, half))[0])
    gain = found["features"] - found["pixels"]
    report.claim("5.4.x1", gain.mean(), low=0, spread=two_standard_errors(gain),
                 detail=f"the same for 300 handwritten digits, unlike ImageNet's pictures: "
                 f"{found['features'].mean():.2f} by features, {found['pixels'].mean():.2f} by pixels")  # fmt: skip
    report.summary += (
        f"**{deep.mean() * LINK:.1f}** of a picture's five nearest are of its class by a network's last features, "
        f"{raw.mean() * LINK:.1f} by pixels ({len(deep)} pictures of ten classes). A map in the plane keeps these "
        "neighbourhoods in part and distances hardly; what it shows of the whole depends on where it began."
    )


def _sizes(report: Report) -> None:
    """How many numbers each layer puts out (5.4.c2)."""
    lines, told = {}, {}
    for name, build in (("VGG-16", vgg16), ("EfficientNet-Lite0", efficientnet_lite0)):
        with torch.device("meta"):
            model = build()
        sizes = [
            layer.activations
            for layer in cost(model).layers
            if layer.kind in ("Conv2d", "SameConv2d", "MaxPool2d", "Linear")
        ]
        told[name] = sizes
        lines[name] = (np.linspace(0, 1, len(sizes) + 1), [3 * 224 * 224, *sizes])
    vgg = told["VGG-16"]
    report.claim("5.4.c2", max(vgg) / (3 * 224 * 224), high=1,
                 detail=f"the largest layer of VGG-16 ({max(vgg):,} numbers) over the picture's 150,528; "
                 f"{vgg[-4]:,} before the first fully connected layer, {vgg[-2]:,} at fc7; EfficientNet-Lite0's "
                 f"largest has {max(told['EfficientNet-Lite0']):,}")  # fmt: skip
    report.curve("sizes", lines, x="way through the network, from the picture (0) to the scores (1)", y="numbers",
                 log_y=True, caption="How many numbers stand for one picture of 224 x 224. The dimension first grows, "
                 "then shrinks.")  # fmt: skip


def _starts(report: Report, space: Space, maps: Mapping[str, Rows], starts: int, seed: int) -> None:
    """Class clusters by t-SNE (5.4.c3), and what of the whole a map keeps from which start (5.4.c4, 5.4.x2)."""
    flat, full, linear = (float(space.agreement(X).mean()) for X in (maps["t-SNE"], space.features, maps["PCA"]))
    share = (flat - 1 / CLASSES) / (full - 1 / CLASSES)
    report.claim("5.4.c3", share, low=0.5, detail="the share of the classes' neighbourhoods, beyond chance (0.10), "
                 f"that two dimensions keep: of five neighbours {flat:.2f} of the class on t-SNE's map, {full:.2f} "
                 f"by all {space.features.shape[1]:,} numbers; on PCA's map {linear:.2f}")  # fmt: skip
    t = torch.linspace(0, 2 * torch.pi, RING + 1)[:-1]
    noise = 0.01 * torch.randn(RING, 5, generator=torch.Generator().manual_seed(seed))
    ring = (torch.stack([t.cos(), t.sin(), 0 * t, 0 * t, 0 * t], 1) + noise).double().numpy()
    kept: dict[tuple[str, str, str], float] = {}
    rows = [("pictures", "PCA", "", distance_correlation(space.features, maps["PCA"]))]
    known = (("pictures", space.features, maps["PCA"], None), ("a ring", ring, PCA(2).fit_transform(ring), NEAR))
    for what, X, plane, near in known:
        for method in _methods():
            for start, begin in (("random", None), ("PCA", plane)):
                draws = [torch.Generator().manual_seed(seed + i) for i in range(1 if start == "PCA" else starts)]
                made = [embedding_map(X, method.lower(), begin, neighbors=near, generator=draw) for draw in draws]
                kept[what, method, start] = float(np.mean([distance_correlation(X, where) for where in made]))
                rows.append((what, method, start, kept[what, method, start]))
    report.table(
        "starts",
        ("features of", "map", "start", "distance correlation"),
        rows,
        f"Rank correlation of all distances on the map with those of the features; random: mean of {starts}.",
    )
    if not umap_at_hand():
        return
    gain = kept["pictures", "UMAP", "random"] - kept["pictures", "t-SNE", "random"]
    report.claim("5.4.c4", gain, low=0.1, detail="rank correlation of all distances with those of the features, UMAP's "
                 f"({kept['pictures', 'UMAP', 'random']:.2f}) less t-SNE's "
                 f"({kept['pictures', 't-SNE', 'random']:.2f}), both from random starts, mean of {starts}; "
                 f"from PCA's {kept['pictures', 'UMAP', 'PCA']:.2f} and "
                 f"{kept['pictures', 't-SNE', 'PCA']:.2f}; PCA's own {rows[0][-1]:.2f}")  # fmt: skip
    of_ring = {key[1:]: value for key, value in kept.items() if key[0] == "a ring"}
    by_start = float(np.mean([of_ring[method, "PCA"] - of_ring[method, "random"] for method in _methods()]))
    report.claim("5.4.x2", by_start, low=0.05,
                 detail=f"{RING} points of a ring, each kept near {NEAR}: rank correlation of all distances, UMAP "
                 f"{of_ring['UMAP', 'PCA']:.2f} from PCA's start and {of_ring['UMAP', 'random']:.2f} from random ones, "
                 f"t-SNE {of_ring['t-SNE', 'PCA']:.2f} and {of_ring['t-SNE', 'random']:.2f}; the mean gain of the two, "
                 f"random: mean of {starts}")  # fmt: skip


def _outliers(report: Report, space: Space) -> None:
    """Pictures of other classes, by how far they are from those of one (5.4.c5)."""
    known, y = space.half == 0, space.labels
    scores: dict[str, list[float]] = {}
    raw = pixels(space.given.images)
    for c in range(CLASSES):
        mine, other = known & (y == c), y[~known] != c
        found = {
            "features, 3 nearest": nearest_neighbors(space.features[mine], space.features[~known], 3)[1].mean(1),
            "features, Mahalanobis": Mahalanobis().fit(space.features[mine]).score(space.features[~known]),
            "pixels, 3 nearest": nearest_neighbors(raw[mine], raw[~known], 3)[1].mean(1),
        }
        rest = nearest_neighbors(space.features[known & (y != c)], space.features[~known], 3)[1].mean(1)
        found["features, nine classes known"] = -rest  # the tenth is the outlier
        for name, far in found.items():
            scores.setdefault(name, []).append(float(roc_auc_score(other, far)))
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    report.table("outlier_scores", ("score", *space.given.classes, "mean"), [
        (name, *(round(value, 2) for value in values), round(means[name], 3)) for name, values in scores.items()],
        "Area under the ROC curve: how often a picture that doesn't belong scores higher than one that does. Half of "
        "one class's pictures are known, and the other half and all other classes judged; in the last row nine "
        "classes are known and the tenth is to stand out.")  # fmt: skip
    report.claim("5.4.c5", means["features, 3 nearest"], low=0.7,
                 detail="area under the ROC curve of the distance to three of one class's pictures, mean of ten "
                 f"classes; Mahalanobis {means['features, Mahalanobis']:.2f}; by pixels "
                 f"{means['pixels, 3 nearest']:.2f}; with nine classes known and the tenth sought "
                 f"{means['features, nine classes known']:.2f}")  # fmt: skip


def _midpoints(report: Report, space: Space, side: int, seed: int) -> None:
    """Features half-way between pictures of two classes: are they like a picture's? (5.4.c6, 5.4.x3)"""
    raw, y, n = space.layers[-1], space.labels, len(space.names)
    i, j = np.random.default_rng(seed).integers(n, size=(2, 2 * n))
    i, j = i[y[i] != y[j]], j[y[i] != y[j]]
    middle = (raw[i] + raw[j]) / 2
    told = roc_auc_score(np.arange(n + len(i)) >= n, np.concatenate([evenness(raw), evenness(middle)]))
    to_real = nearest_neighbors(space.features, directions(middle), 3)[1][:, 2]  # the two nearest are often its ends
    report.claim("5.4.c6", told, high=0.6, detail=f"area under the ROC curve with which {len(i)} features half-way "
                 f"between pictures of two classes are told from {n} pictures' own by how evenly their "
                 f"{raw.shape[1]:,} numbers are spread; 0.5 if they were alike")  # fmt: skip
    few = slice(0, 24)
    ends = resize(space.given.images, (side, side))
    collages = torch.cat([ends[i[few]], ends[j[few]]], dim=3)
    beside = directions(head_inputs(efficientnet_lite0(weights="imagenet"), collages).double().numpy())
    ratio = np.linalg.norm(beside - directions(middle[few]), axis=1) / to_real[few]
    report.claim("5.4.x3", ratio.mean(), high=1, spread=two_standard_errors(ratio),
                 detail="distance of the midpoint's features from those of the two pictures laid side by side, "
                 f"over that from the nearest other picture (the third nearest); {len(ratio)} pairs")  # fmt: skip
    report.image("collage", resize(collages[0], (128, 256)), "The picture whose features are nearest to the middle of "
                 "two pictures': both of them, side by side. The last maps are averaged over places, so half of each "
                 "is the average of both.")  # fmt: skip


def evenness(X: Rows) -> Float[np.ndarray, " n"]:
    """(mean x)^2 / mean x^2 of each row: 1 where all numbers are the same, 1/d where one alone isn't zero."""
    return X.mean(1) ** 2 / np.square(X).mean(1)
