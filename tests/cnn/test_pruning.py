"""Pruning against torch.nn.utils.prune; zeros that stay through training; a slimmed net equal to its original."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from vivace.base.errors import InputError
from vivace.cnn import make_permanent, prune_magnitude, scale_penalty, slimmed, sparse_bytes


def net(seed: int = 0) -> nn.Sequential:
    """Convolutions with batch normalisation whose statistics, scales and shifts are all of the ordinary kind."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Flatten(), nn.Linear(8 * 16, 12), nn.ReLU(), nn.Linear(12, 10),
        ).eval()  # fmt: skip
        for layer in model:
            if isinstance(layer, nn.BatchNorm2d):
                for tensor in (layer.weight, layer.bias, layer.running_mean):
                    nn.init.normal_(tensor)
                nn.init.uniform_(layer.running_var, 0.5, 2)
    return model


def pictures(count: int = 7) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def weights(model: nn.Module) -> list[Tensor]:
    return [layer.weight.detach() for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def by_torch(model: nn.Module, share: float, scope: str) -> list[Tensor]:
    layers = [(layer, "weight") for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    if scope == "global":
        prune.global_unstructured(layers, prune.L1Unstructured, amount=share)
    else:
        for layer, name in layers:
            prune.l1_unstructured(layer, name, amount=share)
    return weights(model)


Pruner = Callable[[nn.Module, float], None]


def prunes_as_torch(pruner: Pruner, scope: str) -> bool:
    for share in (0.0, 0.3, 0.75, 1.0):
        ours, theirs = net(), net()
        pruner(ours, share)
        if not all(map(torch.equal, weights(ours), by_torch(theirs, share, scope))):
            return False
    return True


def ours(scope: str) -> Pruner:
    return lambda model, share: prune_magnitude(model, share, scope=scope)  # type: ignore[arg-type]


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_masks_are_those_of_torch(scope: str) -> None:
    assert prunes_as_torch(ours(scope), scope)


def largest_away(model: nn.Module, share: float) -> None:
    kept = copy.deepcopy(model)
    prune_magnitude(kept, 1 - share)
    for layer, other in zip(weights(model), weights(kept), strict=True):
        layer.sub_(other)


def signed(model: nn.Module, share: float) -> None:
    """The smallest with their sign: the most negative weights go first."""
    every = torch.cat([weight.flatten() for weight in weights(model)])
    threshold = every.sort().values[round(share * len(every)) - 1] if share else -torch.inf
    for weight in weights(model):
        weight[weight <= threshold] = 0


@pytest.mark.parametrize("mutant", [ours("layer"), largest_away, signed])
def test_rejects(mutant: Pruner) -> None:
    assert not prunes_as_torch(mutant, "global")


def stays_zero(pruner: Pruner) -> bool:
    """Zeros after momentum from before the pruning, weight decay and noise in the gradients have had their way."""
    model = net().train()
    adam = torch.optim.AdamW(model.parameters(), lr=0.05)

    def step() -> None:
        adam.zero_grad()
        F.cross_entropy(model(pictures(10)), torch.arange(10)).backward()
        adam.step()

    step()
    pruner(model, 0.6)
    zeros = [weight == 0 for weight in weights(model)]
    before = [weight.clone() for weight in weights(model)]
    for _ in range(5):
        step()
    after = weights(model)
    assert not any(map(torch.equal, before, after)), "what is left is trained on"
    return all(bool((weight[zero] == 0).all()) for weight, zero in zip(after, zeros, strict=True))


def once(model: nn.Module, share: float) -> None:
    prune_magnitude(model, share)
    make_permanent(model)


def test_zeros_stay_zero_in_training() -> None:
    assert stays_zero(prune_magnitude)
    assert not stays_zero(once), "a mutant: without its mask a weight comes back"


def test_again_with_a_larger_share() -> None:
    model = net()
    prune_magnitude(model, 0.5)
    first = [weight == 0 for weight in weights(model)]
    prune_magnitude(model, 0.8)
    second = [weight == 0 for weight in weights(model)]
    assert all(bool(after[before].all()) for before, after in zip(first, second, strict=True))
    total = sum(zero.numel() for zero in second)
    assert sum(int(zero.sum()) for zero in second) == round(0.8 * total)
    make_permanent(model)
    assert not any(parametrize.is_parametrized(layer) for layer in model)
    assert set(model.state_dict()) == set(net().state_dict())


def test_bytes_by_hand() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 4))
    assert sparse_bytes(model) == 4 * (32 + 4 + 16 + 4), "nothing is saved, and no bits spent, where nothing is zero"
    with torch.no_grad():
        model[0].weight[:, 2:] = 0  # 8 of 32 are left: 32 bytes and 32 bits
    assert sparse_bytes(model) == (32 + 4) + 16 + 4 * (16 + 4)


def test_a_slimmed_net_is_the_net_without_what_was_silent() -> None:
    """Where scale and shift are zero a channel says nothing, and the smaller net must give the very same logits."""
    model = net()
    with torch.no_grad():
        for layer, silent in ((model[1], (0, 3, 4)), (model[5], (1, 2, 6, 7))):
            layer.weight[list(silent)] = layer.bias[list(silent)] = 0
    small = slimmed(model, 7 / 14)
    assert small[0].weight.shape == (3, 1, 3, 3) and small[4].weight.shape == (4, 3, 3, 3)
    assert small[8].weight.shape == (12, 4 * 16) and small[8].in_features == 64
    assert torch.allclose(small(pictures()), model(pictures()), atol=1e-6)
    assert model[0].out_channels == 6, "the net itself stays as it is"
    small.train()(pictures()).sum().backward()
    assert all(parameter.grad is not None for parameter in small.parameters())


def channels_last_in_the_linear(model: nn.Sequential) -> nn.Sequential:
    """A mutant: the linear layer's inputs cut as if the channel were the last index of what was flattened."""
    small = slimmed(model, 0.5)
    kept = torch.tensor([0, 3, 4, 5])
    small[8].weight = nn.Parameter(model[8].weight.detach().unflatten(1, (16, 8))[:, :, kept].flatten(1))
    return small


def test_slimming_rejects_a_mutant() -> None:
    model = net()
    with torch.no_grad():
        for layer, silent in ((model[1], (0, 3, 4)), (model[5], (1, 2, 6, 7))):
            layer.weight[list(silent)] = layer.bias[list(silent)] = 0
    assert not torch.allclose(channels_last_in_the_linear(model)(pictures()), model(pictures()), atol=1e-2)


def test_a_layer_never_loses_all_its_channels() -> None:
    model = net()
    with torch.no_grad():
        model[1].weight.mul_(1e-3)
    small = slimmed(model, 0.9)
    assert small[0].out_channels == 1 and small(pictures()).shape == (7, 10)


def test_penalty_by_hand() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.5, -2.0]))
    penalty = scale_penalty(model)
    penalty.backward()
    assert penalty.item() == 4.5
    assert model[0].weight.grad is not None and model[0].weight.grad.tolist() == [1, -1]


def test_bad_input() -> None:
    with pytest.raises(InputError, match="0 to 1"):
        prune_magnitude(net(), 1.2)
    with pytest.raises(InputError, match="no convolution"):
        prune_magnitude(nn.ReLU(), 0.5)
    with pytest.raises(InputError, match="less than 1"):
        slimmed(net(), 1.0)
    for without in (nn.Sequential(nn.Conv2d(1, 2, 3)), nn.Sequential(nn.ReLU())):
        with pytest.raises(InputError, match="normalisation"):
            slimmed(without, 0.5)
        with pytest.raises(InputError, match="normalisation"):
            scale_penalty(without)
    with pytest.raises(InputError, match="one group"):
        slimmed(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4)), 0.5)
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    with pytest.raises(InputError, match="share"):
        prune_magnitude(tied, 0.5)
