"""Distillation against F.kl_div, the gradient of the paper's cross-entropy, and its limit at high temperature."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vivace.base.errors import InputError
from vivace.cnn import distillation_loss

LABELS = torch.tensor([0, 3, 2, 1, 4, 4])
Loss = Callable[..., Tensor]


def logits(seed: int) -> Tensor:
    return 3 * torch.randn(6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def is_distillation(loss: Loss) -> bool:
    for T, soft in ((1.0, 0.5), (4.0, 0.9), (20.0, 1.0)):
        student, teacher = logits(0).requires_grad_(), logits(1)
        kl = F.kl_div((student / T).log_softmax(1), (teacher / T).softmax(1), reduction="batchmean")
        reference = soft * T**2 * kl + (1 - soft) * F.cross_entropy(student, LABELS)
        found = loss(student, teacher, LABELS, temperature=T, soft=soft)
        cross = F.cross_entropy(student / T, (teacher / T).softmax(1))  # the paper's soft targets
        paper = soft * T**2 * cross + (1 - soft) * F.cross_entropy(student, LABELS)
        (ours,), (theirs,) = torch.autograd.grad(found, student), torch.autograd.grad(paper, student)
        if not (torch.allclose(found, reference) and torch.allclose(ours, theirs)):
            return False
    return True


def test_is_kl_and_cross_entropy() -> None:
    assert is_distillation(distillation_loss)


def without_t_squared(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float, soft: float) -> Tensor:
    part = partial(distillation_loss, student, teacher, labels)
    return part(temperature=temperature, soft=soft) - (1 - temperature**-2) * soft * distillation_loss(
        student, teacher, None, temperature=temperature, soft=1
    )


def the_other_way_round(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float, soft: float) -> Tensor:
    p, q = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
    kl = (p * (p.log() - q.log())).sum(1).mean()
    return soft * temperature**2 * kl + (1 - soft) * F.cross_entropy(student, labels)


def hard_part_softened(student: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float, soft: float) -> Tensor:
    loss = distillation_loss(student, teacher, None, temperature=temperature, soft=1)
    return soft * loss + (1 - soft) * F.cross_entropy(student / temperature, labels)


@pytest.mark.parametrize("mutant", [without_t_squared, the_other_way_round, hard_part_softened])
def test_rejects(mutant: Loss) -> None:
    assert not is_distillation(mutant)


def test_at_high_temperature_it_matches_centred_logits() -> None:
    """Section 2.1 of the paper: the gradient tends to the difference of the centred logits over the classes."""
    student, teacher = logits(0).requires_grad_(), logits(1)
    loss = distillation_loss(student, teacher, None, temperature=1e4, soft=1)
    (gradient,) = torch.autograd.grad(loss, student)
    centred = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    assert torch.allclose(gradient, centred.detach() / (5 * 6), atol=1e-4)


def test_nothing_to_learn_from_oneself_nor_gradient_for_the_teacher() -> None:
    teacher = logits(1).requires_grad_()
    assert abs(distillation_loss(logits(1), teacher, None, soft=1).item()) < 1e-12
    assert not distillation_loss(logits(1), teacher, None, soft=1).requires_grad
    sure = torch.tensor([[1e4, 0, 0, 0, 0]], dtype=torch.float64)
    assert torch.isfinite(distillation_loss(logits(0)[:1], sure, LABELS[:1]))


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"temperature": -1}, {"soft": 1.1}, {"soft": -0.1}])
def test_bad_input(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        distillation_loss(logits(0), logits(1), LABELS, **wrong)
    with pytest.raises(InputError, match="no labels"):
        distillation_loss(logits(0), logits(1), None)
