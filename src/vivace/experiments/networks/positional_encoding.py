"""Experiment: positional encoding: what the code of a position says, and what a Transformer makes of it."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import AdamW

from vivace.base.drawing import GREY, PALETTE, drawing
from vivace.base.errors import InputError
from vivace.base.parameters import Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.classifier import warm_then_cosine
from vivace.networks import LearnedPositions, positional_encoding, rotary, shift_matrix

QUICK = {"steps": 300}

POSITIONS = 1000
LENGTH, LENGTHS = 32, (32, 64, 128)
TOKENS, BACK, BATCH, WIDTH = 16, 3, 32, 64
Kind = Literal["none", "sinusoidal", "learned", "sinusoidal, windows anywhere", "rotary"]
KINDS: tuple[Kind, ...] = ("none", "sinusoidal", "learned", "sinusoidal, windows anywhere", "rotary")


@checked
def run(*, dimension: Annotated[int, Ge(2), Le(1024)] = 64, steps: Annotated[int, Ge(20), Le(20_000)] = 800,
        seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """What sines and cosines say about a position, and how far a Transformer that learnt with them can reach.

    vivace run positional_encoding        30 s on two cores; trained at length 32, 100 % right there, 40 % at 128

    dimension: numbers in a code, an even number
    steps: of training for each small Transformer
    seed: the Transformers' initial weights and their random tokens
    """
    report = Report(
        "A position in sines and cosines",
        "$PE(p)_{2i} = \\sin(\\omega_i p)$ and $PE(p)_{2i+1} = \\cos(\\omega_i p)$ with $\\omega_i = 10000^{-2i/d}$. "
        "A step of $k$ positions is one rotation, $PE(p + k) = R_k PE(p)$, whatever $p$ is.",
    )
    codes = positional_encoding(torch.arange(POSITIONS, dtype=torch.float64), dimension)
    _show_codes(report, codes)
    _geometry(report, codes)
    _exponent(report)
    _attention(report, dimension, seed)
    _gradients(report, seed)
    _lengths(report, steps, seed, tell)
    return report


def _show_codes(report: Report, codes: Float[Tensor, "n d"]) -> None:
    figure, (left, right) = drawing(1, 2, width=10.5, height=4.2, width_ratios=(1.2, 1))
    shade = left.imshow(codes[:128].T.numpy(), cmap="RdBu_r", aspect="auto", vmin=-1, vmax=1, interpolation="nearest")
    left.set(xlabel="position", ylabel="number in the code (even: sine, odd: cosine)")
    left.grid(False)
    figure.colorbar(shade, ax=left, ticks=(-1, 0, 1))
    pairs = sorted({0, codes.shape[1] // 8, codes.shape[1] // 4, codes.shape[1] // 2 - 1})
    for i, color in zip(pairs, PALETTE, strict=False):
        length = 2 * math.pi * 10_000 ** (2 * i / codes.shape[1])
        right.plot(codes[:128, 2 * i] + 2.4 * pairs.index(i), color=color, label=f"pair {i}: {length:,.1f} positions")
    right.set(
        xlabel="position", yticks=(), ylim=(-1.3, 2.4 * len(pairs) + 1.5), title="sines, from the fast to the slow"
    )
    right.legend(frameon=False, fontsize=8, loc="upper right", title="wavelength", ncols=2)
    report.figure("codes", figure, "Each column is the code of one position: a clock with many hands. The first "
                  "numbers tell neighbours apart, the last ones distant places.")  # fmt: skip


def _geometry(report: Report, codes: Float[Tensor, "n d"]) -> None:
    d = codes.shape[1]
    apart = torch.cdist(codes, codes)
    nearest = apart.masked_fill(torch.eye(len(codes), dtype=torch.bool), math.inf).min()
    report.claim(
        "3.6.c1", nearest, low=0.01, detail=f"least distance between the codes of {POSITIONS} positions, d = {d}"
    )
    report.claim("3.6.c2", codes.abs().max(), high=1, detail=f"largest size of a number in these codes; from "
                 f"{codes.min():.6f} to {codes.max():.6f}")  # fmt: skip
    turned = [(codes[:-k] @ shift_matrix(k, d).T - codes[k:]).abs().max().item() for k in (1, 7, 100, 500)]
    report.claim("3.6.c3", max(turned), high=1e-9, detail="largest difference between R_k PE(p) and PE(p + k), k = 1, "
                 f"7, 100, 500, all p below {POSITIONS}")  # fmt: skip
    products = codes @ codes.T
    offsets = torch.arange(POSITIONS // 2)
    at = [products[a, a + offsets] for a in (0, POSITIONS // 2 - 1)]
    report.claim("3.6.c4", (at[0] - at[1]).abs().max(), high=1e-9, detail="largest difference of PE(p) PE(p + k) "
                 f"between p = 0 and p = {POSITIONS // 2 - 1}, k below {POSITIONS // 2}")  # fmt: skip
    distance = apart[0]
    falls = 1 + torch.nonzero(distance.diff() < 0)[:, 0]
    report.claim("3.6.c5", len(falls), high=0, unit="offsets", detail=f"of {POSITIONS - 1} at which the codes come "
                 f"nearer again; the first is {int(falls[0]) if len(falls) else 'none'}; at 50 positions the "
                 f"distance is {distance[50]:.3f}, at 100 {distance[100]:.3f}")  # fmt: skip
    figure, (left, right) = drawing(1, 2, width=9.5, height=3.6)
    left.plot(distance[:201], color=PALETTE[0])
    left.set(xlabel="offset k", ylabel="distance of the codes", ylim=(0, None), title="rises, but not steadily")
    right.imshow(products[:101, :101].numpy(), cmap="viridis", interpolation="nearest")
    right.set(xlabel="position", ylabel="position", title="inner products: the same along each diagonal")
    right.grid(False)
    report.figure("distances", figure, "Distance and inner product depend on the offset alone, but farther apart is "
                  "not always less alike.")  # fmt: skip


def _exponent(report: Report) -> None:
    """The divisor of pair 1 at d = 64, read off the code itself."""
    sine, cosine = positional_encoding(torch.tensor(1.0, dtype=torch.float64), 64)[2:4]
    divisor = 1 / torch.atan2(sine, cosine).item()
    literal = 10_000 * 2 / 64
    report.claim("3.6.x1", divisor, low=0.99 * literal, high=1.01 * literal, detail="p is divided by this in pair 1 "
                 f"of a code of 64; 10000^(2/64) = {10_000 ** (2 / 64):.4f}, 10000 (2/64) = {literal}, and pair 0 "
                 "would be divided by zero")  # fmt: skip


@torch.no_grad()
def _attention(report: Report, d: int, seed: int) -> None:
    """A Transformer layer of torch's on tokens and on the same tokens in another order, with codes and without."""
    torch_layer = _seeded_encoder(d, 1, seed)
    generator = torch.Generator().manual_seed(seed)
    x, order = torch.randn(1, 40, d, generator=generator), torch.randperm(40, generator=generator)
    codes = positional_encoding(torch.arange(40.0), d)
    plain = (torch_layer(x)[:, order] - torch_layer(x[:, order])).abs().max()
    coded = (torch_layer(x + codes)[:, order] - torch_layer(x[:, order] + codes)).abs().max()
    report.claim("3.6.c7", plain, high=1e-4, detail="largest difference between 'attend, then reorder' and 'reorder, "
                 f"then attend', 40 tokens of {d} numbers, torch's encoder layer")  # fmt: skip
    report.claim(
        "3.6.x2", coded, high=1e-4, detail="the same where the code of its place was added to each token first"
    )


def _seeded_encoder(d: int, layers: int, seed: int) -> nn.TransformerEncoder:
    """torch's encoder, as in the paper (normalised after each part), with weights from the seed."""
    heads = next(h for h in (4, 2, 1) if d % h == 0)
    layer = nn.TransformerEncoderLayer(d, heads, 2 * d, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            nn.init.xavier_uniform_(parameter, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return model


def _gradients(report: Report, seed: int) -> None:
    """How much of the gradient at the last of six layers arrives at the first, with codes and without."""
    ratios: dict[bool, list[float]] = {True: [], False: []}
    for i in range(8):
        generator = torch.Generator().manual_seed(seed + i)
        model = _seeded_encoder(WIDTH, 6, seed + i)
        embedded = torch.randn(TOKENS, WIDTH, generator=generator)
        head = torch.randn(WIDTH, TOKENS, generator=generator) / WIDTH**0.5
        tokens = torch.randint(TOKENS, (16, LENGTH), generator=generator)
        for coded, found in ratios.items():
            x = embedded[tokens] + (positional_encoding(torch.arange(float(LENGTH)), WIDTH) if coded else 0)
            outputs: list[Tensor] = []
            for layer in model.layers:
                x = layer(x)
                outputs.append(x)
            loss = F.cross_entropy((x @ head)[:, BACK:].flatten(0, 1), tokens[:, :-BACK].flatten())
            first, last = torch.autograd.grad(loss, [outputs[0], outputs[-1]])
            found.append((first.norm() / last.norm()).item())
    change = torch.tensor(ratios[True]).log() - torch.tensor(ratios[False]).log()
    more = math.exp(change.mean().item())
    spread = more * 2 * change.std().item() / len(change) ** 0.5
    report.claim("3.6.c9", more, low=1.2, spread=spread, detail="how many times more of the "
                 "gradient at the last of six layers arrives at the first when codes are added; eight Transformers at "
                 f"their start; {_mean(ratios[True]):.2f} with, {_mean(ratios[False]):.2f} without")  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


class Reader(nn.Module):
    """One Transformer layer that must name, at each place, the token that stood three places before."""

    def __init__(self, kind: Kind, generator: torch.Generator) -> None:
        super().__init__()
        self.kind = kind
        self.embedding = nn.Embedding(TOKENS, WIDTH)
        self.learned = LearnedPositions(LENGTH, WIDTH, generator=generator)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))
        self.named = nn.Linear(WIDTH, TOKENS)
        nn.init.normal_(self.embedding.weight, generator=generator)
        for layer in (module for module in self.modules() if isinstance(module, nn.Linear)):
            nn.init.normal_(layer.weight, std=(3 * layer.in_features) ** -0.5, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Int[Tensor, "b n"], start: int = 0) -> Float[Tensor, "b n k"]:
        """Logits at each place, the first of which counts as position `start`."""
        positions = torch.arange(start, start + tokens.shape[1], dtype=torch.float32)
        x = self.embedding(tokens)
        if self.kind.startswith("sinusoidal"):
            x = x + positional_encoding(positions, WIDTH)
        elif self.kind == "learned":
            x = x + self.learned(positions)
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(b, n, 3, 2, -1).permute(2, 0, 3, 1, 4)  # two heads
        if self.kind == "rotary":
            q, k = rotary(q, positions), rotary(k, positions)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        x = x + self.mlp(self.norms[1](x))
        return self.named(self.norms[2](x))


def train_reader(kind: Kind, steps: int, seed: int) -> Reader:
    """A reader that has learnt on sequences of 32 random tokens."""
    generator = torch.Generator().manual_seed(seed)
    model = Reader(kind, generator)
    optimizer = AdamW(model.parameters(), lr=3e-3, fused=True)
    schedule = warm_then_cosine(optimizer, steps)
    for _ in range(steps):
        tokens = torch.randint(TOKENS, (BATCH, LENGTH), generator=generator)
        start = int(torch.randint(LENGTHS[-1] - LENGTH + 1, (), generator=generator)) if "anywhere" in kind else 0
        loss = F.cross_entropy(model(tokens, start)[:, BACK:].flatten(0, 1), tokens[:, :-BACK].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model


@torch.no_grad()
def right_by_place(model: Reader, length: int, seed: int) -> Float[Tensor, " n"]:
    """The share of right answers at each place, % (from the fourth on), on 256 new sequences of that length."""
    tokens = torch.randint(TOKENS, (256, length), generator=torch.Generator().manual_seed(seed + 1))
    return 100 * (model(tokens).argmax(-1)[:, BACK:] == tokens[:, :-BACK]).float().mean(0)


def _lengths(report: Report, steps: int, seed: int, tell: Tell) -> None:
    rows, reached = [], {}
    figure, ax = drawing(width=7.2)
    for i, (kind, color) in enumerate(zip(KINDS, (GREY, *PALETTE), strict=False)):
        tell(Step(i, len(KINDS), f"training with positions: {kind}"))
        model = train_reader(kind, steps, seed)
        said: list[str] = []
        for length in LENGTHS:
            try:
                right = right_by_place(model, length, seed)
            except InputError:
                said.append("no codes")
                continue
            reached[kind, length] = right.mean().item()
            said.append(f"{reached[kind, length]:.1f}")
            last = right
        ax.plot(range(BACK, BACK + len(last)), last, color=color, label=kind, linewidth=1.3)
        rows.append((kind, *said))
    tell(Step(len(KINDS), len(KINDS), "done"))
    report.table("lengths", ("positions", *(f"right at length {length}, %" for length in LENGTHS)), rows,
                 f"One layer of attention, {steps} steps at length {LENGTH}: name the token {BACK} places before; a "
                 f"guess is right in {100 / TOKENS:.1f} %.")  # fmt: skip
    ax.axvline(LENGTH - 0.5, color=GREY, linewidth=0.8)
    ax.set(xlabel="position", ylabel="right, %", ylim=(0, 118), yticks=range(0, 101, 20))
    ax.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")
    report.figure("reach", figure, "Trained left of the grey line. Sinusoidal codes exist beyond it, but what was "
                  "learnt on the first 32 does not carry on; learned ones end.")  # fmt: skip
    longest = LENGTHS[-1]
    lost = reached["sinusoidal", LENGTH] - reached["sinusoidal", longest]
    at = ", ".join(f"{reached['sinusoidal', length]:.1f} % at {length}" for length in LENGTHS)
    report.claim("3.6.c6", lost, high=5, unit="points", detail=f"accuracy lost from length {LENGTH}, which was "
                 f"trained on, to {longest}: {at}")  # fmt: skip
    for id_, kind in (("3.6.x3", KINDS[3]), ("3.6.x4", "rotary")):
        gained = reached[kind, longest] - reached["sinusoidal", longest]
        report.claim(id_, gained, low=15, unit="points", detail=f"more right at length {longest} than with sinusoidal "
                     f"codes from 0: {reached[kind, longest]:.1f} %")  # fmt: skip
    report.claim("3.6.x5", reached["sinusoidal", LENGTH] - reached["none", LENGTH], low=50, unit="points",
                 detail=f"accuracy gained at length {LENGTH} by adding the code; without "
                 f"{reached['none', LENGTH]:.1f} %")  # fmt: skip
