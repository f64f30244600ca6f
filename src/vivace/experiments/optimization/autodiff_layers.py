"""Experiment: our automatic differentiation at work: a classifier trained, a photograph cleaned."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Float, Int
from matplotlib import colormaps

from vivace.base.data import MNIST, Labelled, at_hand, digits, mnist
from vivace.base.images import crop_center, read_image, resize
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.optimization import Variable, average_pool2d, conv2d, max_pool2d, softmax_cross_entropy

QUICK = {"dataset": "digits", "size": 96, "steps": 25}

HIDDEN = (128, 64)
BATCH = 128
MOMENTUM = 0.9
EPOCHS = {"MNIST": 3, "8 x 8 digits": 15}
REACHED = {"MNIST": 97.0, "8 x 8 digits": 95.0}  # % of the test digits
SMOOTH = 1e-3  # so that the length of no slope at all is differentiable
EDGES = np.array([[[[-1.0, 1.0], [0.0, 0.0]]], [[[-1.0, 0.0], [1.0, 0.0]]]])  # slopes right and down: (2, 1, 2, 2)


@checked
def run(*, dataset: Literal["auto", "mnist", "digits"] = "auto", epochs: Annotated[int, Ge(1), Le(200)] | None = None,
        learning_rate: Annotated[float, Gt(0), Le(1)] = 0.1, image: ImagePath = "camera",
        size: Annotated[int, Ge(16), Le(1024)] = 256, noise: Annotated[float, Ge(0), Le(1)] = 0.1,
        steps: Annotated[int, Ge(1), Le(1000)] = 60, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """Our automatic differentiation trains the digit classifier, and cleans a photograph through a convolution.

    vivace run autodiff_layers        10 s on two cores; 97.7 % of MNIST's test digits after three passes, 5 s of it

    dataset: mnist (11 MB to download where it is missing), scikit-learn's 8 x 8 digits, or auto: mnist if it is there
    epochs: how often each training picture is seen: 3 times for MNIST, 15 times for 8 x 8 digits, if not given
    learning_rate: of the first step; it falls to zero along a line
    image: the photograph; the middle square is taken, in grey
    size: the side in pixels that it is reduced to
    noise: standard deviation of the noise that is added to it
    steps: steps down the gradient by its pixels
    seed: the initial weights, the order of the digits and the noise
    """
    generator = np.random.default_rng(seed)
    small = dataset == "digits" or (dataset == "auto" and not at_hand(*MNIST["train"], *MNIST["test"]))
    name = "8 x 8 digits" if small else "MNIST"
    epochs = epochs or EPOCHS[name]
    train, test = (digits("train"), digits("test")) if small else (mnist("train", tell=tell), mnist("test", tell=tell))
    net = Net((train.images[0].numel(), *HIDDEN, len(train.classes)), generator)
    losses, scores = _trained(net, train, test, epochs, learning_rate, generator, tell)
    report = Report(
        f"Trained with our own automatic differentiation: {scores[-1]:.1f} % of {name} right",
        f"The net {'-'.join(map(str, net.sizes))} and the pictures below are NumPy arrays; every gradient comes from "
        "`vivace.optimization.autodiff`. Backpropagation delivers gradients $g$, no more; the step $v \\leftarrow "
        f"{MOMENTUM} v + g$, $w \\leftarrow w - \\eta v$ is the optimiser's.",
    )
    report.curve("loss", {"each batch": (np.arange(1, len(losses) + 1), losses), "mean of 20": _smoothed(losses, 20)},
                 x="step", y="cross-entropy", log_y=True, caption=f"Batches of {BATCH} digits, float32.")  # fmt: skip
    report.curve("accuracy", {"test": (range(len(scores)), scores)}, x="epoch", y="right, %",
                 caption="Test digits named correctly, before the first epoch and after each.")  # fmt: skip
    report.claim("2.3.x6", scores[-1], low=REACHED[name], unit="%",
                 detail=f"of {len(test.labels):,} test pictures of {name}, after {epochs} passes")  # fmt: skip
    picture = read_image(image)
    photo = resize(crop_center(picture, min(picture.shape[1:])), size).mean(0)
    _convolution(report, photo.numpy().astype(np.float64), noise, steps, generator, tell)
    _against_torch(report, photo.numpy().astype(np.float64)[None, None, :64, :64], generator)
    return report


class Net:
    """The digit classifier, written with our engine."""

    def __init__(self, sizes: tuple[int, ...], generator: np.random.Generator) -> None:
        self.sizes = sizes
        self.weights = [Variable(generator.normal(0, (2 / n) ** 0.5, (n, m)).astype(np.float32))
                        for n, m in pairwise(sizes)]  # fmt: skip
        self.biases = [Variable(np.zeros(m, np.float32)) for m in sizes[1:]]

    def logits(self, images: Float[np.ndarray, "b p"]) -> Variable:
        h = images @ self.weights[0] + self.biases[0]
        for W, b in zip(self.weights[1:], self.biases[1:], strict=True):
            h = h.relu() @ W + b
        return h


@dataclass
class Momentum:
    """Gradient descent with momentum: what applies the gradients."""

    parameters: list[Variable]
    velocity: list[np.ndarray]

    def step(self, rate: float) -> None:
        for w, v in zip(self.parameters, self.velocity, strict=True):
            v *= MOMENTUM
            v += w.grad
            w.value -= np.float32(rate) * v
            w.grad = None


def _trained(net: Net, train: Labelled, test: Labelled, epochs: int, learning_rate: float,
             generator: np.random.Generator, tell: Tell) -> tuple[list[float], list[float]]:  # fmt: skip
    """The loss of each batch, and the test accuracy in % before and after each epoch."""
    images, labels = _arrays(train)
    parameters = [*net.weights, *net.biases]
    optimiser = Momentum(parameters, [np.zeros_like(w.value) for w in parameters])
    losses: list[float] = []
    scores = [_accuracy(net, test)]
    per_epoch = -(-len(labels) // BATCH)
    total = per_epoch * epochs
    for epoch in range(epochs):
        for places in np.array_split(generator.permutation(len(labels)), per_epoch):
            loss = softmax_cross_entropy(net.logits(images[places]), labels[places])
            loss.backward()
            optimiser.step(learning_rate * (1 - len(losses) / total))
            losses.append(loss.value.item())
        scores.append(_accuracy(net, test))
        tell(Step(epoch + 1, epochs, "training with our engine"))
    return losses, scores


def _accuracy(net: Net, given: Labelled) -> float:
    images, labels = _arrays(given)
    return 100 * float((net.logits(images).value.argmax(1) == labels).mean())


def _arrays(given: Labelled) -> tuple[Float[np.ndarray, "n p"], Int[np.ndarray, " n"]]:
    return given.images.flatten(1).numpy(), given.labels.numpy()


def _smoothed(values: list[float], count: int) -> tuple[np.ndarray, np.ndarray]:
    count = min(count, len(values))
    return np.arange(count, len(values) + 1), np.convolve(values, np.full(count, 1 / count), "valid")


def edge_energy(x: Variable) -> Variable:
    """How strong the edges of a picture (1, 1, h, w) are in all: the length of its slope, summed over the pixels."""
    slopes = conv2d(x, EDGES)
    return (((slopes * slopes).sum(1) + SMOOTH) ** 0.5).sum()


def _convolution(report: Report, photo: Float[np.ndarray, "h w"], noise: float, steps: int,
                 generator: np.random.Generator, tell: Tell) -> None:  # fmt: skip
    """The gradient by every pixel through a convolution, and what descending it does."""
    x = Variable(photo[None, None])
    edge_energy(x).backward()
    assert x.grad is not None
    noisy = photo + noise * generator.normal(size=photo.shape)
    clean = Variable(noisy[None, None].copy())
    for step in range(steps):
        loss = ((clean - noisy) ** 2).sum() * 0.5 + edge_energy(clean) * noise
        loss.backward()
        assert clean.grad is not None
        clean.value = clean.value - 0.05 * clean.grad
        clean.grad = None
        tell(Step(step + 1, steps, "cleaning the photograph"))
    slope = np.hypot(*conv2d(photo[None, None], EDGES).value[0])
    cleaned = clean.value[0, 0]
    report.images("gradient", {"photograph": _grey(photo), "its edges": _grey(1 - 3 * slope),
                               "gradient by each pixel": _signed(x.grad[0, 0])},
                  "How strong all edges are is one number; its gradient comes back to every pixel through the "
                  "convolution: red where a brighter pixel would add to the edges, blue where take away.")  # fmt: skip
    report.images("cleaned", {f"with noise, {_psnr(noisy, photo):.1f} dB": _grey(noisy),
                              f"after {steps} steps, {_psnr(cleaned, photo):.1f} dB": _grey(cleaned)},
                  "Descending that gradient, while staying near the noisy picture, takes the noise away and leaves the "
                  "large edges: total variation denoising.")  # fmt: skip


def _signed(values: Float[np.ndarray, "h w"]) -> torch.Tensor:
    """Blue below zero, white at zero, red above; full colour from the value that one in twenty exceeds."""
    colors = colormaps["RdBu_r"](0.5 + 0.5 * values / max(np.quantile(np.abs(values), 0.95), 1e-12))
    return torch.from_numpy(colors[..., :3]).float().movedim(-1, 0)


def _grey(picture: Float[np.ndarray, "h w"]) -> torch.Tensor:
    return torch.from_numpy(picture.clip(0, 1)).float()[None]


def _psnr(picture: Float[np.ndarray, "h w"], truth: Float[np.ndarray, "h w"]) -> float:
    error = np.square(picture.clip(0, 1) - truth).mean()
    return float(-10 * np.log10(error)) if error else np.inf


def _against_torch(report: Report, photo: Float[np.ndarray, "1 1 h w"], generator: np.random.Generator) -> None:
    """A small CNN on the photograph: the gradient by each pixel and each kernel, ours and torch's."""
    kernels, label = generator.normal(size=(10, 1, 5, 5)), np.array([3])
    x, k = Variable(photo), Variable(kernels)
    maps = max_pool2d(conv2d(x, k, stride=2, padding=2).relu(), 2)
    softmax_cross_entropy(average_pool2d(maps, maps.shape[2]).reshape(1, 10), label).backward()
    X, K = torch.from_numpy(photo).requires_grad_(), torch.from_numpy(kernels).requires_grad_()
    peers = F.max_pool2d(F.conv2d(X, K, stride=2, padding=2).relu(), 2)
    F.cross_entropy(F.avg_pool2d(peers, maps.shape[2]).flatten(1), torch.from_numpy(label)).backward()
    assert x.grad is not None and k.grad is not None and X.grad is not None and K.grad is not None
    apart = max(np.abs(ours - theirs.numpy()).max() / (np.abs(theirs.numpy()).max() or 1)  # 0 on a black picture
                for ours, theirs in ((x.grad, X.grad), (k.grad, K.grad)))  # fmt: skip
    report.claim("2.3.x7", apart, high=1e-10, detail="largest difference from torch.autograd, as a share of the "
                 "largest gradient: convolution, ReLU, both poolings and cross-entropy on the photograph")  # fmt: skip
