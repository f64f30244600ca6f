"""Knowledge distillation: a small network learns a large one's whole answer, not only the right class.

Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network" (2015), section 2.
In: logits of student and teacher (B, K), labels (B,). Out: the loss, one number.
Departs from the paper: the soft part is the divergence KL(teacher || student), which has the same gradient as the
paper's cross-entropy and is zero where both agree.
"""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vivace.base.errors import InputError


def distillation_loss(student: Float[Tensor, "b k"], teacher: Float[Tensor, "b k"], labels: Int[Tensor, " b"] | None,
                      *, temperature: float = 4.0, soft: float = 0.9) -> Float[Tensor, ""]:  # fmt: skip
    """`soft` T^2 KL(teacher || student), both softened by T, and 1 - `soft` times the cross-entropy with the labels.

    Gradients of softened probabilities shrink with 1 / T^2: the factor keeps both parts in proportion whatever T is.

    temperature: 1 or so: the teacher's own probabilities; large: its logits up to a constant
    labels: None where there are none, with soft=1: a teacher can also name pictures without labels
    """
    if not temperature > 0:
        raise InputError(f"a temperature is above 0; got {temperature}")
    if not 0 <= soft <= 1 or (labels is None and soft != 1):
        raise InputError(f"soft={soft}: a share, 0 to 1, and 1 where there are no labels")
    p = (teacher.detach() / temperature).softmax(1)
    log_q = (student / temperature).log_softmax(1)
    divergence = (p * (p.clamp(min=1e-30).log() - log_q)).sum(1).mean()
    loss = soft * temperature**2 * divergence
    return loss if labels is None else loss + (1 - soft) * F.cross_entropy(student, labels)
