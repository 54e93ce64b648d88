"""Every rule that a linear layer takes, under parameters that a person can follow."""

from __future__ import annotations

from lrpref.conformance.generator.parts import (
    FLAT,
    W_SQUARE,
    Z_PLUS,
    ZERO,
    Node,
    alpha_beta,
    epsilon,
    gamma,
    generalized,
    z_box,
)

RULES: dict[str, Node] = {
    "zero": ZERO,
    "epsilon": epsilon(0.25),
    "gamma": gamma(0.25),
    "generalized-gamma": generalized(0.25),
    "alpha2-beta1": alpha_beta(2.0, 1.0),
    "z-plus": Z_PLUS,
    "flat": FLAT,
    "w2": W_SQUARE,
    "z-box": z_box(-2.0, 2.0),
}
