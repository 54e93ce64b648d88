"""Crosscheck the full-size networks of the benchmark: random weights, so that no file is needed.

    python tools/crosscheck_networks.py [--network vgg16] [--library captum]
    python tools/write_conformance.py out/crosscheck/vgg16-captum-*

Needs zennit and Captum (`make peers`). A run of VGG-16 takes a minute or two and 5 GB on two cores.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lrpref.composites import Composite
from lrpref.conformance.crosscheck import crosscheck
from lrpref.conformance.crosscheck_page import save

ROOT = Path(__file__).parent.parent
OUT = ROOT / "out" / "crosscheck"

EPSILON = "epsilon(1e-6)"
LINEAR = Composite(
    "epsilon-everywhere",
    kinds={**dict.fromkeys(("convolution", "dense", "average-pooling", "sum"), EPSILON),
           "max-pooling": "winner-take-all"},
)  # fmt: skip
GAMMA = Composite("epsilon-gamma", kinds={**LINEAR.kinds, "convolution": "gamma(0.25)"})

ZENNIT = (
    "chapter", "epsilon-gamma-box", "epsilon-plus", "epsilon-plus-flat", "epsilon-alpha2-beta1",
    "epsilon-alpha2-beta1-flat", "excitation-backprop",
)  # fmt: skip
"""Every composite that zennit has under our names, and the chapter's."""

CAPTUM = ("lrp-0", "epsilon-plus", LINEAR, GAMMA)
"""Composites of the rules that Captum has: LRP-0, epsilon, gamma, alpha 1 beta 0."""

RUNS: dict[tuple[str, str], tuple[str | Composite, ...]] = {
    ("vgg16", "zennit"): ZENNIT,
    ("vgg16", "captum"): CAPTUM,
    ("resnet50", "zennit"): ("epsilon-plus",),
    ("resnet50", "captum"): (LINEAR,),
}
"""Composites by network and library."""


def main() -> None:
    """Run what is asked for, everything by default."""
    sys.path.insert(0, str(ROOT))  # the benchmark is no part of the package
    from bench import networks

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--network", choices=sorted({network for network, _ in RUNS}))
    parser.add_argument("--library", choices=sorted({library for _, library in RUNS}))
    options = parser.parse_args()
    for (name, library), composites in RUNS.items():
        if options.network not in (None, name) or options.library not in (None, library):
            continue
        network = networks.random(name, seed=0)
        x = networks.inputs(network, batch=1, seed=0)
        for composite in composites:
            found = crosscheck(library, network, x, composite=composite)
            save(found, OUT / f"{name}-{library}-{found.chapter.composite}")
            print(found)


if __name__ == "__main__":
    main()
