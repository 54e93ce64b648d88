"""Which rule at which layer: the published choices, and files of one's own."""

import numpy as np
import pytest

from lrpref import composites
from lrpref.errors import BadRule
from lrpref.fold import fold
from lrpref.layers import Add, BatchNorm, Conv2d, Dense, MaxPool2d, ReLU
from lrpref.network import INPUT, Network, Node
from lrpref.weights_import.architectures import get
from lrpref.weights_import.build import expected_tensors, make_network


@pytest.fixture(scope="module")
def vgg16():
    architecture = get("vgg16")
    shapes = expected_tensors(architecture)
    return make_network(architecture, {n: np.broadcast_to(np.float32(0), s) for n, s in shapes.items()})


def linear(network, name, **parameters):
    rules = composites.get(name, **parameters).rules(network)
    return {node.name: str(rules[node.name]) for node in network.nodes if node.layer.is_linear}


def test_chapter_on_vgg16_is_the_authors_choice(vgg16):
    """conv1_1 z^B, conv1_2 to pool3 gamma, conv4_1 to pool5 eps, dense LRP-0: torchvision's indices."""
    rules = linear(vgg16, "chapter")
    first, *rest = rules
    assert first == "features.0"
    assert rules[first].startswith("z-box([-2.1179")  # black: (0 - 0.485) / 0.229
    gamma = [f"features.{i}" for i in (2, 4, 5, 7, 9, 10, 12, 14, 16)]
    eps = [f"features.{i}" for i in (17, 19, 21, 23, 24, 26, 28, 30)]
    dense = [f"classifier.{i}" for i in (0, 3, 6)]
    assert rest == [*gamma, *eps, "avgpool", *dense]
    assert {rules[n] for n in gamma} == {"generalized-gamma(0.25)"}
    assert {rules[n] for n in eps} == {"epsilon(0.25std)"}
    assert {rules[n] for n in dense} == {"zero"}
    assert rules["avgpool"] == "pass"  # 7 x 7 regions of a 7 x 7 image


def test_names_of_zennit(vgg16):
    rules = linear(vgg16, "epsilon-alpha2-beta1-flat")
    assert rules.pop("features.0") == "flat(stabilizer=signed(1e-06))"
    kinds = {node.name: node.layer.role for node in vgg16.nodes}
    assert {kinds[n]: r for n, r in rules.items()} == {
        "convolution": "alpha-beta(2,1,stabilizer=signed(1e-06))",
        "max-pooling": "winner-take-all",
        "average-pooling": "zero(stabilizer=signed(1e-06))",
        "dense": "epsilon(1e-06)",
    }


def test_parameters(vgg16):
    rules = linear(vgg16, "chapter", gamma=0.1, eps="0.5std", pooling="winner-take-all(split)", first="w2")
    assert {rules[n] for n in ("features.0", "features.2", "features.4", "features.17")} == {
        "w2", "generalized-gamma(0.1)", "winner-take-all(split)", "epsilon(0.5std)"
    }  # fmt: skip
    with pytest.raises(BadRule, match="no parameter 'delta'; it has gamma, eps, first, pooling"):
        composites.get("chapter", delta=1)


@pytest.fixture
def branching():
    """Two convolutions, a sum that gamma must not reach, a norm that nothing can take: it turns signs."""
    weight = np.ones((2, 2, 1, 1))
    return Network(
        (
            Node("conv1", Conv2d(weight), (INPUT,)),
            Node("relu1", ReLU(), ("conv1",)),
            Node("sum", Add(), ("relu1", INPUT)),
            Node("norm", BatchNorm(np.array([1.0, -1.0]), np.ones(2)), ("sum",)),
            Node("pool", MaxPool2d(2), ("norm",)),
            Node("conv2", Conv2d(weight), ("pool",)),
        ),
        (2, 4, 4),
    )


def test_sums_and_norms_follow_their_region(branching):
    assert [n.name for n in fold(branching).nodes if n.layer.role == "norm"] == ["norm"]
    assert linear(branching, "chapter", first="w2") == {
        "conv1": "w2", "sum": "zero", "norm": "generalized-gamma(0.25)", "pool": "generalized-gamma(0.25)",
        "conv2": "epsilon(0.25std)",
    }  # fmt: skip
    assert linear(branching, "epsilon")["sum"] == "zero(stabilizer=0.25std)"
    assert linear(branching, "epsilon-plus")["norm"] == "pass"


def test_a_file_of_ones_own(branching, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'base = "epsilon-plus"\n[nodes]\n"conv1" = "flat"\n"conv*" = "w2"\n[kinds]\nsum = "zero"\n',
        encoding="utf-8",
    )
    made = composites.get(path)
    assert made.name == "mine"
    assert linear(branching, path) == {
        "conv1": "flat", "sum": "zero", "norm": "pass", "pool": "winner-take-all", "conv2": "w2"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "gives no rule to conv1, sum, norm, pool, conv2"),
        ('base = "nothing"', "base is 'nothing'"),
        ("base = ['epsilon']", "base is"),
        ("base = 'bad.toml'", "base is 'bad.toml'"),
        ("rules = 3", "unknown key 'rules'"),
        ("[nodes]\nconv1 = 3", r"\[nodes\] wants lines such as"),
        ('[kinds]\nconv = "zero"', "has no 'conv'"),
        ("= ", "not a TOML file"),
        ('base = "chapter"', "needs bounds"),
        ('[nodes]\n"*" = "gamma(0.25"', "unknown rule"),
    ],
)
def test_bad_files(branching, tmp_path, text, said):
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadRule, match=said):
        composites.get(path).rules(branching)


def test_a_file_comes_before_its_base(branching, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "epsilon-plus"\n[regions]\nlower = "flat"\n', encoding="utf-8")
    assert linear(branching, path) == {
        "conv1": "flat", "sum": "zero", "norm": "flat", "pool": "flat",
        "conv2": "z-plus(stabilizer=signed(1e-06))",
    }  # fmt: skip


def test_where_branches_meet_the_higher_region_counts():
    convolution = Conv2d(np.ones((1, 1, 1, 1)))
    for branches in (("conv2", "conv1"), ("conv1", "conv2")):
        network = Network(
            (
                Node("conv1", convolution, (INPUT,)),
                Node("conv2", convolution, ("conv1",)),
                Node("sum", Add(), branches),
                Node("pool", MaxPool2d(1), ("sum",)),
            ),
            (1, 2, 2),
        )
        assert linear(network, "chapter", first="w2")["pool"] == "epsilon(0.25std)"


def test_dense_networks_have_upper_layers_only():
    nodes = (Node("fc", Dense(np.ones((2, 3))), (INPUT,)),)
    assert linear(Network(nodes, (3,)), "chapter") == {"fc": "zero"}
    assert linear(Network(nodes, (3,)), "epsilon-plus-flat") == {"fc": "flat(stabilizer=signed(1e-06))"}
