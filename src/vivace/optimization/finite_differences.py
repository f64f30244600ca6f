"""Finite differences: move one weight at a time and look how the loss changes; the gradient without any calculus.

Nocedal, Wright, "Numerical optimization" (2006), section 8.1; the complex step is that of Squire, Trapp, "Using complex
variables to estimate derivatives of real functions" (1998).
In: a function of an array to a number, and the array, float64. Out: the gradient, of the array's shape.
Departs from the paper: one step for all weights, not one for the size of each.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Inexact

from vivace.base.errors import InputError, unknown

Scheme = Literal["forward", "central", "complex"]
Array = Float[np.ndarray, "..."]
Loss = Callable[[Inexact[np.ndarray, "..."]], Any]  # to a number

EPSILON = np.finfo(np.float64).eps
# the step at which the error of cutting the series and that of rounding are equal, for a function of the size of 1
STEPS: dict[str, float] = {"forward": EPSILON ** (1 / 2), "central": EPSILON ** (1 / 3), "complex": 1e-100}


def finite_differences(f: Loss, w: Array, *, scheme: Scheme = "central", step: float | None = None) -> Array:
    """The gradient of f at w, for n weights with n + 1 evaluations (forward), 2n (central) or n (complex).

    The error shrinks with the step (forward), or its square (central, complex), until rounding takes over: at a
    difference of nearly equal numbers, which the complex step hasn't. That one needs an f that takes complex arrays.
    """
    if scheme not in STEPS:
        raise unknown("scheme", scheme, STEPS)
    h = STEPS[scheme] if step is None else step
    if not h > 0:
        raise InputError(f"the step has to be above 0, not {h}")
    point = np.array(w, np.complex128 if scheme == "complex" else np.float64)
    start = f(point) if scheme == "forward" else 0.0
    gradient = np.empty(point.shape)
    for i in np.ndindex(point.shape):
        here = point[i]
        match scheme:
            case "forward":
                point[i] = here + h
                gradient[i] = (f(point) - start) / h
            case "central":
                point[i] = here + h
                above = f(point)
                point[i] = here - h
                gradient[i] = (above - f(point)) / (2 * h)
            case "complex":
                point[i] = here + 1j * h
                gradient[i] = f(point).imag / h
        point[i] = here
    return gradient


def relative_error(found: Array, truth: Array) -> float:
    """How far two gradients are apart: the length of their difference, as a share of the longer one's."""
    longer = max(np.linalg.norm(found), np.linalg.norm(truth))
    return float(np.linalg.norm(np.subtract(found, truth)) / longer) if longer else 0.0


def check_gradient(f: Loss, w: Array, gradient: Array, *, tolerance: float = 1e-5) -> float:
    """The relative error of `gradient` against central differences; InputError, naming a weight, where too large."""
    truth = finite_differences(f, w)
    if np.shape(gradient) != truth.shape:
        raise InputError(f"the gradient has shape {np.shape(gradient)}, the weights {truth.shape}")
    error = relative_error(gradient, truth)
    if not error <= tolerance:
        worst = np.unravel_index(np.argmax(np.abs(gradient - truth)), truth.shape)
        place = ", ".join(map(str, worst))
        raise InputError(f"the gradient is off by {error:.1e} (more than {tolerance:.0e}); worst at weight [{place}]: "
                         f"{gradient[worst]:.6g}, by central differences {truth[worst]:.6g}")  # fmt: skip
    return error
