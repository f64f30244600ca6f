"""Fine-tuning: the head against scikit-learn's optimum, frozen layers and statistics to the bit, files and back."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from jaxtyping import TypeCheckError
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.cnn import create_model, fit_head, freeze, head_inputs, load_model, save_model, thaw


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    return create_model("efficientnet_lite0", weights="imagenet")


def test_head_inputs_are_what_the_head_turns_into_logits(trained: nn.Module, images: Tensor) -> None:
    features = head_inputs(trained, images, batch_size=2)
    with torch.no_grad():
        logits = trained(images)
        assert torch.allclose(trained.get_submodule("classifier")(features), logits, atol=1e-4)
    assert not trained.get_submodule("classifier")._forward_pre_hooks


def test_features_are_those_of_prediction_also_while_training(images: Tensor) -> None:
    model = create_model("efficientnet_lite0", weights="imagenet").train()
    statistics = model.get_submodule("head.norm").running_mean.clone()  # type: ignore[operator]
    assert torch.equal(head_inputs(model, images), head_inputs(model.eval(), images))
    assert torch.equal(model.get_submodule("head.norm").running_mean, statistics)  # type: ignore[arg-type]


def head_of(features: Tensor, labels: Tensor, weight_decay: float) -> nn.Linear:
    model = nn.Sequential(nn.Linear(features.shape[1], 1))
    return fit_head(model, features, labels, classes=3, weight_decay=weight_decay)


def without_decay(features: Tensor, labels: Tensor, weight_decay: float) -> nn.Linear:
    return head_of(features, labels, 0.0)


def stopped_early(features: Tensor, labels: Tensor, weight_decay: float) -> nn.Linear:
    head = head_of(features, labels, weight_decay)
    with torch.no_grad():
        head.weight *= 0.9
    return head


def is_the_optimum(fit: Callable[[Tensor, Tensor, float], nn.Linear]) -> bool:
    """scikit-learn minimises sum(losses) + |W|^2 / (2 C): ours is that, divided by the number of pictures."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(40)
    features = torch.randn(120, 6, generator=generator) + F.one_hot(labels, 6)
    head = fit(features, labels, 0.01)
    peer = LogisticRegression(C=1 / (2 * 0.01 * 120), tol=1e-10, max_iter=10_000).fit(features.numpy(), labels.numpy())
    with torch.no_grad():
        ours = head(features).softmax(1).numpy()
    return bool(np.abs(ours - peer.predict_proba(features.numpy())).max() < 1e-3)


def test_the_head_is_scikit_learns() -> None:
    assert is_the_optimum(head_of)


@pytest.mark.parametrize("mutant", [without_decay, stopped_early])
def test_rejects_another_head(mutant: Callable[[Tensor, Tensor, float], nn.Linear]) -> None:
    assert not is_the_optimum(mutant)


@pytest.mark.parametrize("labels", [[0, 3, 1], [-1, 0, 1], [0, 1]])
def test_labels_that_do_not_fit_are_told(labels: list[int]) -> None:
    with pytest.raises((InputError, TypeCheckError)):
        head_of(torch.rand(3, 4), torch.tensor(labels), 0.1)


def one_step(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """What a step of training leaves in the model."""
    model.train()
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    F.cross_entropy(model(images), torch.arange(len(images))).backward()
    optimizer.step()
    return model.state_dict()


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def test_only_what_may_learn_changes(trained: nn.Module, images: Tensor) -> None:
    model = copy.deepcopy(trained)
    freeze(model, but=["head", "classifier"])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moved = changed(before, one_step(model, images))
    assert moved == {"head.conv.weight", "head.norm.weight", "head.norm.bias", "classifier.weight", "classifier.bias"}


def test_a_mutant_that_lets_statistics_drift_is_seen(trained: nn.Module, images: Tensor) -> None:
    """The usual mistake: weights frozen by `requires_grad`, batch norms forgotten."""
    model = copy.deepcopy(trained)
    for name, weight in model.named_parameters():
        weight.requires_grad_(name.startswith("classifier"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moved = changed(before, one_step(model, images))
    assert "stem.norm.running_mean" in moved and "stem.conv.weight" not in moved


def test_frozen_layers_outlive_copies_and_calls_of_train_until_they_thaw(trained: nn.Module) -> None:
    model = copy.deepcopy(trained)
    freeze(model, but=[""])
    assert all(weight.requires_grad for weight in model.parameters())
    twin = copy.deepcopy(model).train()
    norms = [module for module in twin.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms) and twin.training
    thaw(twin)
    twin.train()
    assert all(norm.training for norm in norms)
    assert not any(module.training for module in model.train().modules() if isinstance(module, nn.BatchNorm2d))


def test_an_unknown_layer_is_told_with_the_nearest(trained: nn.Module) -> None:
    with pytest.raises(InputError, match="classifier"):
        freeze(copy.deepcopy(trained), but=["clasifier"])


def test_a_saved_model_comes_back_the_same(tmp_path: Path, images: Tensor) -> None:
    torch.manual_seed(0)
    model = create_model("efficientnet_lite0", classes=2).eval()
    path = tmp_path / "mine.safetensors"
    save_model(path, model, architecture="efficientnet_lite0", classes=("cat", "狗"))
    again, classes = load_model(path)
    assert classes == ("cat", "狗") and not again.training
    with torch.no_grad():
        assert torch.equal(again(images), model(images))


def test_files_that_hold_no_model_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        load_model(tmp_path / "none.safetensors")
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"not tensors at all")
    with pytest.raises(InputError, match="not a safetensors file"):
        load_model(path)
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="no model"):
        load_model(path)
    about = {"architecture": "vgg11", "classes": '["a"]', "options": "{}"}
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path, about)
    with pytest.raises(InputError, match="no model"):
        load_model(path)
