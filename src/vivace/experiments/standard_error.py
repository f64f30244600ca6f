"""How far a mean of few measurements may be off: the spread of claims."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def two_standard_errors(values: Tensor | Float[np.ndarray, " n"] | Sequence[float]) -> float:
    """Two standard errors of the mean, from the sample's deviation."""
    values = torch.as_tensor(values)
    return 2 * float(values.std()) / len(values) ** 0.5
