"""Experiment: learning from labels, and from targets that need none."""

from functools import partial
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from sklearn.semi_supervised import LabelSpreading

from vivace.base.data import ImageFolder, Labelled, cifar10_at_hand, digits, stratified
from vivace.base.errors import InputError
from vivace.base.parameters import FolderPath, Seed, checked
from vivace.base.report import Report, Tell, ignore, part_of
from vivace.experiments.classifier import confusion_matrix
from vivace.experiments.labelled_pictures import cats_and_dogs, cnn_features, faces, pixels
from vivace.experiments.parts import in_turn
from vivace.learning import LogisticRegression, cross_entropy, descend, one_hot, probabilities

QUICK = {"dataset": "faces", "side": 64, "steps": 500}

FEW = 2  # labels of each digit, where labels are scarce
DRAWS = 10  # of these few labels
TURNS = ("upright", "90°", "180°", "270°")


@checked
def run(*, data: FolderPath = None, dataset: Literal["auto", "cats_and_dogs", "faces"] = "auto",
        pictures: Annotated[int, Ge(40), Le(100_000)] = 2000, side: Annotated[int, Ge(32), Le(512)] = 128,
        steps: Annotated[int, Ge(50), Le(100_000)] = 2000, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Logistic and softmax regression: labels in, error down; and targets that the input itself provides.

    vivace run logistic_regression        20 s on two cores; 98 % of digits, 82 % of cats and dogs
    (without these, all of 60 photographs of faces and other things)

    data: a folder of your own pictures to tell apart instead, one sub-folder for each class
    dataset: CIFAR-10's cats and dogs (170 MB to download where it is missing), the 200 faces and other pictures that
      come with scikit-image, or auto: cats and dogs where they are there
    pictures: how many cats and dogs are taken
    side: pixels to which a picture is enlarged for the network whose features are used
    steps: how many steps gradient descent takes on the digits
    seed: which pictures are for testing, and which few labels are given
    """
    report = Report("Learning from labels: logistic and softmax regression")
    train, test = digits("train"), digits("test")
    photographs = _photographs(data, dataset, pictures, side, tell)
    parts = (
        ("descending", partial(_descent, report, train, test, steps)),
        ("naming photographs", partial(_named, report, photographs, side, seed)),
        ("targets from the input", partial(_turned, report, train, test)),
        ("few labels", partial(_few_labels, report, train, test, seed)),
    )
    in_turn(parts, tell)
    return report


def _photographs(data: FolderPath, dataset: str, count: int, side: int, tell: Tell) -> Labelled:
    if data is not None:
        own = ImageFolder(data, size=side)
        if len(own.classes) < 2:
            raise InputError(f"{data} has one sub-folder only; a classifier needs at least two classes")
        return own.read(tell=part_of(tell, 0, 2 * len(own)))
    wanted = dataset == "cats_and_dogs" or (dataset == "auto" and cifar10_at_hand())
    return cats_and_dogs(count) if wanted else faces()


def _descent(report: Report, train: Labelled, test: Labelled, steps: int) -> None:
    """Softmax regression on digits: the loss at every step, with safe and unsafe steps (1.1.c1, 1.1.x1)."""
    X, X_test = (np.column_stack([pixels(part.images), np.ones(len(part.labels))]) for part in (train, test))
    Y = one_hot(train.labels.numpy())[1]
    safe = 2 * len(X) / float(np.linalg.norm(X, 2)) ** 2  # 1 / L
    lines, rises = {}, {}
    for factor in (1, 5, 50):
        W, losses = descend(X, Y, steps=steps, step_size=factor * safe)
        rises[factor] = int((np.diff(losses) > 1e-12).sum())
        lines[f"step {factor}/L"] = (np.arange(1, steps + 2), losses)
        if factor == 1:
            wrong = {name: np.mean((Z @ W).argmax(1) != part.labels.numpy())
                     for name, Z, part in (("training", X, train), ("test", X_test, test))}  # fmt: skip
            first, last = losses[0], losses[-1]
    best = LogisticRegression(C=1.0).fit(X[:, :-1], train.labels.numpy())
    report.curve("loss", lines, x="step of gradient descent", y="mean cross-entropy, training digits", log_x=True,
                 log_y=True, caption="Every step uses all training digits. Up to the step 1/L, with L the bound on the "
                 "loss's curvature, the loss can't rise; far beyond it does.")  # fmt: skip
    report.claim("1.1.c1", rises[1], high=0, unit="steps", detail=f"of {steps} with step 1/L that raised the training "
                 f"loss; it fell from {first:.3f} to {last:.3f}, the share named wrongly to {wrong['training']:.1%} of "
                 f"training and {wrong['test']:.1%} of test digits")  # fmt: skip
    report.claim("1.1.x1", rises[50], high=0, unit="steps", detail=f"of {steps} with step 50/L that raised it")
    report.images("templates", {name: _signed(w) for name, w in zip(train.classes, best.coef_, strict=True)},
                  "The weights of each digit: blue speaks for it, red against it.")  # fmt: skip
    right = best.score(X_test[:, :-1], test.labels.numpy())
    loss = cross_entropy(X, Y, np.vstack([best.coef_.T, best.intercept_]))[0]
    report.summary = (
        "A supervised learner (here softmax regression, $p = \\mathrm{softmax}(W x + b)$) is told the right answers "
        "and lowers the empirical risk $\\frac1n \\sum_i -\\log p_{y_i}(x_i)$: the mean cross-entropy of its "
        f"predictions. With a small penalty, L-BFGS needs {best.n_iter_} steps to a loss of {loss:.3f} and then names "
        f"**{right:.1%}** of {len(test.labels)} digits it has not seen. "
    )


def _signed(w: Float[np.ndarray, " 64"]) -> torch.Tensor:
    from matplotlib import colormaps

    image = colormaps["RdBu"](0.5 + 0.5 * w.reshape(8, 8) / np.abs(w).max())[..., :3]
    return torch.from_numpy(image).float().movedim(-1, 0).repeat_interleave(10, 1).repeat_interleave(10, 2)


def _named(report: Report, every: Labelled, side: int, seed: int) -> None:
    """A labelled classifier of photographs, from pixels and from a network's features (1.1.x2)."""
    parts = stratified(every, test_share=0.3, seed=seed)
    train, test = parts["train"], parts["test"]
    y, truth = train.labels.numpy(), test.labels.numpy()
    scores, said = {}, np.zeros_like(truth)
    for name, see, C in (("pixels", pixels, 0.1), ("network", partial(cnn_features, side=side), 0.01)):
        X, X_test = see(train.images), see(test.images)
        mean, scale = X.mean(0), X.std(0).mean() or 1.0  # all pictures alike: nothing to divide by
        model = LogisticRegression(C=C).fit((X - mean) / scale, y)
        said = model.predict((X_test - mean) / scale)
        scores[name] = 100 * float(np.mean(said == truth))
    usual = 100 * np.bincount(truth).max() / len(truth)
    classes = ", ".join(every.classes[:6])
    report.table("photographs", ("what the classifier sees", "named rightly, %"),
                 [("nothing: always the commonest class", f"{usual:.1f}"), ("the pixels", f"{scores['pixels']:.1f}"),
                  ("1280 features of EfficientNet-Lite0", f"{scores['network']:.1f}")],
                 f"{len(truth)} photographs not learnt from ({classes}); {len(y)} with labels were.")  # fmt: skip
    report.claim("1.1.x2", scores["network"] - usual, low=20, unit="points", detail=f"{scores['network']:.1f} % of "
                 f"{len(truth)} unseen photographs named rightly ({classes}), less the commonest class's "
                 f"{usual:.1f} %")  # fmt: skip
    report.figure("confusion", confusion_matrix(test, torch.from_numpy(said)), "Named from the network's features.")
    shown = _few_of_each(truth, said)
    report.images("named", {f"{i + 1}: {test.classes[said[j]]}" + ("" if said[j] == truth[j] else " (wrong)"):
                            test.images[j] for i, j in enumerate(shown)},
                  "Unseen photographs and what they were named; a wrong one first where there is one.")  # fmt: skip
    report.summary += (
        f"A logistic regression on a trained network's features tells {classes} apart: **{scores['network']:.1f} %** "
        f"of unseen photographs, against {scores['pixels']:.1f} % from the pixels themselves."
    )


def _few_of_each(truth: Int[np.ndarray, " n"], said: Int[np.ndarray, " n"]) -> list[int]:
    """Two wrong ones, and two right ones of each of the first classes."""
    shown = np.flatnonzero(truth != said)[:2].tolist()
    for k in range(min(3, int(truth.max()) + 1)):
        shown += np.flatnonzero((truth == k) & (said == k))[:2].tolist()
    return shown


def _turned(report: Report, train: Labelled, test: Labelled) -> None:
    """Self-supervision: pictures are turned, and the turn is the target; nobody labelled anything (1.1.x3)."""
    (X, turns), (X_test, truth) = (_all_turns(part) for part in (train, test))
    model = LogisticRegression(C=0.1).fit(X, turns)
    right = np.mean(model.predict(X_test) == truth)
    report.claim("1.1.x3", 100 * right, low=60, unit="%", detail=f"of {len(truth)} turned digits, not learnt from, "
                 "whose turn softmax regression on the pixels tells; guessing: 25 %")  # fmt: skip
    p = probabilities(model.decision_function(X_test))
    shown = [4 * int((test.labels == k).int().argmax()) + turn for turn, k in enumerate((4, 7, 2, 3))]
    report.images("turned", {f"said {TURNS[p[j].argmax()]} ({p[j].max():.2f}), is {TURNS[truth[j]]}":
                             torch.from_numpy(X_test[j].reshape(1, 8, 8)).float() for j in shown},
                  "The target is made from the input: turn it, and ask by how much.")  # fmt: skip


def _all_turns(given: Labelled) -> tuple[Float[np.ndarray, "m 64"], Int[np.ndarray, " m"]]:
    turned = torch.stack([given.images.rot90(turn, (2, 3)) for turn in range(4)], 1)  # (n, 4, 1, 8, 8)
    return pixels(turned.flatten(0, 1)), np.tile(np.arange(4), len(given.labels))


def _few_labels(report: Report, train: Labelled, test: Labelled, seed: int) -> None:
    """Semi-supervision: two labels of each digit, with and without the unlabelled rest (1.1.x4)."""
    X, y, X_test, truth = pixels(train.images), train.labels.numpy(), pixels(test.images), test.labels.numpy()
    generator = np.random.default_rng(seed)
    scores = []
    for _ in range(DRAWS):
        known = np.concatenate([generator.choice(np.flatnonzero(y == k), FEW, replace=False) for k in range(10)])
        alone = LogisticRegression().fit(X[known], y[known]).score(X_test, truth)
        partly = np.full(len(y), -1)
        partly[known] = y[known]
        spread = LabelSpreading(gamma=20, max_iter=100).fit(X, partly).score(X_test, truth)
        scores.append((100 * alone, 100 * spread))
    alone, spread = np.mean(scores, axis=0)
    report.table("few-labels", ("what was given", "test digits named rightly, %"),
                 [(f"{10 * FEW} labelled digits (softmax regression)", f"{alone:.1f}"),
                  (f"the same, and {len(y) - 10 * FEW:,} without labels (label spreading)", f"{spread:.1f}")],
                 f"Semi-supervised: mean of {DRAWS} draws of the {10 * FEW} labels.")  # fmt: skip
    report.claim("1.1.x4", spread - alone, low=3, unit="points", detail=f"accuracy with the unlabelled digits, "
                 f"{spread:.1f} %, less that without, {alone:.1f} %; {10 * FEW} labels, {DRAWS} draws")  # fmt: skip
