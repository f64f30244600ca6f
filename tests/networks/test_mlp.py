"""MLP: the forward pass and the deltas against numbers done by hand, NumPy and autograd."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from vivace.base.errors import InputError
from vivace.networks import MLP, count_parameters, deltas, layer_costs


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand() -> MLP:
    """A 2-2-1 net whose numbers fit on paper."""
    model = MLP([2, 2, 1])
    with torch.no_grad():
        model.layers[0].weight.copy_(torch.tensor([[1.0, -1.0], [2.0, 0.5]]))
        model.layers[0].bias.copy_(torch.tensor([0.0, -1.0]))
        model.layers[1].weight.copy_(torch.tensor([[3.0, 2.0]]))
        model.layers[1].bias.copy_(torch.tensor([0.5]))
    return model


def test_by_hand():
    # x = (1, 2): z1 = (1 - 2, 2 + 1 - 1) = (-1, 2), h = (0, 2), z2 = 0 + 4 + 0.5
    x, h, z = by_hand().forward_stored(torch.tensor([[1.0, 2.0]]))
    assert x.tolist() == [[1, 2]] and h.tolist() == [[0, 2]] and z.tolist() == [[4.5]]
    # delta2 = 1: delta1 = (3, 2) * (0, 1), because the first unit is off
    assert deltas(by_hand(), [x, h, z], torch.ones(1, 1))[0].tolist() == [[0, 2]]


@pytest.mark.parametrize(("name", "f"), [("relu", lambda z: np.maximum(z, 0)), ("tanh", np.tanh),
                                         ("sigmoid", lambda z: 1 / (1 + np.exp(-z)))])  # fmt: skip
def test_forward_is_numpys(name, f):
    model = MLP([12, 7, 5, 3], activation=name, generator=seeded()).double()
    images = torch.rand(4, 1, 3, 4, generator=seeded(1), dtype=torch.float64)
    x = images.numpy().reshape(4, 12)
    (W, a), (V, b), (U, c) = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in model.layers]
    expected = f(f(x @ W.T + a) @ V.T + b) @ U.T + c
    np.testing.assert_allclose(model(images).detach().numpy(), expected, rtol=1e-12)


def hidden_deltas_agree(hidden_deltas) -> bool:
    """Whether `hidden_deltas(model, stored, dL/dy, g'(z))` is autograd's dL/dz for squared loss through a sigmoid."""
    for name in ("relu", "leaky_relu", "sigmoid", "tanh", "elu", "softplus", "identity"):
        model = MLP([3, 4, 5, 2], activation=name, generator=seeded()).double()
        x, target = torch.rand(6, 3, generator=seeded(1)).double(), torch.rand(6, 2, generator=seeded(2)).double()
        # the slope of z1 and z2 is that of their bias, one image at a time
        stored = model.forward_stored(x)
        y = torch.sigmoid(stored[-1])
        found = hidden_deltas(model, stored, y - target, y * (1 - y))
        for i in range(6):
            loss = 0.5 * (torch.sigmoid(model(x[i : i + 1])) - target[i : i + 1]).square().sum()
            expected = torch.autograd.grad(loss, [layer.bias for layer in model.layers])
            if not all(torch.allclose(d[i], e, rtol=1e-10, atol=1e-14) for d, e in zip(found, expected, strict=True)):
                return False
    return True


def without_slope_of_output(model, stored, dL_dy, g_slope):
    """As often printed: dL/dy goes back through V as it is."""
    return [*deltas(model, stored, dL_dy)[:-1], dL_dy * g_slope]


def without_slope_of_hidden(model, stored, dL_dy, g_slope):
    found = [dL_dy * g_slope]
    for layer in reversed(model.layers[1:]):
        found.insert(0, found[0] @ layer.weight)
    return found


def test_deltas_are_autograds():
    assert hidden_deltas_agree(lambda model, stored, dL_dy, g_slope: deltas(model, stored, dL_dy * g_slope))


@pytest.mark.parametrize("mutant", [without_slope_of_output, without_slope_of_hidden])
def test_rejects(mutant):
    assert not hidden_deltas_agree(mutant)


def test_weight_gradients_from_deltas():
    """Softmax and cross-entropy: delta = p - onehot, the weights' gradient delta^T h, as autograd has them."""
    model = MLP([6, 5, 4, 3], generator=seeded()).double()
    x, labels = torch.rand(7, 6, generator=seeded(1)).double(), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    stored = model.forward_stored(x)
    found = deltas(model, stored, torch.softmax(stored[-1], 1) - F.one_hot(labels, 3))
    F.cross_entropy(model(x), labels, reduction="sum").backward()
    for layer, delta, h in zip(model.layers, found, stored, strict=False):
        torch.testing.assert_close(delta.T @ h, layer.weight.grad)
        torch.testing.assert_close(delta.sum(0), layer.bias.grad)


def test_digit_classifiers_cost():
    sizes = [784, 128, 64, 10]
    model = MLP(sizes)
    assert [layer.weights for layer in layer_costs(sizes)] == [100_352, 8_192, 640]
    assert count_parameters(sizes) == 109_386 == sum(p.numel() for p in model.parameters())
    assert sum(p.numel() * p.element_size() for p in model.parameters()) == 437_544
    with FlopCounterMode(display=False) as counter:
        model(torch.rand(1, 1, 28, 28))
    assert sum(layer.multiply_adds for layer in layer_costs(sizes)) == 109_184 == counter.get_total_flops() // 2


def test_initialisation_is_hes():
    """Variance 2 / inputs, so that the ReLUs' signal keeps its size through many layers; the same for the same seed."""
    model = MLP([400] * 12, generator=seeded())
    assert model.layers[0].weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.01)
    x = torch.randn(200, 400, generator=seeded(1))
    stored = model.forward_stored(x)
    assert 0.5 < (stored[-1].square().mean() / stored[1].square().mean() / 2).item() < 2
    again, other = MLP([400] * 12, generator=seeded()), MLP([400] * 12, generator=seeded(1))
    assert torch.equal(again(x), model(x)) and not torch.equal(other(x), model(x))


def test_xaviers_initialisation():
    first = MLP([400, 100, 10], initialization="xavier", generator=seeded()).layers[0].weight
    assert first.std().item() == pytest.approx((2 / 500) ** 0.5, rel=0.01)
    assert first.abs().max().item() < (6 / 500) ** 0.5


def test_bad_input():
    with pytest.raises(InputError, match="slope of gelu can't be told from its output"):
        model = MLP([2, 3, 1], activation="gelu")
        deltas(model, model.forward_stored(torch.zeros(1, 2)), torch.ones(1, 1))
    with pytest.raises(InputError, match="takes 784 values an image, but the images given are 1 x 8 x 8"):
        MLP([784, 10])(torch.rand(2, 1, 8, 8))
    with pytest.raises(InputError, match="at least 1"):
        MLP([784, 0, 10])
    with pytest.raises(InputError, match="input and an output size"):
        MLP([784])
