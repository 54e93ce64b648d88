"""Malformed architectures: TOML files that are read beside good weights."""

from malformed import seeds
from malformed.corpus import ARCHITECTURE, Corpus

CORPUS = Corpus("architectures", ".safetensors")

BILLION = 1_000_000_000


def document(kind: str, words: str, name: str, text: str) -> None:
    """Add a case: another architecture."""
    CORPUS.add(kind, words, name, seeds.tensors(), architecture=text)


def replaced(kind: str, words: str, name: str, old: str, new: str) -> None:
    """Add a case: the architecture with one thing replaced."""
    assert old in ARCHITECTURE
    document(kind, words, name, ARCHITECTURE.replace(old, new))


def stack(kind: str, words: str, name: str, *nodes: str, shape: str = "[2]") -> None:
    """Add a case: nodes that follow one another, each in the words of an inline table."""
    lines = ", ".join(f"{{ name = 'n{number}', {text} }}" for number, text in enumerate(nodes))
    document(kind, words, name, f"name = 'x'\ninput = {shape}\nnode = [{lines}]\n")


document("a graph that is no TOML", "TOML|toml", "no-toml", "name = \n[[")
document("a graph that is no TOML", "TOML|toml", "page", "<!DOCTYPE html>")
document("deep nesting", "TOML|toml", "deep", "name = " + "[" * 100_000)
document("a graph of nothing", "missing", "nothing", "# nothing\n")
document("a graph of nothing", "node", "no-nodes", "name = 'x'\ninput = [2]\nnode = []\n")
document(
    "a number of a million digits",
    "TOML|toml|digits",
    "digits",
    "name = 'x'\ninput = [1" + "0" * 1_000_000 + "]\n",
)
replaced("an unknown layer", "unknown layer", "layer", "Dense", "Exec")
replaced("an unknown key", "unknown key", "key", "out = 3", "out = 3\nrun = 'x'")
replaced("numbers of another type", "out is", "text", "out = 3", "out = '3'")
replaced("numbers of another type", "out is", "true", "out = 3", "out = true")
replaced("numbers of another type", "out is", "fraction", "out = 3", "out = 3.0")
replaced("a negative size", "1.weight' would be|wants", "negative", "out = 3", "out = -3")
replaced("a size of 2**62", "misshapen|more than|overflow|large", "huge", "out = 3", f"out = {1 << 62}")
replaced("a size of 2**62", "input|more than", "huge-input", "input = [2]", f"input = [{1 << 62}, {1 << 62}]")
replaced("a negative size", "input is", "negative-input", "input = [2]", "input = [-2]")
replaced("too many axes", "input|axes|wants", "axes", "input = [2]", f"input = {[1] * 100_000}")
replaced(
    "two nodes of one name",
    "there is one of this name already",
    "twice",
    'name = "1"',
    'name = "0"\ntensors = "1"',
)
replaced("a value that nothing gives", "no node before it", "gone", "out = 3", 'out = 3\ninputs = ["gone"]')
replaced("a cycle", "no node before it", "itself", "out = 3", 'out = 3\ninputs = ["1"]')
replaced("weights of another network", "1 misshapen|misshapen", "other", "out = 3", "out = 4")
replaced("classes of another number", "class names", "classes", "input", 'classes = ["a"]\ninput')
document("odd preprocessing", "preprocessing", "steps", ARCHITECTURE + "\n[preprocessing]\nsize = [0, 0]\n")
document(
    "numbers that are not finite",
    "divisor is nan|divisor nan",
    "nan",
    ARCHITECTURE + "\n[preprocessing]\nsize = [1, 2]\ndivisor = nan\n",
)
stack(
    "an absurd window",
    "wants at least",
    "window",
    f"layer = 'MaxPool2d', kernel = {BILLION}",
    shape="[2, 4, 4]",
)
stack("an absurd window", "more than", "adaptive", f"layer = 'AdaptiveAvgPool2d', output = {BILLION}",
      "layer = 'Flatten'", "layer = 'Dense', out = 1", shape="[2, 4, 4]")  # fmt: skip
stack("growth from node to node", "more than", "doubled", "layer = 'ReLU'",
      *[f"layer = 'Concat', inputs = ['n{n}', 'n{n}']" for n in range(1_000)],
      "layer = 'Dense', out = 1")  # fmt: skip
stack(
    "groups of 0",
    "0 groups",
    "groups",
    "layer = 'Conv2d', out = 2, kernel = 1, groups = 0",
    shape="[2, 4, 4]",
)
stack(
    "a stride of 0",
    "stride is 0|missing",
    "stride",
    "layer = 'Conv2d', out = 2, kernel = 1, stride = 0",
    shape="[2, 4, 4]",
)
