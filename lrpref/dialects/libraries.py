"""The libraries, as plain data: which option each takes in every dimension where it is not the chapter's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Library:
    """
    What is known of a library.

    Parameters
    ----------
    title : str
        What it is called.
    versions : str
        Of which versions it is known.
    evidence : {"run", "read"}
        Whether its results were compared with lrpref's, or it was only read of.
    source : str
        Where it is described, or which of its own modules are meant.
    settings : mapping of str to str
        Options by dimension, where they are not the chapter's.
    offers : mapping of str to sequence of str, or None
        Its rules, by lrpref's names, each with the ways in which it can treat the bias; None: all.
    stabilizers : sequence of str
        Kinds of stabilizer that can be asked of it.
    """

    title: str
    versions: str
    evidence: str
    source: str
    settings: Mapping[str, str] = field(default_factory=dict)
    offers: Mapping[str, Iterable[str]] | None = None
    stabilizers: tuple[str, ...] = ("signed",)


_RULES = ("zero", "epsilon", "pass", "winner-take-all")
_PARTS = ("alpha-beta", "z-plus")
_GAMMAS = ("gamma", "generalized-gamma")
_BOUNDED = ("flat", "w2", "z-box")


def _offers(*rules: str, ignore: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """Rules by name; those under `ignore` can do without the bias."""
    return {name: ("absorb", "ignore") if name in ignore else ("absorb",) for name in rules}


_ZENNIT_RULES = (*_RULES, *_GAMMAS, *_PARTS, *_BOUNDED)
_ZENNIT = {
    "D5": "generalized", "D11": "bias-squared", "D14": "first", "D15": "proportional", "D16": "folded-behind",
    "D17": "proportional", "D18": "given", "D22": "last-call",
}  # fmt: skip


def _absent(*dimensions: int) -> dict[str, str]:
    return {f"D{number}": "absent" for number in dimensions}


LIBRARIES: dict[str, Library] = {
    "zennit": Library(
        "zennit", "1.0.0", "run", "Anders et al. 2021; sums by its Sum module, norms by its canonizers",
        _ZENNIT,
        _offers(*_ZENNIT_RULES, ignore=_ZENNIT_RULES),
        ("signed", "unsigned", "relative"),
    ),
    "zennit-0.5.1": Library(
        "zennit", "0.5.1", "run", "as zennit 1.0.0, which mended what D16 says",
        {**_ZENNIT, "D16": "folded-keeps-eps"},
        _offers(*_ZENNIT_RULES, ignore=_ZENNIT_RULES),
        ("signed", "unsigned", "relative"),
    ),
    "captum": Library(
        "Captum", "0.9.0", "run", "Kokhlikyan et al. 2020; sums by its Addition_Module",
        {
            "D2": "1e-9", "D4": "untouched", "D5": "simple", "D6": "raw-bias-unclamped",
            **_absent(7, 8, 9, 10, 11, 13), "D14": "first-epsilon", "D15": "proportional",
            "D16": "own-layer", "D17": "module", "D19": "relu-and-tanh", "D22": "refused",
        },
        _offers(*_RULES, *_GAMMAS, *_PARTS, ignore=(*_GAMMAS, *_PARTS)),
    ),
    "autolrp": Library(
        "autoLRP", "0.2.0", "run", "its rule tables; one eps for a whole network",
        {
            "D3": "split", "D4": "split", "D5": "cut-off", "D6": "split", "D7": "split", "D11": "absent",
            "D12": "uneven-is-explicit", "D13": "split", "D14": "first", "D15": "gradient",
            "D16": "passed", "D17": "magnitude", "D18": "one",
        },
        _offers(*_RULES, *_GAMMAS, *_PARTS, "z-box"),
    ),
    "lxt": Library(
        "LXT", "2.1", "run", "Achtibat et al. 2024; its linear_epsilon, EpsilonRule and add2",
        {
            "D1": "unsigned", **_absent(4, 5, 6, 7, 8, 9, 10, 11, 13), "D14": "first-or-epsilon",
            "D16": "given-rule", "D18": "given",
        },
        _offers(*_RULES),
        ("signed", "unsigned"),
    ),
    "innvestigate": Library(
        "iNNvestigate", "2.1.2", "run", "Alber et al. 2019; issue #273 of its repository for D7",
        {
            "D1": "zero-only", **_absent(4, 5), "D6": "no-bias", "D7": "raw", "D10": "beta-for-alpha",
            "D14": "first", "D15": "proportional", "D16": "fused",
            "D17": "proportional", "D19": "leaky-by-gradient", "D20": "own-presets",
        },
        _offers(*_RULES, *_PARTS, *_BOUNDED, ignore=("zero", "epsilon", *_PARTS, *_BOUNDED)),
    ),
    "lrp_toolbox": Library(
        "lrp_toolbox", "as published", "read", "Lapuschkin et al. 2016",
        {
            **_absent(4, 5, 13, 16), "D8": "sum", "D9": "undefined", "D14": "split",
        },
        _offers(*_RULES, *_PARTS, "flat", "w2"),
    ),
    "tutorial": Library(
        "heatmapping.org tutorial", "as published", "read", "heatmapping.org/tutorial",
        {
            "D1": "batch", "D5": "simple", **_absent(6, 7, 8, 9, 10, 11, 16), "D14": "average",
        },
        _offers(*_RULES, *_GAMMAS, "z-box"),
        ("signed", "unsigned"),
    ),
    "julia": Library(
        "RelevancePropagation.jl", "as published", "read", "its documentation of rules",
        {
            "D5": "generalized", "D14": "first", "D15": "proportional", "D16": "folded-without-eps",
            "D17": "proportional", "D18": "one",
        },
        _offers(*_RULES, *_GAMMAS, *_PARTS, *_BOUNDED),
    ),
}  # fmt: skip
"""By name."""
