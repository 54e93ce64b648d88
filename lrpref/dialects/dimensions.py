"""The dimensions in which LRP libraries differ, D1 to D22, and the options of each, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Dimension:
    """
    One question to which libraries have different answers.

    Parameters
    ----------
    id : str
        "D1" to "D22".
    title : str
        What is decided.
    options : mapping of str to str
        The answers, by name, with one sentence each.
    """

    id: str
    title: str
    options: Mapping[str, str]

    @property
    def chapter(self) -> str:
        """The answer of Montavon et al. 2019, or lrpref's where the chapter has none: the first option."""
        return next(iter(self.options))


_ABSENT = {"absent": "The library has no such rule, or no such layer."}

_ALL = (
    Dimension("D1", "Stabilizer", {
        "signed": "eps sign(z) is added to z, with sign(0) = +1.",
        "unsigned": "eps is added whatever the sign of z: where z is near -eps, relevance explodes.",
        "zero-only": "Where z is exactly 0 and no eps is asked for, z is replaced by 1e-7.",
        "batch": "No sign; a relative eps is a share of the RMS of z over the whole batch (refused here).",
    }),
    Dimension("D2", "Size of eps", {
        "as-asked": "What is asked for, 0 included; defaults go from 1e-16 to 0.1.",
        "1e-9": "As asked by the epsilon rule; always 1e-9 in every other rule.",
    }),
    Dimension("D3", "Bias in the denominator", {
        "included": "The bias is part of z, and absorbs its part of R.",
        "split": "R is scaled by |z0| / (|z0| + |b| + eps), z0 without bias; then the rule runs without it.",
    }),
    Dimension("D4", "Gamma and the bias", {
        "favoured": "b + gamma b+, like the weights.",
        "untouched": "b as it is, beside w + gamma w+.",
        "split": "The bias enters by D3 alone.",
        **_ABSENT,
    }),
    Dimension("D5", "Gamma formula", {
        "as-named": "gamma is w + gamma w+ for a >= 0; generalized-gamma serves inputs of any sign.",
        "generalized": "gamma is the generalized formula: R is dropped where z = 0.",
        "simple": "Inputs of any sign are given w + gamma w+.",
        "cut-off": "As named, but for gamma <= 0.01, where the epsilon rule runs.",
        **_ABSENT,
    }),
    Dimension("D6", "z-plus", {
        "positive-bias": "(a w)+ / (sum (a w)+ + b+).",
        "no-bias": "(a w)+ / sum (a w)+.",
        "raw-bias-unclamped": "a w+ / (sum a w+ + b): amplified where b < 0, of both signs where a < 0.",
        "split": "The bias enters by D3 alone.",
        **_ABSENT,
    }),
    Dimension("D7", "Alpha-beta and the bias", {
        "parts": "b+ in the alpha part, b- in the beta part.",
        "raw": "The whole b in both parts.",
        "split": "The bias enters by D3 alone.",
        **_ABSENT,
    }),
    Dimension("D8", "Alpha-beta's convention", {
        "difference": "alpha - beta = 1.",
        "sum": "alpha + beta = 1, where lrpref's beta is called -beta.",
        **_ABSENT,
    }),
    Dimension("D9", "Neurons with contributions of one sign", {
        "own-part": "They conserve alpha R, or -beta R.",
        "undefined": "0 / 0 in the part that is empty, or 0, by type of layer.",
        **_ABSENT,
    }),
    Dimension("D10", "Coefficients of alpha-beta", {
        "alpha-and-beta": "alpha with the positive part, -beta with the negative one.",
        "beta-for-alpha": "A further rule, AlphaBetaX, has beta in alpha's place (not modelled).",
        **_ABSENT,
    }),
    Dimension("D11", "w2 and the bias", {
        "no-bias": "w^2 / sum w^2.",
        "bias-squared": "w^2 / (sum w^2 + b^2), unless the bias is ignored.",
        **_ABSENT,
    }),
    Dimension("D12", "Borders", {
        "in-image": "Implicit padding is no input; an explicit padding layer receives R and keeps it.",
        "uneven-is-explicit": "Padding that differs from side to side is a layer that keeps its R.",
    }),
    Dimension("D13", "z-box and the bias", {
        "cancels": "The bias is in all three terms and cancels.",
        "split": "The bias enters by D3 alone.",
        **_ABSENT,
    }),
    Dimension("D14", "Max pooling", {
        "as-asked": "The first maximum receives R, or all in equal parts, or the rule sees sum pooling.",
        "first": "The first maximum receives R, whatever rule is asked for.",
        "split": "Equal maxima receive equal parts, whatever rule is asked for.",
        "first-epsilon": "The first maximum receives R z / (z + eps sign(z)), with eps 1e-9: 0 where z = 0.",
        "first-or-epsilon": "First, times z / (z + eps sign(z)) under LRP-0 and LRP-eps.",
        "average": "Relevance passes as through average pooling, in proportion to the inputs.",
    }),
    Dimension("D15", "Average pooling", {
        "as-asked": "A linear layer: the rule that is asked for.",
        "proportional": "In proportion to the inputs: gamma and alpha-beta find no weights to modify.",
        "gradient": "In equal parts, as a gradient has it: what falls on counted padding is lost.",
    }),
    Dimension("D16", "Batch norm", {
        "folded": "Folded into a neighbouring linear layer (Section 10.3.2).",
        "folded-behind": "Folded into the linear layer before it; R passes others that are given no rule.",
        "folded-keeps-eps": "Folded, but its own eps stays: the output shrinks by 1/sqrt(1 + eps).",
        "folded-without-eps": "Folded with sqrt(var) in the place of sqrt(var + eps).",
        "passed": "R passes as if the norm were not there.",
        "own-layer": "A linear layer of its own, under LRP-eps with 1e-9 where it is given no rule.",
        "given-rule": "A linear layer of its own, which has to be given a rule.",
        "fused": "A fused form of the library's own (refused here).",
        "absent": "The library has no batch norms: in a network that it can run they are folded.",
    }),
    Dimension("D17", "Sums of branches", {
        "as-asked": "A linear layer: in proportion to the summands, or the rule that is asked for.",
        "proportional": "In proportion to the summands: gamma and alpha-beta find no weights to modify.",
        "module": "In proportion; what reaches a value past the rules that read it is times the value.",
        "magnitude": "In proportion to the magnitudes, two at a time: evidence against loses its sign.",
        "duplicated": "Every summand receives all of R: relevance doubles at each sum of two.",
    }),
    Dimension("D18", "What is explained of a class", {
        "score": "Its score before a softmax.",
        "given": "What the caller hands in; usual is 1 for the class.",
        "one": "1 for the class.",
    }),
    Dimension("D19", "Activations", {
        "pass": "R passes.",
        "relu-and-tanh": "R passes ReLU and tanh; other modules are refused.",
        "leaky-by-gradient": "R passes, but for LeakyReLU and ELU, where it is multiplied with the slope.",
        "gradient": "R is multiplied with the activation's slope.",
    }),
    Dimension("D20", "First and last layer", {
        "as-composed": "The rule that is asked for.",
        "own-presets": "As asked for; the library's presets treat all dense layers alike, logits included.",
    }),
    Dimension("D21", "Geometry", {
        "own": "Each layer's own stride, padding, dilation and groups.",
    }),
    Dimension("D22", "A layer used twice", {
        "each-call": "Each use has its own inputs.",
        "last-call": "All uses are given the inputs of the last one, without a warning.",
        "refused": "An error.",
    }),
)  # fmt: skip

DIMENSIONS: dict[str, Dimension] = {dimension.id: dimension for dimension in _ALL}
"""Every dimension by its id."""
