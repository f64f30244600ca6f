"""Style attention against a loop and PyTorch's own, and against AdaIN where it looks everywhere alike."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vivace.base.errors import InputError
from vivace.style import StyleAttention, StyleAttentionNet, adaptive_instance_norm, attend, attention_weights
from vivace.style.style_attention import CHUNK, normalized, tokens

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def naive(Q: Tensor, K: Tensor, V: Tensor, scale: float) -> Tensor:
    """Picture by picture, query by query, key by key."""
    out = torch.zeros(*Q.shape[:2], V.shape[2])
    for b in range(len(Q)):
        for i, q in enumerate(Q[b]):
            weights = torch.stack([(q * k).sum() * scale for k in K[b]]).exp()
            out[b, i] = sum(w * v for w, v in zip(weights / weights.sum(), V[b], strict=True))
    return out


def is_attention(own: Attend) -> bool:
    Q, K, V = 2 * random(2, 7, 5), 2 * random(2, 9, 5, seed=1), random(2, 9, 3, seed=2)
    return torch.allclose(own(Q, K, V), naive(Q, K, V, 5**-0.5), atol=1e-5)


def test_attention_is_the_loop() -> None:
    assert is_attention(attend)
    Q, K, V = random(2, 7, 5), random(2, 9, 5, seed=1), random(2, 9, 3, seed=2)
    assert torch.allclose(attend(Q, K, V, scaled=False), naive(Q, K, V, 1.0), atol=1e-5)


MUTANTS: dict[str, Attend] = {
    "not scaled": lambda Q, K, V: attend(Q, K, V, scaled=False),
    "over C, not its root": lambda Q, K, V: attend(Q / 5**0.5, K, V),
    "softmax over the queries": lambda Q, K, V: (Q @ K.mT / 5**0.5).softmax(1) @ V,
    "values of another picture": lambda Q, K, V: attend(Q, K, V.flip(0)),
    "the hardest choice": lambda Q, K, V: attend(1e4 * Q, K, V),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_rejects_the_mutant(mutant: Attend) -> None:
    assert not is_attention(mutant)


def test_weights_by_hand() -> None:
    Q, K = torch.tensor([[[2.0, 0.0, 0.0, 0.0]]]), torch.tensor([[[1.0, 0, 0, 0], [0, 1.0, 0, 0]]])
    e = torch.tensor(1.0).exp()  # 2 / sqrt(4) = 1 against 0
    assert torch.allclose(attention_weights(Q, K), torch.stack([e / (e + 1), 1 / (e + 1)])[None, None])


def test_many_places_in_parts_are_the_same() -> None:
    Q, K, V = random(1, CHUNK + 70, 4), random(1, 50, 4, seed=1), random(1, 50, 3, seed=2)
    assert torch.allclose(attend(Q, K, V), attention_weights(Q, K) @ V, atol=1e-6)


def block() -> StyleAttention:
    torch.manual_seed(0)
    return StyleAttention(6, 4).requires_grad_(False)


def test_the_block_is_the_papers() -> None:
    """Written out with matrices, and PyTorch's attention."""
    content, style, own = random(2, 6, 3, 4), random(2, 6, 5, 2, seed=1), block()
    Wq, Wk, Wv, Wo = (conv.weight[..., 0, 0] for conv in (own.query, own.key, own.value, own.out))
    fc, fs = F.instance_norm(content).flatten(2), F.instance_norm(style).flatten(2)
    Q, K = (fc.mT @ Wq.T + own.query.bias), (fs.mT @ Wk.T + own.key.bias)
    V = style.flatten(2).mT @ Wv.T + own.value.bias
    taken = F.scaled_dot_product_attention(Q, K, V) @ Wo.T + own.out.bias
    assert torch.allclose(own(content, style), content + taken.mT.unflatten(2, (3, 4)), atol=1e-4)


def test_the_order_of_the_styles_places_does_not_matter() -> None:
    content, style, own = random(1, 6, 3, 4), random(1, 6, 5, 2, seed=1), block()
    shuffled = style.flatten(2)[..., torch.randperm(10, generator=torch.Generator().manual_seed(0))].view_as(style)
    assert torch.allclose(own(content, style), own(content, shuffled), atol=1e-5)


def test_maps_of_where_it_looks() -> None:
    content, style, own = random(2, 6, 3, 4), random(2, 6, 5, 2, seed=1), block()
    maps = own.look(content, style, [(0, 0), (2, 3)])
    assert maps.shape == (2, 2, 5, 2) and torch.allclose(maps.sum((2, 3)), torch.ones(2, 2))
    Q, K = own.queries_keys(content, style)
    assert torch.allclose(maps.flatten(2), attention_weights(Q, K)[:, [0, 11]], atol=1e-6)


def test_where_all_attend_alike_it_is_adain() -> None:
    """Queries of zero make every weight the same: the shallower map is AdaIN's."""
    torch.manual_seed(0)
    net = StyleAttentionNet((0, 5, 6), 4, widths=(4, 5, 6)).requires_grad_(False)
    torch.nn.init.zeros_(net.attention.query.weight)
    torch.nn.init.zeros_(net.attention.query.bias)
    content = [random(2, 3, 4, 4), random(2, 5, 8, 8), random(2, 6, 4, 4)]
    style = [random(2, 3, 3, 3, seed=1), 2 * random(2, 5, 6, 6, seed=1) + 1, random(2, 6, 3, 3, seed=1)]
    out = net.restyled(content, style)
    assert torch.allclose(out[1], adaptive_instance_norm(content[1], style[1]), atol=1e-4)
    torch.nn.init.normal_(net.attention.query.weight)
    assert not torch.allclose(net.restyled(content, style)[1], out[1], atol=1e-2)


def test_tokens_and_norms() -> None:
    maps = 3 * random(2, 5, 3, 4) + 2
    assert tokens(maps).shape == (2, 12, 5) and torch.equal(tokens(maps)[1, 6], maps[1, :, 1, 2])
    assert torch.allclose(normalized(maps), F.instance_norm(maps), atol=1e-5)


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="queries are"):
        attention_weights(random(1, 3, 4), random(1, 3, 5))
    with pytest.raises(InputError, match="each key has a value"):
        attend(random(1, 3, 4), random(1, 3, 4), random(1, 2, 4))
    with pytest.raises(InputError, match="within 3 x 4"):
        block().look(random(1, 6, 3, 4), random(1, 6, 5, 2), [(3, 0)])
