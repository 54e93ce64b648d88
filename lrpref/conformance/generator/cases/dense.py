"""Fully connected layers: every rule, biases of both signs, inputs of both signs, and where they go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lrpref.conformance.generator.case import Case, case
from lrpref.conformance.generator.cases.rules import RULES
from lrpref.conformance.generator.parts import Node, dense

TITLE = "Fully connected layers under every rule"

# Two neurons, weights and biases of both signs. Inputs >= 0, as after a ReLU, and of both signs.
WEIGHT = [[1, -2, 0.5], [-1, 1, 2]]
POSITIVE, MIXED = [[1, 0.5, 2]], [[1.5, -0.5, 2]]
R = [[2, 1]]


def cases() -> list[Case]:
    """
    Give the family.

    Returns
    -------
    list of Case
        Its cases.
    """
    return [*_every_rule(), *_options()]


def _every_rule() -> Iterator[Case]:
    for name, chosen in RULES.items():
        for sign, b in (("no-bias", None), ("positive-bias", [0.5, 1]), ("negative-bias", [-0.25, -0.5])):
            yield _one(f"{name}/{sign}", chosen, b, POSITIVE, f"activations >= 0, {sign.replace('-', ' ')}")
        yield _one(f"{name}/signed-input", chosen, [0.5, -0.5], MIXED, "activations and biases of both signs")


def _one(what: str, chosen: Node, b: Any, x: Any, comment: str) -> Case:
    tags = "tiny" if x is MIXED else ""
    return case(f"dense/{what}", f"Two neurons, {comment}.", [dense(WEIGHT, b, chosen)], x, R, tags=tags)


def _options() -> Iterator[Case]:
    """Stabilizers and treatments of the bias, under every rule that has a use for them."""
    for name, chosen in RULES.items():
        options: dict[str, dict[str, Any]] = {
            "unsigned-stabilizer": {"stabilizer": {"kind": "unsigned", "value": 0.5}},
            "ignored-bias": {"bias": "ignore"},
            "redistributed-bias": {"bias": "redistribute"},
        }
        if name != "epsilon":
            options["signed-stabilizer"] = {"stabilizer": {"kind": "signed", "value": 0.5}}
        for what, option in options.items():
            changed = chosen | option
            if name == "epsilon" and "stabilizer" in option:
                changed |= {"eps": 0.5}
            yield case(
                f"dense/{name}/{what}",
                f"Two neurons, inputs of both signs, {what.replace('-', ' ')}.",
                [dense(WEIGHT, [0.5, -0.5], changed)],
                MIXED,
                R,
            )
