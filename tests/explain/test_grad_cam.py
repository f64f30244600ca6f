"""Grad-CAM: two toy networks by hand, ten wrong Grad-CAMs that they reject, captum, and a model left as it was."""

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam
from torch import Tensor, nn

from vivace.base.errors import InputError
from vivace.explain.cam import cam
from vivace.explain.grad_cam import grad_cam, map_and_gradient

IMAGE = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


def two_maps() -> nn.Conv2d:
    """A1 = [[1, 2], [3, 4]] and A2 = 3 - A1 = [[2, 1], [0, -1]]."""
    conv = nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))
        conv.bias.copy_(torch.tensor([0.0, 3.0]))  # type: ignore[union-attr]
    return conv


def fully_connected() -> nn.Sequential:
    """Each position has a weight of its own, so dy/dA are these very numbers; class 1 is predicted (25 to 12)."""
    net = nn.Sequential(two_maps(), nn.Flatten(), nn.Linear(8, 2, bias=False))
    with torch.no_grad():
        net[2].weight.copy_(torch.tensor([[3.0, 0, 1, 0, 0, -2, 2, -8], [1.0, 2, 0, 5, 0, 0, 4, 0]]))
    return net


def rectified() -> nn.Sequential:
    """A ReLU in place after the layer, then the mean and w = (4, -8): dy/dA is w / 4 where A > 0, and 0 elsewhere."""
    net = nn.Sequential(
        two_maps(), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1, bias=False)
    )
    with torch.no_grad():
        net[4].weight.copy_(torch.tensor([[4.0, -8.0]]))
    return net


Method = Callable[[nn.Module, Tensor, int, str], Tensor]


def check(method: Method) -> None:
    """Each alpha is the sum of four gradients over four, each map alpha_1 A1 + alpha_2 A2 with nothing below 0."""
    fc, relu = fully_connected(), rectified()
    # class 0: alpha = (3 + 0 + 1 + 0, 0 - 2 + 2 - 8) / 4 = (1, -2); A1 - 2 A2 = [[-3, 0], [3, 6]]
    assert method(fc, IMAGE, 0, "0").tolist() == [[[0, 0], [3, 6]]]
    # class 1: alpha = (1 + 2 + 0 + 5, 0 + 0 + 4 + 0) / 4 = (2, 1); 2 A1 + A2
    assert method(fc, IMAGE, 1, "0").tolist() == [[[4, 5], [6, 7]]]
    # before the ReLU: alpha = (4 * 1, 2 * -2) / 4 = (1, -1); A1 - A2 = [[-1, 1], [3, 5]]
    assert method(relu, IMAGE, 0, "0").tolist() == [[[0, 1], [3, 5]]]
    # after it A2 = [[2, 1], [0, 0]], all gradients count: alpha = (1, -2); A1 - 2 A2 = [[-3, 0], [3, 4]]
    assert method(relu, IMAGE, 0, "1").tolist() == [[[0, 0], [3, 4]]]


def ours(model: nn.Module, images: Tensor, c: int, layer: str) -> Tensor:
    return grad_cam(model, images, c, layer=layer)


def test_by_hand() -> None:
    check(ours)
    assert torch.equal(grad_cam(fully_connected(), IMAGE), ours(fully_connected(), IMAGE, 1, "0"))  # predicted
    assert grad_cam(fully_connected(), IMAGE, 0, normalize=True).tolist() == [[[0, 0], [0.5, 1]]]
    assert grad_cam(rectified(), IMAGE, 0).tolist() == [[[0, 0], [3, 4]]]  # the last map is that of the ReLU


def weighted(alpha: Tensor, A: Tensor) -> Tensor:
    return (alpha[:, :, None, None] * A).sum(1)


def relu_forgotten(model: nn.Module, images: Tensor, c: int, layer: str) -> Tensor:
    A, G = map_and_gradient(model, images, c, layer=layer)
    return weighted(G.mean((2, 3)), A)


def relu_before_the_sum(model: nn.Module, images: Tensor, c: int, layer: str) -> Tensor:
    A, G = map_and_gradient(model, images, c, layer=layer)
    return F.relu(G.mean((2, 3))[:, :, None, None] * A).sum(1)


def relu_on_gradients(model: nn.Module, images: Tensor, c: int, layer: str) -> Tensor:
    A, G = map_and_gradient(model, images, c, layer=layer)
    return F.relu(weighted(F.relu(G).mean((2, 3)), A))


def absolute_value(model: nn.Module, images: Tensor, c: int, layer: str) -> Tensor:
    return relu_forgotten(model, images, c, layer).abs()


def largest_gradient(model: nn.Module, images: Tensor, c: int, layer: str) -> Tensor:
    A, G = map_and_gradient(model, images, c, layer=layer)
    return F.relu(weighted(G.amax((2, 3)), A))


def sum_of_gradients(model: nn.Module, images: Tensor, c: int, layer: str) -> Tensor:
    A, G = map_and_gradient(model, images, c, layer=layer)
    return F.relu(weighted(G.sum((2, 3)), A))


def gradient_times_map(model: nn.Module, images: Tensor, c: int, layer: str) -> Tensor:
    A, G = map_and_gradient(model, images, c, layer=layer)
    return F.relu((G * A).sum(1))


def always_the_predicted_class(model: nn.Module, images: Tensor, c: int, layer: str) -> Tensor:
    return grad_cam(model, images, layer=layer)


def of_the_probability(model: nn.Module, images: Tensor, c: int, layer: str) -> Tensor:
    return grad_cam(model, images, lambda logits: logits.softmax(1)[:, c], layer=layer)


def map_after_the_next_layer(model: nn.Module, images: Tensor, c: int, layer: str) -> Tensor:
    """What comes of keeping a reference to the layer's output while a ReLU in place writes over it."""
    A, G = map_and_gradient(model, images, c, layer=layer)
    return F.relu(weighted(G.mean((2, 3)), F.relu(A)))


@pytest.mark.parametrize(
    "mutant",
    [relu_forgotten, relu_before_the_sum, relu_on_gradients, absolute_value, largest_gradient, sum_of_gradients,
     gradient_times_map, always_the_predicted_class, of_the_probability, map_after_the_next_layer],
)  # fmt: skip
def test_rejects(mutant: Method) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


def test_rejects_normalising_before_the_relu() -> None:
    L = relu_forgotten(fully_connected(), IMAGE, 0, "0")
    wrong = F.relu((L - L.min()) / (L.max() - L.min()))
    assert not torch.allclose(wrong, grad_cam(fully_connected(), IMAGE, 0, normalize=True))


class Net(nn.Module):
    """What a real network has: batch norm, ReLU in place, a shortcut, pooling, dropout, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 9, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.relu(x + self.body(x))
        return self.head(self.pool(x)[..., :3, :3])


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    net = Net()
    for _ in range(3):
        net(torch.rand(16, 3, 16, 16))  # batch norm's statistics
    return net


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


LAYERS = ["stem", "stem.0", "stem.2", "body.0", "body.1", "relu", "pool"]


def by_captum(model: nn.Module, images: Tensor, target: int | list[int], layer: str) -> Tensor:
    model.eval()
    explain = LayerGradCam(model, model.get_submodule(layer))
    return explain.attribute(images, target, relu_attributions=True)[:, 0].detach()


@pytest.mark.parametrize("layer", [name for name in LAYERS if name not in ("stem.0", "stem.2", "body.1")])
def test_captum_agrees(net: Net, images: Tensor, layer: str) -> None:
    for target in (3, [0, 1, 2, 4]):
        assert torch.allclose(
            grad_cam(net, images, target, layer=layer), by_captum(net, images, target, layer), atol=1e-6
        )


@pytest.mark.parametrize("layer", LAYERS)
def test_alpha_is_the_slope_of_the_score_by_a_shift_of_the_map(net: Net, images: Tensor, layer: str) -> None:
    """Adding e to a whole map changes the score by e Z alpha: measured in float64, with no autograd."""
    net, images, e = net.double().eval(), images[:1].double(), 1e-6
    A, G = map_and_gradient(net, images, 2, layer=layer)
    assert A.dtype == torch.float64
    for k in range(8):

        def score(shift: float, k: int = k) -> Tensor:
            push = torch.zeros(8, 1, 1, dtype=torch.float64)
            push[k] = shift
            handle = net.get_submodule(layer).register_forward_hook(lambda _m, _i, output: output + push)
            y = net(images)[0, 2].detach()
            handle.remove()
            return y

        slope = (score(e) - score(-e)) / (2 * e)
        assert torch.allclose(slope, G.mean((2, 3))[0, k] * A[0, 0].numel(), atol=1e-7)


def test_equals_cam_where_there_is_one(images: Tensor) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    for c in range(5):
        map_c = cam(net, images, c)
        assert (map_c < 0).any()
        assert torch.allclose(grad_cam(net, images, c), F.relu(map_c) / map_c[0].numel(), atol=1e-7)


def test_a_batch_is_its_pictures_one_by_one(net: Net, images: Tensor) -> None:
    classes = [4, 0, 4, 2]
    together = grad_cam(net, images, classes)
    for i, c in enumerate(classes):
        assert torch.allclose(grad_cam(net, images[i : i + 1], c)[0], together[i], atol=1e-6)
    predicted = net.eval()(images).argmax(1)
    assert torch.equal(grad_cam(net, images), grad_cam(net, images, predicted))


def test_all_ways_to_say_which_class(net: Net, images: Tensor) -> None:
    names = ["ant", "bee", "cat", "Dog", "eel"]
    expected = grad_cam(net, images, [2, 3, 2, 3])
    assert torch.equal(grad_cam(net, images, ["cat", "dog", "Cat", 3], classes=names), expected)
    assert torch.equal(grad_cam(net, images, torch.tensor([2, 3, 2, 3])), expected)
    assert torch.equal(grad_cam(net, images, torch.tensor([2, 3, 2, 3]).numpy()), expected)
    assert torch.equal(grad_cam(net, images, lambda logits: logits[range(4), [2, 3, 2, 3]]), expected)
    assert torch.equal(grad_cam(net, images, "eel", classes=names), grad_cam(net, images, torch.tensor(4)))


def test_a_layer_by_name_by_module_or_by_itself(net: Net, images: Tensor) -> None:
    assert torch.equal(grad_cam(net, images, 1, layer=net.relu), grad_cam(net, images, 1, layer="relu"))
    assert torch.allclose(grad_cam(net, images, 1), grad_cam(net, images, 1, layer="relu"), atol=1e-7)


def test_captions_and_other_outputs(images: Tensor) -> None:
    """A score of one's own: the log-probability that a recurrent head gives a sequence of words."""

    class Captioner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU())
            self.words = nn.GRU(8, 8, batch_first=True)
            self.out = nn.Linear(8, 11)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            start = self.encoder(x).mean((2, 3))
            states, _ = self.words(start[:, None].expand(-1, 4, -1))
            return {"words": self.out(states).log_softmax(2)}

    torch.manual_seed(0)
    caption = [3, 1, 4, 1]
    heat = grad_cam(Captioner(), images, lambda output: output["words"][:, range(4), caption].sum(1))
    assert heat.shape == (4, 6, 6) and (heat.amax((1, 2)) > 0).all()
    with pytest.raises(InputError, match="puts out a dict, not the scores of classes"):
        grad_cam(Captioner(), images, 3)


def test_the_model_stays_as_it_was(net: Net, images: Tensor) -> None:
    net.train()
    net.stem.eval()
    net.body[0].weight.requires_grad_(False)
    net(images).sum().backward()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    gradients = {name: p.grad if p.grad is None else p.grad.clone() for name, p in net.named_parameters()}
    modes = [m.training for m in net.modules()]
    learning = [p.requires_grad for p in net.parameters()]

    in_training = grad_cam(net, images, 2, layer="body.0")
    with pytest.raises(InputError):
        grad_cam(net, images, 9)

    assert [m.training for m in net.modules()] == modes and [p.requires_grad for p in net.parameters()] == learning
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    for name, p in net.named_parameters():
        old = gradients[name]
        assert p.grad is old is None or torch.equal(p.grad, old)  # type: ignore[arg-type]
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in net.modules())
    assert not images.requires_grad
    assert torch.equal(in_training, grad_cam(net.eval(), images, 2, layer="body.0"))  # explained as it predicts


@pytest.mark.parametrize("layer", ["stem.0", None])
def test_whatever_mode_the_caller_is_in(net: Net, images: Tensor, layer: str | None) -> None:
    expected = grad_cam(net, images, 2, layer=layer)
    with torch.no_grad():
        assert torch.equal(grad_cam(net, images, 2, layer=layer), expected)
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert torch.equal(grad_cam(net, images * 1, 2, layer=layer), expected)
        made_here = Net()
        made_here.load_state_dict(net.state_dict())
    assert torch.equal(grad_cam(made_here, images, 2, layer=layer), expected)
    frozen = Net().requires_grad_(False)
    frozen.load_state_dict(net.state_dict())
    assert torch.equal(grad_cam(frozen, images, 2, layer=layer), expected)
    assert not grad_cam(net, images.requires_grad_(), 2, layer=layer).requires_grad and images.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(net: Net, images: Tensor, dtype: torch.dtype) -> None:
    expected = grad_cam(net, images, 2)
    heat = grad_cam(net.to(dtype), images.to(dtype), 2)
    assert heat.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.allclose(heat.float(), expected, atol=4 * torch.finfo(dtype).eps * float(expected.max()) + 1e-6)


def test_memory_is_constant(net: Net, images: Tensor) -> None:
    def tensors_after(calls: int) -> int:
        for call in range(calls):
            grad_cam(net, images, call % 5, layer=LAYERS[call % len(LAYERS)] if call % 2 else None)
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    gc.collect()
    gc.disable()  # what is let go must not have to wait for the collector either
    try:
        assert tensors_after(2) == tensors_after(20)
    finally:
        gc.enable()


def test_threads_do_not_see_each_other(net: Net, images: Tensor) -> None:
    net.eval()
    jobs = [(i % 4, i % 5, LAYERS[i % len(LAYERS)]) for i in range(40)]
    alone = [grad_cam(net, images[i : i + 1], c, layer=layer) for i, c, layer in jobs]
    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(lambda job: grad_cam(net, images[job[0] : job[0] + 1], job[1], layer=job[2]), jobs))
    assert all(torch.equal(a, b) for a, b in zip(alone, beside, strict=True))


@pytest.mark.parametrize(
    ("target", "layer", "words"),
    [
        (5, None, "there is no class 5: the model has 5, 0 to 4"),
        ("cat", None, "give classes="),
        ([1, 2], None, "2 target classes for 4 pictures"),
        (1, "bodi.0", "no layer named 'bodi.0'; try body.0"),
        (1, "head.1", r"the layer head.1 puts out \(4, 16\), not a spatial map"),
        (1, nn.ReLU(), "not part of the model"),
        (lambda logits: logits.argmax(1), None, "in a way that can be differentiated"),
        (lambda logits: logits.detach().sum(1), "relu", "in a way that can be differentiated"),
        (lambda logits: logits.sum(1) * torch.inf, None, "NaN or infinite"),
    ],
)
def test_bad_input(net: Net, images: Tensor, target: object, layer: str | nn.Module | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        grad_cam(net, images, target, layer=layer)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="NaN"):
        grad_cam(net, images * torch.nan, 1)


def test_a_layer_that_the_score_does_not_depend_on(images: Tensor) -> None:
    class Aside(Net):
        def forward(self, x: Tensor) -> Tensor:
            self.pool(self.stem(x))
            return super().forward(x)

    net, plain = Aside(), Net()
    plain.load_state_dict(net.state_dict())
    with pytest.raises(InputError, match="does not depend on the layer"):
        grad_cam(net, images, lambda output: images.clone().requires_grad_().sum((1, 2, 3)), layer="relu")
    # where a layer runs twice, its last run is the one that counts
    assert torch.equal(grad_cam(net, images, 0, layer="stem"), grad_cam(plain, images, 0, layer="stem"))


def test_the_backbone_agrees_with_captum_and_cam() -> None:
    from vivace.base.images import read_image, resize
    from vivace.cnn import class_index, efficientnet_lite0

    model = efficientnet_lite0(weights="imagenet")
    images = torch.stack([resize(read_image(name), (224, 224)) for name in ("chelsea", "coffee")])
    target = [class_index("tabby"), class_index("espresso")]
    for layer in ("head", "blocks.10", "blocks.4.expand.conv"):
        assert torch.allclose(
            grad_cam(model, images, target, layer=layer), by_captum(model, images, target, layer), atol=1e-5
        )
    assert torch.allclose(grad_cam(model, images, target), F.relu(cam(model, images, target)) / 49, atol=1e-5)
    shown = grad_cam(model, images, normalize=True, enlarge=True)
    assert shown.shape == (2, 224, 224) and shown.min() >= 0 and (shown.amax((1, 2)) == 1).all()


class Transformer(nn.Module):
    """A vision transformer of 3 x 5 patches; it reads its class token, or the mean of all patches."""

    def __init__(self, *, class_token: bool, batch_first: bool = True) -> None:
        super().__init__()
        self.class_token, self.batch_first = class_token, batch_first
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.first = nn.Parameter(torch.randn(1, 1, 8))
        block = nn.TransformerEncoderLayer(8, 2, 16, 0.1, "gelu", batch_first=batch_first, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, nn.LayerNorm(8), enable_nested_tensor=False)
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        if self.class_token:
            x = torch.cat([self.first.expand(len(x), -1, -1), x], 1)
        x = self.blocks(x) if self.batch_first else self.blocks(x.transpose(0, 1)).transpose(0, 1)
        return self.head(x[:, 0] if self.class_token else x.mean(1))


@pytest.fixture
def oblong() -> Tensor:
    return torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_class_tokens_map_is_that_of_the_patches_which_the_last_attention_reads(
    oblong: Tensor, batch_first: bool
) -> None:
    torch.manual_seed(0)
    net = Transformer(class_token=True, batch_first=batch_first).eval()
    heat = grad_cam(net, oblong, 3)
    assert heat.shape == (2, 3, 5) and (heat.amax((1, 2)) > 0).all()
    assert torch.allclose(heat, grad_cam(net, oblong, 3, layer="blocks.layers.1.norm1"), atol=1e-6)
    for later in ("blocks.layers.1", "blocks.norm"):  # only the class token is read after these
        assert not grad_cam(net, oblong, 3, layer=later).any()

    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    net.blocks.layers[1].norm1.register_forward_hook(keep)
    net(oblong)[:, 3].sum().backward()
    A, g = (t if batch_first else t.transpose(0, 1) for t in (kept[0].detach(), kept[0].grad))  # type: ignore[union-attr]
    by_hand = torch.stack([  # patch by patch, the class token left out
        F.relu(sum((g[:, 1:, k].mean(1) * A[:, 1 + n, k] for k in range(8)), torch.zeros(2))) for n in range(15)
    ], 1).view(2, 3, 5)  # fmt: skip
    assert torch.allclose(heat, by_hand, atol=1e-6)


def test_without_a_class_token_grad_cam_is_cam(oblong: Tensor) -> None:
    torch.manual_seed(0)
    net = Transformer(class_token=False).eval()
    assert torch.allclose(grad_cam(net, oblong, 2), F.relu(cam(net, oblong, 2)) / 15, atol=1e-6)
    assert grad_cam(net, oblong, 2, layer="blocks.layers.0").shape == (2, 3, 5)
    with pytest.raises(InputError, match="CAM needs global average pooling"):
        cam(Transformer(class_token=True), oblong, 2)


def test_a_layer_that_puts_out_several_things_and_one_with_the_channels_last(oblong: Tensor) -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, None]:
            return x.permute(0, 2, 3, 1) * 2, None

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.pair, self.head = nn.Conv2d(3, 8, 4, 4), Pair(), nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.pair(self.patches(x))[0].mean((1, 2)))

    torch.manual_seed(0)
    net = Net().eval()
    for layer in ("pair", None):
        expected = F.relu(torch.einsum("k,bkij->bij", net.head.weight[2] / 15, 2 * net.patches(oblong)))
        assert torch.allclose(grad_cam(net, oblong, 2, layer=layer), expected, atol=1e-6)


def test_memory_is_constant_over_a_thousand_calls() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    pictures = torch.rand(1, 3, 8, 8)

    def held_after(calls: int) -> tuple[int, int, int]:
        for call in range(calls):
            grad_cam(net, pictures, call % 5, layer="0" if call % 2 else None)
        tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
        hooks = sum(len(m._forward_hooks) + len(m._backward_hooks) for m in net.modules())
        return len(tensors), sum(tensor.nbytes for tensor in tensors), hooks

    gc.collect()
    gc.disable()  # what is let go must not have to wait for the collector
    try:
        before = held_after(2)
        assert held_after(1000) == before and before[2] == 0
    finally:
        gc.enable()
