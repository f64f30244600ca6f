"""Experiment: the losses of style transfer, side by side on the same pictures."""

from collections.abc import Callable, Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from vivace.base.images import heat_colors, read_image, reduce_to, resize, total_variation
from vivace.base.parameters import ImagePath, Seed, checked
from vivace.base.report import Report, Step, Tell, ignore
from vivace.experiments.loss_network import loss_network
from vivace.experiments.style.gram import shuffled_tiles
from vivace.style import (
    See,
    backbone_distance,
    content_loss,
    feature_statistics,
    gram_matrix,
    seeing,
    sliced_wasserstein,
    ssim,
    ssim_map,
    ssim_terms,
    statistics_distance,
    style_distance,
)

QUICK = {"size": 80, "steps": 6}

Distance = Callable[[Tensor, Tensor], Tensor]  # of two batches of pictures
CONTENT_WEIGHT, SMOOTHNESS, RATE = 0.2, 0.1, 0.02
TILE, MIDDLE = 16, 3  # pixels; which of the style's maps is plotted


@checked
def run(*, content: ImagePath = "astronaut", style: ImagePath = "swirls", size: Annotated[int, Ge(64), Le(512)] = 160,
        steps: Annotated[int, Ge(4), Le(1000)] = 40, seed: Seed = 0, tell: Tell = ignore) -> Report:  # fmt: skip
    """What each loss of style transfer sees, and what it does not.

    vivace run losses        50 s on two cores; SSIM misses a style in shuffled tiles, the Gram loss sees it

    content: a photograph
    style: a picture whose strokes and colours are to be recognised
    size: the side in pixels that both are brought to
    steps: of the optimiser, for each picture that is made
    seed: of noise, shuffled tiles and directions
    """
    photo, painting = (resize(reduce_to(read_image(path), 2 * size), (size, size))[None] for path in (content, style))
    see = seeing(*loss_network())
    report = Report(
        "What each loss of style transfer sees",
        "A loss says which differences count. **Pixel** and **feature** losses and **SSIM** compare position by "
        "position: they hold the content. **Gram**, **mean and deviation** and **sliced Wasserstein** forget "
        "positions: they hold the style. Optimised is $L = \\alpha L_c + \\beta L_s + \\gamma TV$.",
    )
    lab = Lab(see, photo, painting, steps, seed, tell)
    _outliers(report, photo, seed)
    _three_terms(report, photo, seed)
    _equal_errors(report, photo, seed)
    with torch.no_grad():
        _scale(report, see, photo, painting)
        _sizes(report, see, photo, painting)
    made = lab.three_styles(report)
    with torch.no_grad():
        lab.who_sees_what(report, made)
    lab.sharpness(report)
    return report


def _outliers(report: Report, photo: Tensor, seed: int) -> None:
    """Little noise everywhere, and one pixel in a hundred turned to its opposite."""
    generator = torch.Generator().manual_seed(seed)
    noise = 0.04 * torch.rand(photo.shape, generator=generator) - 0.02
    bad = torch.rand(photo[:, :1].shape, generator=generator) < 0.01
    spoilt = torch.where(bad, 1 - photo, photo + noise)
    only_bad = torch.where(bad, spoilt, photo)
    shares = [float(content_loss(only_bad, photo, power=p) / content_loss(spoilt, photo, power=p)) for p in (2, 1)]
    errors = torch.full((1, 1, 10, 10), 0.1)
    errors[..., 0, 0] = 10
    zero = torch.zeros_like(errors)
    book = [float(10**p / 100 / content_loss(errors, zero, power=p)) for p in (2, 1)]
    report.claim("6.3.c1", measured=shares[1] / shares[0], high=0.9,
                 detail=f"share of the loss that 1 % inverted pixels have: {shares[1]:.1%} (MAE) over {shares[0]:.1%} "
                        f"(L2); one error of 10 among 99 of 0.1: {book[1]:.1%} and {book[0]:.1%}")  # fmt: skip


def _three_terms(report: Report, photo: Tensor, seed: int) -> None:
    """A third brighter, a third with less contrast, a third with noise: each is seen by its own term."""
    third = photo.shape[-1] // 3
    x = 0.15 + 0.7 * photo.double()
    y = x.clone()
    y[..., :third] += 0.15
    middle = x[..., third : 2 * third]
    y[..., third : 2 * third] = middle.mean((2, 3), keepdim=True) + 0.4 * (middle - middle.mean((2, 3), keepdim=True))
    signs = torch.randn(y[..., 2 * third :].shape, generator=torch.Generator().manual_seed(seed), dtype=y.dtype)
    y[..., 2 * third :] += 0.1 * signs
    terms, whole = ssim_terms(x, y), ssim_map(x, y)
    product = terms.luminance * terms.contrast * terms.structure
    other = ssim_terms(x, y, C3=9e-4)
    off = float((other.luminance * other.contrast * other.structure - whole).abs().max())
    report.claim("6.3.c2", measured=float((product - whole).abs().max()), high=1e-5,
                 detail=f"largest gap of l c s with C3 = C2 / 2 from the two-term SSIM ({whole.numel()} windows); "
                        f"with C3 = C2 it is {off:.2f}")  # fmt: skip
    means = [float(term.mean()) for term in terms]
    of_means = means[0] * means[1] * means[2]
    report.claim("6.3.x1", measured=abs(of_means - float(whole.mean())), high=1e-3,
                 detail=f"product of the terms' means {of_means:.3f}, mean SSIM {float(whole.mean()):.3f}")  # fmt: skip
    maps = {"luminance": terms.luminance, "contrast": terms.contrast, "structure": terms.structure, "SSIM": whole}
    shown = {f"{name}, mean {float(m.mean()):.2f}": heat_colors(m[0].mean(0)) for name, m in maps.items()}
    report.images("terms", {"picture": x[0].float(), "changed": y[0].float().clamp(0, 1), **shown},
                  "Left third brighter, middle third flatter, right third noisy. Each term sees its own change; red "
                  "is 1, blue 0 or less.", columns=3)  # fmt: skip


def _equal_errors(report: Report, photo: Tensor, seed: int) -> None:
    """Every pixel 0.1 off: all up, or each up or down by chance. The squared error is the same to the digit."""
    x = 0.15 + 0.7 * photo
    signs = torch.randint(0, 2, x.shape, generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
    shown, values = {"picture": x[0]}, []
    for name, y in {"brighter": x + 0.1, "noise": x + 0.1 * signs}.items():
        values.append(float(ssim(x, y)))
        shown[f"{name}: L2 {float(content_loss(y, x)):.4f}, SSIM {values[-1]:.3f}"] = y[0]
    report.images("equal_errors", shown, "The same squared error twice; SSIM tells them apart.")
    report.claim("6.3.c3", measured=values[0] - values[1], low=0.2,
                 detail=f"SSIM {values[0]:.3f} (brighter by 0.1) less {values[1]:.3f} (noise of 0.1), both with a "
                        "squared error of 0.0100")  # fmt: skip


def _scale(report: Report, see: See, photo: Tensor, painting: Tensor) -> None:
    """Features ten times as large, such as a network's with other weights: the printed formula follows them."""
    f, g = (see(picture)[1][:-1] for picture in (photo, painting))
    ten_f, ten_g = ([10 * maps for maps in all_maps] for all_maps in (f, g))

    def printed(one: list[Tensor], other: list[Tensor]) -> float:
        return sum(float((a - b).norm()) for a, b in zip(one, other, strict=True))

    plain, scaled = printed(f, g), printed(ten_f, ten_g)
    report.claim("6.3.c4", measured=scaled / plain, low=0.9, high=1.1,
                 detail=f"sum over layers of the differences' lengths, as printed: {plain:.1f}, and {scaled:.1f} with "
                        "features ten times as large")  # fmt: skip
    once, ten = float(backbone_distance(f, g)), float(backbone_distance(ten_f, ten_g))
    report.claim("6.3.x2", measured=ten / once, low=0.999, high=1.001,
                 detail=f"features of unit length: {once:.4f} and {ten:.4f} (equal weights, our backbone: not LPIPS "
                        "itself)")  # fmt: skip


def _sizes(report: Report, see: See, photo: Tensor, painting: Tensor) -> None:
    """Both pictures laid 2 x 2: the same two textures, four times as many positions."""
    ratios, grams = [], 0.0
    for divide in (False, True):
        losses = []
        for times in (1, 2):
            F, P = (see(p.repeat(1, 1, times, times))[1][0] for p in (photo, painting))
            G, A = gram_matrix(F, divide=divide), gram_matrix(P, divide=divide)
            losses.append(float((G - A).square().sum()))
            grams = float(A.norm()) / grams if times == 2 and not divide else grams or float(A.norm())
        ratios.append(losses[1] / losses[0])
    report.claim("6.3.c7", measured=ratios[0], low=0.9, high=1.1,
                 detail=f"Gram loss of the two pictures laid 2 x 2 over that of the pictures, summed over positions "
                        f"(the style's Gram: {grams:.2f} times); divided by H W {ratios[1]:.2f}")  # fmt: skip


class Lab:
    """Pictures that are made by minimising one loss or another, and what all losses say of pairs."""

    def __init__(self, see: See, photo: Tensor, painting: Tensor, steps: int, seed: int, tell: Tell) -> None:
        self.see, self.photo, self.painting, self.steps, self.seed, self.tell = see, photo, painting, steps, seed, tell
        with torch.no_grad():
            self.content, self.styles = see(photo)[0], see(painting)[1]
            self.photo_styles = see(photo)[1]
        self.done, self.total = 0, 5 * steps
        generator = torch.Generator().manual_seed(seed)
        self.style_losses: Mapping[str, Callable[[list[Tensor], list[Tensor]], Tensor]] = {
            "Gram": lambda f, g: style_distance(f, g, relative=True).sum(),
            "mean and deviation": lambda f, g: statistics_distance(f, g).sum(),
            "sliced Wasserstein": lambda f, g: torch.stack(
                [sliced_wasserstein(a, b, generator=generator).sum() / b.square().sum(1).mean()
                 for a, b in zip(f, g, strict=True)]
            ).sum(),
        }  # fmt: skip

    def descend(self, name: str, loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
        """Adam on the pixels."""
        x = start.clone().requires_grad_()
        optimizer = torch.optim.Adam([x], lr=RATE)
        for _ in range(self.steps):
            value = loss(x)
            (x.grad,) = torch.autograd.grad(value, x)
            optimizer.step()
            with torch.no_grad():
                x.clamp_(0, 1)
            self.done += 1
            self.tell(Step(self.done, self.total, name, {"loss": float(value.detach())}, x.detach()[0].clone()))
        return x.detach()

    def three_styles(self, report: Report) -> Tensor:
        """The photograph with each of the style losses, all else equal; the one made with Grams is returned."""
        shown = {"content": self.photo[0], "style": self.painting[0]}
        sizes = [p.square().mean() for p in self.content]
        for name, distance in self.style_losses.items():
            with torch.no_grad():
                scale = distance(self.photo_styles, self.styles)  # at the start every style loss is 1

            def loss(x: Tensor, distance: Callable[..., Tensor] = distance, scale: Tensor = scale) -> Tensor:
                content, styles = self.see(x)
                c = sum(content_loss(f, p).sum() / s for f, p, s in zip(content, self.content, sizes, strict=True))
                return CONTENT_WEIGHT * c + distance(styles, self.styles) / scale + SMOOTHNESS * total_variation(x)

            shown[name] = self.descend(name, loss, self.photo)[0]
        report.images("styles", shown, f"The same photograph after {self.steps} steps of Adam; only the style loss "
                      "differs. Content and total variation count the same in all three.")  # fmt: skip
        with torch.no_grad():
            of = {
                name: feature_statistics(self.see(shown[name][None])[1][MIDDLE])[1][0]
                for name in ("content", "style", "mean and deviation")
            }
        report.curve("deviations", {name: (of["style"], of[name]) for name in ("content", "mean and deviation")},
                     x="deviation of a channel in the style", y="in the picture", points=True,
                     caption="A point is a channel of a middle layer: before, and in the picture made to have the "
                             "style's means and deviations. On the diagonal both are the same.")  # fmt: skip
        return shown["Gram"][None]

    def who_sees_what(self, report: Report, stylised: Tensor) -> None:
        """Every loss of three pairs, relative to the pair in which both content and style differ."""
        tiles = shuffled_tiles(self.painting[0], TILE, torch.Generator().manual_seed(self.seed))[None]
        side = tiles.shape[-1]
        photo, painting, stylised = (p[..., :side, :side] for p in (self.photo, self.painting, stylised))
        losses: dict[str, Distance] = {
            "L2 of pixels": content_loss,
            "MAE of pixels": lambda x, y: content_loss(x, y, power=1),
            "1 - SSIM": lambda x, y: 1 - ssim(x, y),
            "L2 of features (content)": lambda x, y: content_loss(self.see(x)[0][0], self.see(y)[0][0]),
            "unit features, equal weights (not LPIPS)": lambda x, y: backbone_distance(
                self.see(x)[1][:-1], self.see(y)[1][:-1]
            ),
        }
        losses |= {name: self.of_pictures(distance) for name, distance in self.style_losses.items()}
        rows, of_tiles = [], {}
        for name, loss in losses.items():
            both = float(loss(photo, painting))
            kept, moved = float(loss(photo, stylised)) / both, float(loss(painting, tiles)) / both
            of_tiles[name] = moved
            rows.append((name, f"{kept:.2f}", f"{moved:.2f}", "content" if kept < moved else "style"))
        report.images("pairs", {"photo": photo[0], "its content in the style": stylised[0], "style": painting[0],
                                f"its tiles of {TILE} shuffled": tiles[0]})  # fmt: skip
        report.table("who_sees_what", ("loss", "same content, new style", "same style, new order", "holds on to"), rows,
                     "Each loss between two pictures, over the same loss between the photo and the style. Small in the "
                     "first column: it follows the content. Small in the second: the style.")  # fmt: skip
        report.claim("6.3.c6", measured=of_tiles["1 - SSIM"], high=0.5,
                     detail="1 - SSIM of the style and its own shuffled tiles, over that of the style and the photo; "
                            f"the Gram loss: {of_tiles['Gram']:.2f}")  # fmt: skip

    def of_pictures(self, distance: Callable[[list[Tensor], list[Tensor]], Tensor]) -> Distance:
        return lambda x, y: distance(self.see(x)[1], self.see(y)[1])

    def sharpness(self, report: Report) -> None:
        """Where targets agree, both losses seek the same picture; else L2 seeks their mean, MAE their median."""
        start = torch.full_like(self.photo, 0.5)
        scales = [p.abs().mean() for p in self.photo_styles]
        shown, tv = {"picture": self.photo[0]}, {}
        for power, name in ((2, "L2"), (1, "MAE")):

            def loss(x: Tensor, power: int = power) -> Tensor:
                pairs = zip(self.see(x)[1], self.photo_styles, scales, strict=True)
                return torch.stack([content_loss(f / s, p / s, power=power).sum() for f, p, s in pairs]).sum()

            made = self.descend(f"features by {name}", loss, start)
            shown[f"features, {name}"], tv[f"features, {name}"] = made[0], float(total_variation(made))
        shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        shifted = torch.cat([self.photo.roll(shift, (2, 3)) for shift in shifts])
        generator = torch.Generator().manual_seed(self.seed)
        specks = torch.rand(shifted[:, :1].shape, generator=generator) < 0.1
        for case, targets in (("shifted", shifted), ("specked", torch.where(specks, 1 - self.photo, self.photo))):
            best = {"L2": targets.mean(0), "MAE": targets.median(0).values}  # the exact minimisers
            shown |= {f"9 {case} targets, {name}": made for name, made in best.items()}
            tv |= {f"{case}, {name}": float(total_variation(made[None])) for name, made in best.items()}
        one, shift, speck = (tv[f"{case}, MAE"] / tv[f"{case}, L2"] for case in ("features", "shifted", "specked"))
        report.images("sharpness", shown, "Made to have one target's features, from grey; and the best answer to nine "
                      "targets that disagree, by a shift of a pixel or by 10 % of inverted pixels: their mean (L2) and "
                      "their median (MAE), which here keeps edges and there drops specks.", columns=4)  # fmt: skip
        report.claim("6.3.c8", measured=min(shift, speck), low=1.05,
                     detail=f"total variation, MAE's over L2's: {shift:.2f} for nine shifted targets, {speck:.2f} for "
                            f"nine with specks; the smaller. One target's features, {self.steps} steps: {one:.2f}"
                    )  # fmt: skip
