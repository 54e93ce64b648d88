"""Live modules, and programs that torch.export saved, against PyTorch itself (`make peers`).

`make test` collects this file where PyTorch is not installed, so it is imported inside the tests. Errors are
relative to the array's largest magnitude.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lrpref
from lrpref import layers, weights_import
from lrpref.conformance import adapters
from lrpref.errors import BadInput, BadNetwork
from lrpref.network import Network
from lrpref.weights_import import exported, live
from lrpref.weights_import.torch_graph import IMPOSSIBLE, VIEWS
from lrpref.weights_import.torch_operators import OPERATORS

pytestmark = pytest.mark.peers

ROUNDING = 1e-12
"""float64 against float64: two orders of one sum differ by about 1e-15 of its largest summand; the rest is
room for a hundred layers and other processors."""

FLOAT32 = 1e-5
"""float32 against float32, the figure that the project promises."""


def difference(actual: Any, expected: Any) -> float:
    """Largest difference, relative to the largest magnitude expected."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    return float(abs(actual - expected).max() / (abs(expected).max() or 1))


def torch_() -> Any:
    return adapters.require("torch")


def randomised(module: Any, seed: int = 0) -> Any:
    """Give a module weights and statistics that hide nothing, in float64, for evaluation."""
    torch = torch_()
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, values in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith("running_var"):
                values.uniform_(0.5, 1.5)
            elif values.is_floating_point():
                values.normal_()
    return module.eval().double()


def wrapped(function: Callable[..., Any], *parts: Any) -> Any:
    """Make a module of a function of the input and of other modules."""
    torch = torch_()

    class Wrapped(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.parts = torch.nn.ModuleList(parts)

        def forward(self, x: Any) -> Any:
            return function(x, *self.parts)

    return Wrapped()


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what torch.export warns of in its own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def written(module: Any, x: Any, **options: Any) -> Any:
    """Let torch.export write a module down."""
    with quiet():
        return torch_().export.export(module, (x,), **options)


def open_batch() -> dict[str, Any]:
    """Give the option that leaves the number of samples open."""
    return {"dynamic_shapes": ({0: torch_().export.Dim("batch")},)}


def decomposed(program: Any) -> Any:
    """Write a program in the smaller vocabulary that compilers like."""
    with quiet():
        return program.run_decompositions()


def saved(program: Any, path: Path) -> Path:
    with quiet():
        torch_().export.save(program, path)
    return path


def imports(module: Any, x: Any, path: Path, **options: Any) -> Network:
    """Import a module both ways: live and through a file it is the same network, weight for weight."""
    program = written(module, x, **options)
    network = live.from_torch(program)
    assert exported.imported(saved(program, path / "program.pt2")).network.digest == network.digest
    return network


def refusal(module: Any, *shape: int) -> str:
    """The one line about a module that must not be imported."""
    with pytest.raises(BadNetwork) as caught:
        live.from_torch(module, np.ones(shape))
    line = str(caught.value)
    assert line.isprintable()
    return line


# Every operator, on odd geometry

CASES: dict[str, tuple[tuple[int, ...], Callable[[Any, Any], Any]]] = {}


def of(*shape: int) -> Callable[[Any], Any]:
    """Note a case: the shape of one sample, and what makes the module."""

    def note(case: Any) -> Any:
        CASES[case.__name__] = shape, case
        return case

    return note


@of(4, 9, 8)
def conv2d(nn: Any, F: Any) -> Any:
    return nn.Conv2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), dilation=(1, 2), groups=2)


@of(3, 7, 6)
def conv2d_same(nn: Any, F: Any) -> Any:
    return nn.Sequential(nn.Conv2d(3, 4, (4, 3), padding="same", dilation=(1, 2), bias=False), nn.ReLU())


@of(3, 7, 6)
def conv2d_valid(nn: Any, F: Any) -> Any:
    return nn.Conv2d(3, 4, 3, padding="valid")


@of(4, 7, 6)
def depthwise(nn: Any, F: Any) -> Any:
    return nn.Conv2d(4, 8, 3, padding=1, groups=4)


@of(3, 11)
def conv1d(nn: Any, F: Any) -> Any:
    conv = nn.Conv1d(3, 4, 3, stride=2, padding=1)
    return nn.Sequential(conv, nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2))


@of(4, 10)
def conv1d_same(nn: Any, F: Any) -> Any:
    return nn.Sequential(nn.Conv1d(4, 6, 4, padding="same", groups=2), nn.AvgPool1d(3, 2, 1), nn.Flatten())


@of(3, 4, 5)
def conv_transpose2d(nn: Any, F: Any) -> Any:
    return nn.ConvTranspose2d(3, 4, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=(1, 2))


@of(4, 4, 5)
def conv_transpose2d_groups(nn: Any, F: Any) -> Any:
    return nn.ConvTranspose2d(4, 6, 3, dilation=(1, 2), groups=2, bias=False)


@of(3, 5)
def conv_transpose1d(nn: Any, F: Any) -> Any:
    return nn.Sequential(nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1, output_padding=1), nn.Tanh())


@of(5)
def linear(nn: Any, F: Any) -> Any:
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3, bias=False))


@of(5)
def matrix_product(nn: Any, F: Any) -> Any:
    return wrapped(lambda x, a: x @ a.weight.t() + (x @ a.weight.T + a.bias), nn.Linear(5, 4))


@of(5)
def addmm(nn: Any, F: Any) -> Any:
    return wrapped(lambda x, a: torch_().addmm(a.bias, x, a.weight.t()), nn.Linear(5, 4))


@of(3, 5, 4)
def batch_norm2d(nn: Any, F: Any) -> Any:
    return nn.Sequential(nn.BatchNorm2d(3, eps=1e-3), nn.BatchNorm2d(3, affine=False))


@of(3)
def batch_norm1d_vector(nn: Any, F: Any) -> Any:
    return nn.BatchNorm1d(3)


@of(3, 4)
def batch_norm1d_signal(nn: Any, F: Any) -> Any:
    return nn.BatchNorm1d(3)


@of(3, 5, 4)
def functions(nn: Any, F: Any) -> Any:
    kinds = [nn.LeakyReLU(0.2), nn.ELU(0.7), nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.Tanh(), nn.Softplus()]
    return nn.Sequential(*kinds)


@of(3, 5, 4)
def bounds(nn: Any, F: Any) -> Any:
    def function(x: Any) -> Any:
        parts = [F.relu6(8 * x), F.hardtanh(x), x.clamp(-0.5, 0.25), x.clamp(min=0), x.clamp_min(0)]
        return torch_().cat([*parts, F.hardsigmoid(x), x.sigmoid()], 1)

    return wrapped(function)


@of(3, 5, 4)
def gates_of_their_own_value(nn: Any, F: Any) -> Any:
    """Written in two: SiLU and HardSwish."""

    def function(x: Any) -> Any:
        y = x * x.sigmoid()
        return F.hardsigmoid(y) * y

    return wrapped(function)


@of(3, 4)
def prelu(nn: Any, F: Any) -> Any:
    return nn.PReLU()


@of(4)
def softmax(nn: Any, F: Any) -> Any:
    return nn.Sequential(nn.Linear(4, 3), nn.Softmax(1))


@of(4)
def log_softmax(nn: Any, F: Any) -> Any:
    return nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(-1))


@of(3, 10, 9)
def max_pool2d(nn: Any, F: Any) -> Any:
    return nn.MaxPool2d((3, 2), stride=(2, 3), padding=(1, 0), ceil_mode=True)


@of(3, 10, 9)
def max_pool2d_with_indices(nn: Any, F: Any) -> Any:
    return wrapped(lambda x: F.max_pool2d_with_indices(x, 3)[0])


@of(3, 10, 9)
def avg_pool2d(nn: Any, F: Any) -> Any:
    return nn.Sequential(
        nn.AvgPool2d((3, 2), (2, 1), (1, 0), ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(2, divisor_override=3),
    )


@of(3, 10, 7)
def adaptive(nn: Any, F: Any) -> Any:
    largest = nn.AdaptiveMaxPool2d((2, None))
    return nn.Sequential(nn.AdaptiveAvgPool2d((4, 3)), largest, nn.AdaptiveAvgPool2d(1))


@of(3, 9)
def adaptive_1d(nn: Any, F: Any) -> Any:
    return nn.Sequential(nn.AdaptiveAvgPool1d(4), nn.AdaptiveMaxPool1d(2))


@of(3, 5, 4)
def means(nn: Any, F: Any) -> Any:
    def function(x: Any) -> Any:
        kept = x.mean((-2, -1), keepdim=True)
        return torch_().cat([kept.flatten(1), x.mean([2, 3]), x.flatten(2).mean(-1), x.amax((2, 3))], 1)

    return wrapped(function)


@of(3, 5, 4)
def sums(nn: Any, F: Any) -> Any:
    def function(x: Any, conv: Any) -> Any:
        y = conv(x)
        return torch_().add(x + y, y, alpha=0.5) - torch_().sub(y, x, alpha=2) + x + x

    return wrapped(function, nn.Conv2d(3, 3, 1))


@of(3, 5, 4)
def affine(nn: Any, F: Any) -> Any:
    def function(x: Any, norm: Any) -> Any:
        per_channel = norm.weight.view(3, 1, 1)
        y = (2 - x * per_channel) / norm.bias.view(1, -1, 1, 1) + per_channel
        return 0.5 * -y - 1

    return wrapped(function, nn.BatchNorm2d(3))


@of(6, 5, 4)
def parts(nn: Any, F: Any) -> Any:
    def function(x: Any) -> Any:
        a, b = x.chunk(2, 1)
        c, d = x.split([1, 5], 1)
        e, _, f = x.split(2, 1)
        g = x[:, 1:6:2, ..., 1:].narrow(2, 1, 3)
        joined = torch_().cat([b, a, d, c, f, e], 1)
        return torch_().cat([joined[:, 3:, 1:4, 1:], g], 1)

    return wrapped(function)


@of(3, 5, 4)
def transformed_input(nn: Any, F: Any) -> Any:
    """As torchvision's inception_v3 and googlenet do."""

    def function(x: Any) -> Any:
        return torch_().cat([x[:, i].unsqueeze(1) * (0.5 + i) + (i - 0.3) for i in range(3)], 1)

    return wrapped(function)


@of(6, 5, 4)
def shapes(nn: Any, F: Any) -> Any:
    def function(x: Any) -> Any:
        y = x.view(x.size(0), 2, 3, 5, -1).transpose(1, 2).contiguous().view(x.shape)
        z = x.permute(0, 2, 3, 1).reshape(x.size(0), 5, 4, 6).permute(0, 3, 1, 2)
        u = x.flatten(1).unflatten(1, (6, -1)).unsqueeze(2).squeeze(2).reshape(-1, 6, 5, 4)
        return (y + z + u).transpose(2, 3).flatten(start_dim=1)

    return wrapped(function)


@of(6, 5, 4)
def channel_shuffle(nn: Any, F: Any) -> Any:
    return nn.ChannelShuffle(3)


@of(3, 5, 4)
def dropouts(nn: Any, F: Any) -> Any:
    return nn.Sequential(
        nn.Dropout(), nn.Dropout2d(), nn.AlphaDropout(), nn.FeatureAlphaDropout(), nn.Identity(), nn.Tanh()
    )


@of(3, 5, 4)
def paddings(nn: Any, F: Any) -> Any:
    return nn.Sequential(nn.ZeroPad2d((1, 0, 2, 3)), nn.Conv2d(3, 4, 3), nn.ConstantPad2d((0, 1, 1, 0), -0.5))


@of(3, 5)
def paddings_1d(nn: Any, F: Any) -> Any:
    return nn.Sequential(nn.ConstantPad1d((2, 1), 0.5), nn.Conv1d(3, 4, 3))


@of(3, 6, 4)
def option_a(nn: Any, F: Any) -> Any:
    """The two ways in which CIFAR's ResNets widen their shortcuts."""

    def function(x: Any) -> Any:
        padded = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2))
        zeros = torch_().zeros(x.shape[0], 3, 3, 2, dtype=x.dtype)
        return padded + torch_().cat([F.avg_pool2d(x, 1, 2), zeros], 1)

    return wrapped(function)


@of(3, 6, 4)
def option_a_by_zero(nn: Any, F: Any) -> Any:
    return wrapped(lambda x: torch_().cat([x, x.mul(0)], 1) + torch_().cat([torch_().zeros_like(x), x], 1))


@of(3, 5, 4)
def constants(nn: Any, F: Any) -> Any:
    def function(x: Any) -> Any:
        shifts = torch_().tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
        return (x - shifts).to(torch_().float64).clone().detach()

    return wrapped(function)


@of(3, 5, 4)
def computed_constants(nn: Any, F: Any) -> Any:
    def function(x: Any) -> Any:
        torch = torch_()
        nothing = x.new_zeros(x.size(0), 2, 5, 4)
        more = torch.full((x.size(0), 1, 5, 4), 0.0, dtype=x.dtype)
        same = x * torch.ones(3, 1, 1, dtype=x.dtype)
        widened = torch.cat([torch.full_like(x, 0.0), nothing, same, more], 1)
        return widened + torch.tensor([[-0.5]] * 9).view(9, 1, 1)[:, 0].unsqueeze(1) * 2

    return wrapped(function)


@of(3, 1, 4)
def spelled_out(nn: Any, F: Any) -> Any:
    """Overloads that PyTorch's Python functions seldom lead to."""

    def function(x: Any) -> Any:
        aten = torch_().ops.aten
        y = aten.add.Scalar(aten.mul.Scalar(aten.div.Scalar(x, 2), 3), 1)
        y = aten.to.device(aten.rsub.Tensor(torch_().tensor([2.0]).squeeze(), y), "cpu", torch_().float64)
        y = aten.sub.Scalar(aten.alias(aten._to_copy(aten.swapaxes(y, 1, 2))), 4)
        return aten._unsafe_view(aten.to.dtype_layout(y, dtype=torch_().float64), [-1, 12])

    return wrapped(function)


@of(3, 4)
def sizes(nn: Any, F: Any) -> Any:
    """Arithmetic with the number of samples, where that is open."""

    def function(x: Any) -> Any:
        n = x.size(0)
        return x.reshape(n * 2 + n * -1, 12).reshape(-1 + (n + 1), 12).unflatten(1, (x.size(2), -1))

    return wrapped(function)


@of(3, 5, 4)
def shared_module(nn: Any, F: Any) -> Any:
    return wrapped(lambda x, conv, relu: relu(conv(relu(conv(x)))), nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())


@of(3, 5, 4)
def in_place(nn: Any, F: Any) -> Any:
    """All that reads x after `relu_` sees what it left there."""

    def function(x: Any, conv: Any) -> Any:
        x = conv(x)
        before = x * 2
        y = x.relu_()
        x += before
        z = x + y  # y is x
        z.mul_(0.5).add_(x).clamp_(-1, 7)
        return z.view(z.size(0), -1).sigmoid_()

    return wrapped(function, nn.Conv2d(3, 3, 3, padding=1))


@of(3, 5, 4)
def in_place_modules(nn: Any, F: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU6(inplace=True), nn.Dropout(inplace=True), nn.Hardswish(inplace=True),
        nn.ELU(inplace=True), nn.SiLU(inplace=True), nn.LeakyReLU(0.1, inplace=True),
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # PyTorch tells that it is slow
def test_operator(case: str, tmp_path: Path) -> None:
    torch = torch_()
    shape, make = CASES[case]
    module = randomised(make(torch.nn, torch.nn.functional))
    x = torch.randn(2, *shape, dtype=torch.float64)
    with torch.no_grad():
        expected = module(x).numpy()
    network = imports(module, x, tmp_path)
    assert difference(network.forward(x.numpy()), expected) <= ROUNDING
    one = live.from_torch(module, x[:1])  # a batch of one, where axes of length 1 may be taken for each other
    assert difference(one.forward(x.numpy()), expected) <= ROUNDING
    assert imports(module, x, tmp_path, **open_batch()).digest == network.digest


DECOMPOSED_AWAY = {
    "functions": "into products", "bounds": "into a bound on one side", "prelu": "into a comparison",
    "in_place_modules": "into products", "gates_of_their_own_value": "into a bound on one side",
}  # fmt: skip
"""Cases whose operators `run_decompositions` takes apart into unsupported ones, such as x * sigmoid(x)."""


@pytest.mark.parametrize("case", sorted(CASES.keys() - DECOMPOSED_AWAY))
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_decomposed_program(case: str) -> None:
    """The same networks in the smaller vocabulary of `run_decompositions`, for any number of samples."""
    torch = torch_()
    shape, make = CASES[case]
    module = randomised(make(torch.nn, torch.nn.functional))
    x = torch.randn(2, *shape, dtype=torch.float64)
    network = live.from_torch(decomposed(written(module, x, **open_batch())))
    assert difference(network.forward(x.numpy()), module(x).detach().numpy()) <= ROUNDING


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_every_operator_is_tried(tmp_path: Path) -> None:
    """Each name in the table is met in the cases above: there is none that nothing tries."""
    torch = torch_()
    met: set[str] = {IMPOSSIBLE}  # has its own tests below
    for shape, make in CASES.values():
        module = randomised(make(torch.nn, torch.nn.functional))
        program = written(module, torch.randn(2, *shape, dtype=torch.float64), **open_batch())
        met |= {call.operator for call in exported.read(saved(program, tmp_path / "program.pt2")).calls}
        met |= {call.operator for call in live.read(decomposed(program)).calls}
    assert OPERATORS.keys() <= met, OPERATORS.keys() - met


# Names


def test_nodes_have_the_names_of_the_modules() -> None:
    """The weight's module; else PyTorch's own module; else the module around it, with what it does."""
    torch = torch_()
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.scale = nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1)

        def forward(self, x: Any) -> Any:
            y = self.relu(self.conv(x))
            return self.relu(nn.functional.conv2d(y, self.scale.weight) + x)

    network = live.from_torch(nn.Sequential(Block(), nn.Flatten()).eval(), np.ones((1, 3, 4, 4)))
    assert [node.name for node in network.nodes] == [
        "0.conv", "0.relu", "0.scale", "0.add", "0.relu.2", "1",
    ]  # fmt: skip
    assert network.name == "Sequential"
    alone = live.from_torch(nn.Conv2d(3, 3, 1).eval(), np.ones((1, 3, 4, 4)))
    assert [node.name for node in alone.nodes] == ["conv2d"]  # PyTorch's own module, but it has no name


def test_values_name_what_each_node_computes() -> None:
    """Node by node, the values are those of torch.export's own interpreter."""
    torch = torch_()
    module = randomised(torch.nn.Sequential(torch.nn.Conv1d(2, 3, 2), torch.nn.ReLU(), torch.nn.Flatten()))
    x = torch.randn(2, 2, 5, dtype=torch.float64)
    program = live.exported(module, x)
    made = live.imported(program)
    found: dict[str, Any] = {}

    class Recorder(torch.fx.Interpreter):  # type: ignore[misc, name-defined, unused-ignore]
        def run_node(self, n: Any) -> Any:
            found[n.name] = super().run_node(n)
            return found[n.name]

    Recorder(program.module()).run(x)
    nodes = made.network.activations(x.numpy(), lrpref.kernels.backend("numpy"))
    assert list(made.values) == ["0", "1", "2"]  # and no value is the image that stands for the signal
    for node, value in made.values.items():
        expected = found[value].detach().numpy()
        assert difference(nodes[node].reshape(expected.shape), expected) <= ROUNDING


# Changes in place


def through_a_view(x: Any) -> Any:
    y = x * 2
    y.view(len(y), -1).relu_()
    return y + 1


def view_of_what_changes(x: Any) -> Any:
    y = x * 2
    flat = y.flatten(1)
    y.relu_()
    return flat + 1


def part_of_what_changes(x: Any) -> Any:
    y = x * 2
    y[:, :1].relu_()
    return y


def changed_through_two_views(x: Any) -> Any:
    y = x * 2
    a, b = y.view(len(y), -1), y.transpose(2, 3)
    a.relu_()
    return b.sigmoid()


def through_an_unsupported_view(x: Any) -> Any:
    y = x * 2
    y.diagonal(0, 2, 3).relu_()
    return y


def through_numbers_of_its_own(x: Any) -> Any:
    y = x * 2
    torch_().as_strided(y, (1, 9), (18, 1)).relu_()
    return y


def a_dropout_is_what_it_got(x: Any) -> Any:
    y = x * 2
    torch_().nn.functional.dropout(y, training=False).relu_()
    return y + 1


STALE = (
    through_a_view, view_of_what_changes, part_of_what_changes, changed_through_two_views,
    through_an_unsupported_view, through_numbers_of_its_own, a_dropout_is_what_it_got,
)  # fmt: skip


@pytest.mark.parametrize("function", STALE)
def test_views_of_what_changes_in_place_are_refused(function: Callable[..., Any], tmp_path: Path) -> None:
    """Computed through the old value, each would be another function: x = -1 shows it."""
    line = refusal(wrapped(function).eval(), 1, 2, 3, 3)
    assert "changed in place" in line
    assert "inplace=True" in line
    path = saved(written(wrapped(function).eval(), torch_().ones(1, 2, 3, 3)), tmp_path / "program.pt2")
    with pytest.raises(BadNetwork, match="changed in place"):
        exported.imported(path)


def test_a_view_taken_after_the_change_is_read(tmp_path: Path) -> None:
    torch = torch_()

    def function(x: Any) -> Any:
        y = x * 2
        early = y.flatten(1)  # not read any more
        y.relu_()
        late = y.flatten(1)
        del early
        return late.add_(1) * 3 + late

    x = torch.randn(2, 2, 3, 3, dtype=torch.float64)
    network = imports(wrapped(function).eval(), x, tmp_path)
    assert difference(network.forward(x.numpy()), function(x).numpy()) <= ROUNDING


def test_a_weight_that_changes_in_place_is_refused() -> None:
    torch = torch_()

    class Counting(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: Any) -> Any:
            self.count += 1
            return x * self.count

    module = Counting().eval()
    assert "a weight or constant of the module" in refusal(module, 1, 3, 4, 4)
    assert module.count == 0


def test_operators_that_may_give_a_view_are_known() -> None:
    """PyTorch's own schemas say which results share memory; dropout's schema does not."""
    torch = torch_()
    for name in OPERATORS:
        space, _, rest = name.partition(".")
        if space == "aten":
            packet, _, overload = rest.partition(".")
            schema = getattr(getattr(torch.ops.aten, packet), overload)._schema
            shares = any(result.alias_info is not None for result in schema.returns)
            assert shares <= (name in VIEWS), name
            assert not any(a.alias_info is not None and a.alias_info.is_write for a in schema.arguments) or (
                name == "aten.detach_.default"  # which changes no number
            )


def test_a_frozen_part_is_read() -> None:
    """`torch.no_grad()` in a module changes nothing of what it computes."""
    torch = torch_()

    def function(x: Any, conv: Any) -> Any:
        with torch.no_grad():
            y = conv(x)
        return y.relu()

    network = live.from_torch(wrapped(function, torch.nn.Conv2d(3, 4, 1)).eval(), np.ones((1, 3, 4, 4)))
    assert [node.name for node in network.nodes] == ["parts.0", "relu"]


# What is not read


def test_all_that_is_unsupported_is_listed() -> None:
    torch = torch_()
    nn = torch.nn

    class Gate(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.pool = nn.GroupNorm(1, 4), nn.MaxPool2d(3, dilation=2, padding=1)

        def forward(self, x: Any) -> Any:
            y = self.norm(x)
            return torch.cumsum(self.pool(y * y.tanh()), 1)

    line = refusal(nn.Sequential(nn.Conv2d(3, 4, 1), Gate()).eval(), 1, 3, 9, 9)
    assert line.startswith("4 things in it cannot be read: ")
    for operator, node in {
        "operator aten.group_norm.default": "1.norm",
        "a product of two values that both depend on the input": "1.mul",
        "max pooling with dilation": "1.pool",
        "operator aten.cumsum.default": "1.cumsum",
    }.items():
        assert re.search(rf"{re.escape(operator)}[^;]* \(node {re.escape(node)}\)", line), operator
    assert "Nothing was imported" in line


UNSUPPORTED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "mean over channels": (lambda x: x.mean(1), "the mean of"),
    "mean over samples": (lambda x: x.mean((0, 2, 3)), "along the samples of the batch"),
    "rows": (lambda x: x * torch_().arange(5.0), "one number, or one for each channel"),
    "broadcast sum": (lambda x: x + x.amax((2, 3), keepdim=True), "values of one shape"),
    "quotient": (lambda x: x / x.sigmoid(), "a quotient of two values"),
    "reflection": (lambda x: torch_().nn.functional.pad(x, (1, 1, 1, 1), "reflect"), "'reflect'"),
    "crop": (lambda x: torch_().nn.functional.pad(x, (-1, 0)), "write it as a slice"),
    "gelu": (lambda x: torch_().nn.functional.gelu(x, approximate="tanh"), "approximate='tanh'"),
    "selu": (lambda x: torch_().nn.functional.selu(x), "aten.selu.default"),
    "clamp": (lambda x: x.clamp(max=1), "a bound on one side"),
    "samples joined": (lambda x: x.reshape(1, -1), "the samples must stay"),
    "samples moved": (lambda x: x.transpose(0, 1), "they must stay on the first axis"),
    "samples taken": (lambda x: x[:1], "along the samples of the batch"),
    "ones beside": (lambda x: torch_().cat([x, torch_().ones(2, 1, 4, 5)], 1), "other than zeros"),
    "attention": (lambda x: x @ x.transpose(2, 3), "a matrix product of two values"),
    "along the last axis": (lambda x: x @ torch_().ones(5, 2), "vectors (N, J) are read"),
    "softmax": (lambda x: x.softmax(1), "softmax along dimension 1"),
    "unequal windows": (lambda x: torch_().nn.functional.adaptive_max_pool2d(x, 3), "of several sizes"),
    "integers": (lambda x: x.to(torch_().int64), "float numbers stay float"),
    "training": (lambda x: torch_().nn.functional.dropout(x), "module.eval()"),
    "batch statistics": (lambda x: torch_().nn.functional.batch_norm(x, None, None, training=True), "eval()"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported(name: str) -> None:
    function, words = UNSUPPORTED[name]
    assert words in refusal(wrapped(function).eval(), 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: x if x.sum() > 0 else -x, "cannot follow Wrapped"),
        (lambda x: x.reshape(7, 7), "see whether module(example_input) runs"),
        (lambda x: (x, -x), "2 outputs"),
        (lambda x: x, "nothing to explain"),
        (lambda x: torch_().ones(2, 3) * 2, "does not depend on its input"),
        (lambda x: torch_().nn.functional.relu(x).softmax(1) * 2, "softmax"),
    ],
)
def test_modules_that_are_no_network(function: Callable[[Any], Any], words: str) -> None:
    assert words in refusal(wrapped(function).eval(), 2, 3)


def test_training_mode_is_refused_and_the_module_left_as_it_is() -> None:
    torch = torch_()
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    line = refusal(module, 2, 3, 4, 4)
    assert "Sequential, 0, 1" in line
    assert "module.eval()" in line
    assert module.training
    module.eval()
    module[1].train()  # one part is enough: torch.export would take it in silence
    assert "training mode (1)" in refusal(module, 2, 3, 4, 4)
    program = torch.export.export(module, (torch.ones(2, 3, 4, 4),))
    with pytest.raises(BadNetwork, match=r"module\.eval\(\)"):
        live.from_torch(program)


@pytest.mark.parametrize("module", [None, {"weight": 1}, "resnet18", int])
def test_what_is_no_module(module: Any) -> None:
    with pytest.raises(BadNetwork, match=r"expected a torch\.nn\.Module"):
        live.from_torch(module, np.ones((1, 3, 4, 4)))


@pytest.mark.parametrize("example", [None, "x", np.ones(3), 1.0, np.ones((0, 3))])
def test_what_is_no_example(example: Any) -> None:
    with pytest.raises(BadInput, match="example input"):
        live.from_torch(torch_().nn.Linear(3, 2).eval(), example)


def test_two_inputs_are_refused() -> None:
    torch = torch_()

    class Two(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def forward(self, x: Any, y: Any) -> Any:
            return x + y

    program = torch.export.export(Two().eval(), (torch.ones(1, 3), torch.ones(1, 3)))
    with pytest.raises(BadNetwork, match="2 inputs"):
        live.from_torch(program)


# Weights


def test_weights_are_the_modules_own() -> None:
    torch = torch_()
    module = torch.nn.Linear(3, 2).eval()
    before = {name: values.clone() for name, values in module.state_dict().items()}
    layer = live.from_torch(module, np.ones((1, 3), np.float32)).nodes[0].layer
    assert isinstance(layer, layers.Dense)
    assert layer.weight.dtype == np.float32
    assert not np.shares_memory(layer.weight, module.weight.detach().numpy())  # it may be trained on
    assert all(torch.equal(values, before[name]) for name, values in module.state_dict().items())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_is_widened_exactly(dtype: str, tmp_path: Path) -> None:
    torch = torch_()
    module = torch.nn.Conv2d(3, 4, 3).to(getattr(torch, dtype)).eval()
    network = imports(module, torch.ones(1, 3, 5, 5, dtype=getattr(torch, dtype)), tmp_path)
    layer = network.nodes[0].layer
    assert isinstance(layer, layers.Conv2d)
    assert layer.weight.dtype == np.float32
    assert np.array_equal(layer.weight, module.weight.detach().float().numpy())
    assert module.weight.dtype == getattr(torch, dtype)


def test_weights_that_are_computed() -> None:
    """Weight normalisation is a parametrization: PyTorch computes the weight, from constants alone."""
    torch = torch_()
    module = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv2d(3, 4, 3))
    module = randomised(module)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    network = live.from_torch(module, x)
    assert [node.layer.kind for node in network.nodes] == ["Conv2d"]
    assert difference(network.forward(x.numpy()), module(x).detach().numpy()) <= ROUNDING


def test_tied_and_non_persistent_and_channels_last(tmp_path: Path) -> None:
    torch = torch_()

    class Tied(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.Conv2d(3, 3, 3, padding=1)
            self.two.weight = self.one.weight
            self.register_buffer("mean", torch.ones(1, 3, 1, 1) / 3, persistent=False)

        def forward(self, x: Any) -> Any:
            return self.two(self.one(x - self.mean).relu())

    module = randomised(Tied()).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    network = imports(module, x, tmp_path)
    assert difference(network.forward(x.numpy()), module(x).detach().numpy()) <= ROUNDING


def test_example_of_another_dtype_is_taken() -> None:
    """A float64 module takes the float32 picture that is at hand; only its shape matters."""
    network = live.from_torch(torch_().nn.Linear(3, 2).double().eval(), np.ones((1, 3), np.float32))
    assert network.input_shape == (3,)


def test_options_reach_the_network() -> None:
    module = torch_().nn.Linear(3, 2).eval()
    network = live.from_torch(module, np.ones((1, 3)), name="pair", classes=("a", "b"))
    assert (network.name, network.classes) == ("pair", ("a", "b"))
    assert network.provenance["module"] == "Linear"


# Whole networks of torchvision, with random weights

MODELS = (
    "vgg16_bn", "resnet18", "resnet50", "squeezenet1_1", "inception_v3", "densenet121", "mobilenet_v2",
    "googlenet",
)  # fmt: skip


def model(name: str) -> Any:
    """Make a model of torchvision whose norms have something to do."""
    torch, torchvision = torch_(), adapters.require("torchvision")
    torch.manual_seed(0)
    options = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    module = torchvision.models.get_model(name, weights=None, **options)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(0, 0.1)
    return module.eval()


def picture(name: str) -> Any:
    """Draw an input: Inception's last pooling wants 75 x 75 at least, the others' 32 x 32 would do."""
    side = 107 if name == "inception_v3" else 96
    return torch_().randn(1, 3, side, side)


def gradient(module: Any, x: Any, target: int) -> Any:
    x = x.detach().double().requires_grad_()
    (g,) = torch_().autograd.grad(module(x)[0, target], x)
    return g.numpy()


@pytest.mark.parametrize("name", MODELS)
def test_torchvision(name: str) -> None:
    """Forward as PyTorch, in both precisions; LRP-0 is gradient x input; the books close at every node.

    With mobilenet_v2 it is not: where a ReLU6 saturates, relevance passes and the gradient does not. That has
    a test of its own.
    """
    torch = torch_()
    module, x = model(name), picture(name)
    network = live.from_torch(module, x)
    with torch.no_grad():
        expected = module(x).numpy()
        assert difference(network.forward(x.numpy(), backend="cpu", dtype="float32"), expected) <= FLOAT32
        module = module.double()
        expected = module(x.double()).numpy()
    network = live.from_torch(module, x)
    assert difference(network.forward(x.numpy(), backend="cpu"), expected) <= ROUNDING
    target = int(expected.argmax())
    explanation = lrpref.explain(network, x.numpy(), target, "lrp-0", backend="cpu", dtype="float64")
    # 1e-10 of the maximum: thousands of numbers that cancel are added up; 1e-13 of a node's sum of |R|
    off = difference(explanation.relevance, gradient(module, x, target) * x.numpy())
    if name != "mobilenet_v2":
        assert off <= 1e-10
    for row in explanation.ledger:
        assert abs(row.residual).max() <= 1e-13 * abs(explanation.at(row.node)).sum(), row.node


def test_a_live_module_is_the_architecture_of_its_name(tmp_path: Path) -> None:
    """Two ways that have nothing in common but the vocabulary: the same nodes, names, options and weights."""
    module = model("squeezenet1_1")
    torch_().save(module.state_dict(), tmp_path / "weights.pth")
    named = weights_import.load(tmp_path / "weights.pth", architecture="squeezenet1_1")
    network = live.from_torch(
        module, np.ones((1, 3, 224, 224)), classes=named.classes, preprocessing=named.preprocessing
    )
    assert network.digest == named.digest


def test_relu6_that_saturates_passes_relevance_and_no_gradient() -> None:
    """The one exception to LRP-0 = gradient x input, and that it is the only one.

    ReLU6 is min(6, max(0, z)). Above 6 its derivative is 0: the gradient ends there. Relevance passes an
    activation unchanged, wherever it is active; so LRP-0 and gradient x input differ on mobilenet_v2, as soon
    as one neuron saturates. With the bound raised to infinity, where no neuron gets, they agree again.
    """
    torch = torch_()
    module, x = model("mobilenet_v2").double(), 4 * picture("mobilenet_v2").double()
    clipped = [part for part in module.modules() if isinstance(part, torch.nn.ReLU6)]
    saturated: list[int] = []
    hooks = [
        part.register_forward_hook(lambda _, inputs, output: saturated.append(int((output >= 6).sum())))
        for part in clipped
    ]
    module(x)
    assert sum(saturated) > 0
    for hook in hooks:
        hook.remove()

    def apart() -> float:
        network, target = live.from_torch(module, x), int(module(x).argmax())
        explanation = lrpref.explain(network, x.numpy(), target, composite="lrp-0", backend="cpu")
        return difference(explanation.relevance, gradient(module, x, target) * x.numpy())

    assert apart() > 1e-3  # by far more than rounding
    for part in clipped:
        part.max_val = float("inf")
    assert apart() <= 1e-10
