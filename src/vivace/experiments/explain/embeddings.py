"""Experiment: embeddings of many pictures in a file, and what they are good for."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch import Tensor, nn

from vivace.base.drawing import BLUE, GREY, drawing
from vivace.base.embedding_file import extract_to, read_embeddings
from vivace.base.images import resize
from vivace.base.parameters import FilePath, FolderPath, RunFolder, Seed, checked
from vivace.base.randomness import seeded
from vivace.base.report import Report, Tell, ignore, part_of
from vivace.cnn import create_model, efficientnet_lite0, linear_probe, pooled_features
from vivace.experiments.embedded_pictures import (
    BATCH,
    EmbeddedSet,
    Pictures,
    network,
    pictures,
    query_square,
    quick_embedding,
    sheet,
)
from vivace.experiments.parts import in_turn
from vivace.explain import embedded, last_linear, nearest_neighbors, neighbor_agreement
from vivace.generative import PCA
from vivace.learning import KNN, Ridge

QUICK = {"dataset": "photographs", "count": 650, "side": 48, "draws": 2}

FILE = "embeddings.safetensors"
K = 10  # neighbours
FEW = 10  # labels of each class
TESTED = 500  # pictures that a probe is tested on
DIMENSIONS = (512, 128, 32, 2)
MAPPED = 2000  # pictures in t-SNE's map
KEPT = 0.95  # of the whole embedding's precision: what a reduction must keep to be called good for retrieval
SHOWN = 6
NEARLY = 0.8  # of the true neighbours: what a search that is called nearly exact must find
POOL = 15  # pictures of each class from which the few are drawn
SHOWN_CLASSES = 20
WIDTHS = {"vgg16": "fc7", "resnet50": "pooled maps", "resnet18": "pooled maps", "efficientnet_lite0": "pooled maps"}
DEPTHS = ("stem", "blocks.2", "blocks.4", "blocks.7", "blocks.10", "blocks.14", "head")
UNTRAINED = ("stem", "blocks.7", "head")


AnyPicture = Annotated[str | Path | None, "picture"]  # or none


@checked
def run(*, data: FolderPath = None, dataset: EmbeddedSet = "auto", image: AnyPicture = None,
        architecture: str = "efficientnet_lite0", weights: FilePath = None, layer: str | None = None,
        count: Annotated[int, Ge(200), Le(10_000)] = 10_000, side: Annotated[int, Ge(32), Le(512)] = 96,
        draws: Annotated[int, Ge(2), Le(50)] = 10, seed: Seed = 0, folder: RunFolder = None,
        resume: FolderPath = None, tell: Tell = ignore) -> Report:  # fmt: skip
    """Pictures become vectors in a file; with them one finds pictures, and learns classes from ten labels.

    vivace run embeddings --data photos/ --image me.jpg        10,000 of CIFAR-10's pictures in 1.5 min on one core, 3
    with all that is measured; 56 % of the ten nearest are of the same class (by pixels: 25 %)

    data: a folder of your own pictures instead; sub-folders are classes
    dataset: without a folder: CIFAR-10's test pictures, crops of photographs, or auto: CIFAR-10 where it is there
    image: a picture of yours to find the like of
    architecture: the network, with its ImageNet weights (downloaded for others than efficientnet_lite0)
    weights: a network of yours instead: the file that `vivace run finetune` leaves
    layer: the layer to embed with, by dotted name (default: what the last linear layer is given)
    count: pictures to embed, where no folder is given
    side: pixels to which a picture's middle square is brought
    draws: how often the few labels are drawn anew
    seed: which pictures ask and which are searched, the labels drawn, the untrained network
    resume: a run's folder: go on with the extraction that was interrupted there
    """
    yours = None if image is None else query_square(image, side)  # before minutes of work, in case it can't be read
    given = pictures(data, dataset, count=count, side=side, seed=seed, tell=tell)
    called, model = network(architecture, weights, tell=tell)
    whole = len(given.labels) + 6
    E = _extracted(given, called, model, layer, folder, resume, tell=part_of(tell, 0, whole))
    report = Report(
        f"{len(E):,} pictures as {E.shape[1]} numbers each",
        f"{given.name[0].upper()}{given.name[1:]}, brought to {side} x {side}; the embedding is what "
        f"{f'the layer {layer}' if layer else 'the last linear layer'} of {called} "
        f"{'puts out' if layer else 'is given'}. Pictures are alike where the cosine of their embeddings is large.",
    )
    if folder is not None:
        report.file("embeddings", folder / FILE, "The embeddings with names and classes, one safetensors file: "
                    "`read_embeddings` opens it, and so does `vivace run index --embeddings`.")  # fmt: skip
    compared = len(given.classes) > 1 and int(torch.bincount(given.labels).min()) >= 2 * FEW
    parts = [("the nearest pictures", partial(_sheet, report, given, E, model, layer, yours)),
             ("widths", partial(_widths, report))]  # fmt: skip
    if compared:
        parts += [
            ("neighbours by class", partial(_by_class, report, given, E)),
            ("fewer dimensions", partial(_reductions, report, given, E, seed)),
            ("few labels", partial(_few_labels, report, given, draws, seed)),
        ]
    in_turn(parts, part_of(tell, len(given.labels), whole))
    return report


def _extracted(given: Pictures, called: str, model: nn.Module, layer: str | None, folder: Path | None,
               resume: str | Path | None, *, tell: Tell) -> Float[Tensor, "n d"]:  # fmt: skip
    """All embeddings; where there is a run folder, by way of a file that an interruption leaves to be gone on with."""
    embed = quick_embedding(model, layer, given)
    if folder is None:
        return torch.cat([embed(batch) for batch in given.batches(tell=tell)])
    begun = Path(resume).expanduser() / f"checkpoint-{FILE}" if resume is not None else None
    if begun is not None and begun.exists() and begun.parent.resolve() != folder.resolve():
        shutil.copyfile(begun, folder / begun.name)
    about = {"network": called, "layer": layer or "", "side": str(given.side), "pictures": given.fingerprint}
    extract_to(folder / FILE, lambda start: (embed(batch) for batch in given.batches(start, tell=tell)), given.labels,
               names=given.names, classes=given.classes, batch_size=BATCH, about=about)  # fmt: skip
    return read_embeddings(folder / FILE).vectors


def _sheet(report: Report, given: Pictures, E: Float[Tensor, "n d"], model: nn.Module, layer: str | None,
           yours: Float[Tensor, "3 _ _"] | None) -> None:  # fmt: skip
    """Pictures that ask, each before the pictures found for it."""
    searched = torch.nonzero(~given.asking)[:, 0]
    if yours is not None:
        queries = [("yours", yours, next(embedded(model, [yours[None]], layer))[0])]
    else:
        asking = torch.nonzero(given.asking)[:, 0]
        firsts = [int(asking[given.labels[asking] == label][0]) for label in given.labels[asking].unique()[:SHOWN]]
        queries = [(given.classes[int(given.labels[i])], given.see(i), E[i]) for i in firsts]
    rows = []
    for name, square, e in queries:
        cosines, places = F.cosine_similarity(e, E[searched]).topk(min(SHOWN, len(searched)))
        row = [(f"asks: {name}", square)]
        for cosine, i in zip(cosines.tolist(), searched[places].tolist(), strict=True):
            found = Path(given.names[i]).stem if len(given.classes) == 1 else given.classes[int(given.labels[i])]
            row.append((f"{found[:12]}, {cosine:.2f}", given.see(i)))
        rows.append(row)
    report.figure("nearest", sheet(rows), "In each row the picture that asks (framed), then the nearest of those "
                  "searched, with the cosine.")  # fmt: skip


def _widths(report: Report) -> None:
    """How many numbers well-known networks give their last linear layer (5.6.c1)."""
    rows, found = [], {}
    for name, where in WIDTHS.items():
        with torch.device("meta"):  # the shapes alone
            d = found[name] = last_linear(create_model(name))[1].in_features
        rows.append((name, where, d, f"{3 * 224**2 / d:.1f}"))
    right = (found["vgg16"] == 4096) + (found["resnet50"] == 2048)
    report.claim("5.6.c1", right, low=2, detail=f"how many of two have the width taught: VGG-16's fc7 "
                 f"({found['vgg16']}), ResNet-50's pooled maps ({found['resnet50']})")  # fmt: skip
    report.table("widths", ("network", "embedding", "numbers", "times fewer than 224 x 224 x 3"), rows,
                 "An embedding is low-dimensional beside the picture's 150,528 numbers, not in itself.")  # fmt: skip


def _by_class(report: Report, given: Pictures, E: Float[Tensor, "n d"]) -> None:
    """Of the ten nearest, how many are of the same class: by embeddings, and by pixels (5.6.c2)."""
    asking = given.asking.numpy()
    labels = given.labels.numpy()
    rows = torch.cat([resize(batch, (32, 32)).flatten(1) for batch in given.batches()])
    shares = {}
    for name, X in (("embeddings", E.numpy()), ("pixels", rows.numpy())):
        model = KNN(K, metric="cosine").fit(X[~asking], labels[~asking])
        same = neighbor_agreement(labels[~asking], model.kneighbors(X[asking])[1], labels[asking])
        shares[name] = np.array([same[labels[asking] == c].mean() for c in range(len(given.classes))])
    worst = int(shares["embeddings"].argmin())
    report.claim("5.6.c2", shares["embeddings"].mean() - shares["pixels"].mean(), low=0.1,
                 detail=f"share of the {K} nearest that are of the query's class, mean over {len(given.classes)} "
                 f"classes, by embeddings ({shares['embeddings'].mean():.2f}; least for {given.classes[worst]}, "
                 f"{shares['embeddings'][worst]:.2f}) less that by pixels ({shares['pixels'].mean():.2f}); "
                 f"{asking.sum():,} queries, {(~asking).sum():,} searched")  # fmt: skip
    report.figure("by_class", _bars(given.classes, shares), f"Of the {K} nearest pictures, how many are of the class "
                  "that was asked with; by chance it would be the class's share of the pictures.")  # fmt: skip


def _bars(classes: tuple[str, ...], shares: dict[str, Float[np.ndarray, " c"]]) -> Figure:
    order = np.argsort(shares["embeddings"])[::-1][:SHOWN_CLASSES]
    figure, axes = drawing(width=6.4, height=1 + 0.32 * len(order))
    y = np.arange(len(order))
    axes.barh(y - 0.19, 100 * shares["embeddings"][order], 0.36, color=BLUE, label="by embeddings")
    axes.barh(y + 0.19, 100 * shares["pixels"][order], 0.36, color=GREY, label="by pixels")
    axes.set_yticks(y, [classes[c] for c in order])
    axes.invert_yaxis()
    axes.set(xlabel="of the same class, %", xlim=(0, 100))
    axes.grid(axis="y", visible=False)
    figure.legend(frameon=False, loc="outside upper center", ncols=2)
    return figure


def _reductions(report: Report, given: Pictures, E: Float[Tensor, "n d"], seed: int) -> None:
    """The same search with fewer numbers: PCA's codes, and t-SNE's map (5.6.c3, c4, x1, x2)."""
    places = torch.randperm(len(E), generator=torch.Generator().manual_seed(seed))[:MAPPED]
    asking = given.asking[places].numpy()
    X, labels = F.normalize(E[places]).double().numpy(), given.labels[places].numpy()
    S, Q = X[~asking], X[asking]
    truth = KNN(K).fit(S, labels[~asking]).kneighbors(Q)[1]
    measured = partial(_measured, searched=labels[~asking], asked=labels[asking], truth=truth)
    whole, _ = measured(S, Q)
    rows: list[tuple[object, ...]] = [(f"the embedding, {X.shape[1]}", _percent(whole), "100")]
    kept, same = {}, {}
    pca = PCA(min(*S.shape, max(DIMENSIONS))).fit(S)
    codes = pca.transform(S), pca.transform(Q)
    for r in (r for r in DIMENSIONS if r <= codes[0].shape[1]):
        precision, same[r] = measured(codes[0][:, :r], codes[1][:, :r])
        kept[r] = precision / whole
        rows.append((f"PCA, {r}", _percent(precision), _percent(same[r])))
    report.claim("5.6.c3", min(kept[r] for r in kept if r > 2), low=KEPT,
                 detail="precision at 10 of new queries after PCA over that with all numbers, the least of "
                 + ", ".join(f"{kept[r]:.3f} ({r})" for r in kept if r > 2))  # fmt: skip
    report.claim("5.6.x1", same[32], low=NEARLY, detail=f"share of the true {K} nearest that are among the {K} found "
                 "with 32 of PCA's numbers")  # fmt: skip
    _in_the_plane(report, S, Q, labels[~asking], truth, whole, measured, rows, seed)
    report.table("reductions", ("searched with", f"of {K} found, of the class, %", f"of the true {K}, found, %"), rows,
                 f"{len(Q)} new queries among {len(S):,} pictures. A new picture has no place in t-SNE's map: a linear "
                 "map learnt from the others' places is one way; the mean place of its 10 nearest is another, but to "
                 "find these is the search itself.")  # fmt: skip


def _in_the_plane(report: Report, S: Float[np.ndarray, "n d"], Q: Float[np.ndarray, "m d"],
                  labels: Int[np.ndarray, " n"], truth: Int[np.ndarray, "m k"], whole: float,
                  measured: Callable[..., tuple[float, float]], rows: list[tuple[object, ...]], seed: int
                  ) -> None:  # fmt: skip
    """t-SNE's map of the pictures that are searched, as a place to search in."""
    plane = TSNE(init="pca", random_state=seed, perplexity=min(30, len(S) / 4)).fit_transform(S).astype(float)
    precision, same = measured(plane, Ridge(1.0).fit(S, plane).predict(Q))
    rows.append(("t-SNE, 2, new pictures by a linear map", _percent(precision), _percent(same)))
    at_neighbors = plane[truth].mean(1)
    rows.append(("t-SNE, 2, new pictures at their neighbours", *map(_percent, measured(plane, at_neighbors))))
    own = [nearest_neighbors(each, k=K)[0] for each in (S, plane)]
    kept = _shared(own[1], own[0])
    in_class = [float(neighbor_agreement(labels, found).mean()) for found in own]
    rows.append(("t-SNE, 2, pictures that are in the map", _percent(in_class[1]), _percent(kept)))
    report.claim("5.6.c4", precision / whole, low=KEPT, detail="precision at 10 of new queries in t-SNE's map, where a "
                 f"linear map puts them, over that with the whole embedding ({whole:.2f})")  # fmt: skip
    report.claim("5.6.x2", kept, low=NEARLY, detail=f"pictures that t-SNE's map was made with: share of the true {K} "
                 f"nearest among the {K} nearest in the map; of the class are {in_class[1]:.2f}, with the whole "
                 f"embedding {in_class[0]:.2f}")  # fmt: skip


def _measured(S: Float[np.ndarray, "n r"], Q: Float[np.ndarray, "m r"], *, searched: Int[np.ndarray, " n"],
              asked: Int[np.ndarray, " m"], truth: Int[np.ndarray, "m k"]) -> tuple[float, float]:  # fmt: skip
    """Precision by class, and the share of the true neighbours, of what is found with these numbers."""
    found = KNN(K).fit(S, searched).kneighbors(Q)[1]
    return float(neighbor_agreement(searched, found, asked).mean()), _shared(found, truth)


def _shared(found: Int[np.ndarray, "m k"], truth: Int[np.ndarray, "m k"]) -> float:
    return float((found[:, :, None] == truth[:, None]).any(2).mean())


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _few_labels(report: Report, given: Pictures, draws: int, seed: int) -> None:
    """A linear classifier from ten labels of each class, on layers trained and untrained (5.6.c5, x3)."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(given.labels), generator=generator)
    tested = order[given.asking[order]][:TESTED]
    pool = torch.cat([order[(given.labels[order] == c) & ~given.asking[order]][:POOL] for c in given.labels.unique()])
    images, tests = given.some(pool.tolist()), given.some(tested.tolist())
    both = torch.cat([images, tests])
    trained, untrained = efficientnet_lite0(weights="imagenet"), _untrained(seed, both[::5])
    features = dict(zip(DEPTHS, pooled_features(trained, both, DEPTHS), strict=True))
    random = dict(zip(UNTRAINED, pooled_features(untrained, both, UNTRAINED), strict=True))
    features |= {f"untrained {name}": X for name, X in random.items()}
    features["pixels"] = resize(both, (16, 16)).flatten(1)
    right: dict[str, list[float]] = {name: [] for name in features}
    y, truth = given.labels[pool], given.labels[tested]
    for _ in range(draws):
        drawn = torch.randperm(len(pool), generator=generator)
        few = torch.cat([drawn[y[drawn] == c][:FEW] for c in y.unique()])
        for name, X in features.items():
            right[name].append(linear_probe(X[few], y[few], X[len(pool) :], truth, C=0.1).test)
    mean = {name: float(np.mean(shares)) for name, shares in right.items()}
    best = max((f"untrained {name}" for name in UNTRAINED), key=mean.__getitem__)
    for claim, low, rival, what in (("5.6.c5", 0.1, best, "the best of three layers of the same network untrained"),
                                    ("5.6.x3", 0.1, "stem", "the first layer")):  # fmt: skip
        gain = np.array(right["head"]) - np.array(right[rival])
        report.claim(claim, gain.mean(), low=low, spread=2 * gain.std(ddof=1) / draws**0.5,
                     detail=f"test accuracy from {FEW} labels a class with the embedding ({mean['head']:.2f}) "
                     f"less that with {what} ({mean[rival]:.2f}); {draws} draws, {len(truth)} tests; spread: two "
                     "standard errors")  # fmt: skip
    depth = list(range(len(DEPTHS)))
    lines = {"trained on ImageNet": (depth, [100 * mean[name] for name in DEPTHS])}
    lines |= {name: ([0, len(DEPTHS) - 1], [100 * mean[key]] * 2)
              for name, key in (("untrained, best layer", best), ("pixels", "pixels"))}  # fmt: skip
    report.curve("depth", lines, x="layer, from the stem (0) to the head", y="test pictures right, %",
                 caption=f"A linear classifier from {FEW} labels of each class, on the averaged maps of one layer "
                 f"after the other ({', '.join(DEPTHS)}).")  # fmt: skip


def _untrained(seed: int, images: Float[Tensor, "n 3 h w"]) -> nn.Module:
    """The same network with random weights, its batch norms set by the pictures: else nothing would come through."""
    with seeded(seed):
        model = efficientnet_lite0()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(images[:100])
    return model.eval()
