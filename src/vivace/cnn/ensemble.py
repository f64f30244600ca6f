"""Ensemble: several networks vote with their probabilities; the vote is better than its average member.

Hansen, Salamon, "Neural network ensembles" (1990), sections II, III; the decomposition: Krogh, Vedelsby, "Neural
network ensembles, cross validation, and active learning" (1995), eq. 6; deep nets: Lakshminarayanan et al. (2017).
In: members that give logits (B, K). Out: the logarithm of their average probabilities (B, K).
Departs from the paper: members vote with probabilities, not with a class each; the errors are summed over classes.
"""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vivace.base.errors import InputError


class Ensemble(nn.Module):
    """Gives log((1/m) sum_i p_i) of its m members: as good as logits, as softmax of it is the average itself."""

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        if not self.members:
            raise InputError("an ensemble has at least one member")

    def forward(self, images: Float[Tensor, "b ..."]) -> Float[Tensor, "b k"]:
        logs = torch.stack([member(images).log_softmax(1) for member in self.members])
        return logs.logsumexp(0) - math.log(len(self.members))


def decomposition(probabilities: Float[Tensor, "m b k"], labels: Int[Tensor, " b"]) -> tuple[float, float, float]:
    """The members' mean squared error, their ambiguity, and the vote's error, which is the first less the second.

    A picture's squared error (Brier's score) is the sum over the classes of (probability - 1 or 0)^2; the ambiguity is
    the members' mean squared distance from their average: nothing is gained from members that all say the same.
    """
    target = nn.functional.one_hot(labels, probabilities.shape[2]).to(probabilities)
    average = probabilities.mean(0)
    members = (probabilities - target).square().sum(2).mean()
    ambiguity = (probabilities - average).square().sum(2).mean()
    return members.item(), ambiguity.item(), (average - target).square().sum(1).mean().item()
