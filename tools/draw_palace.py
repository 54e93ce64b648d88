"""Draw docs/images/palace-composites.png: one photograph under six composites.

    python tools/draw_palace.py [DESTINATION]
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import lrpref
from lrpref.cli import load_network
from lrpref.heatmap import png, side_by_side

COMPOSITES = ("lrp-0", "epsilon", "gamma", "chapter", "epsilon-gamma-box", "epsilon-plus")
CHINA = files("sklearn.datasets") / "images" / "china.jpg"


def main(destination: Path) -> None:
    """Explain, and draw."""
    network = load_network("efficientnet-lite0")
    x = network.preprocess(str(CHINA))
    explanations = [lrpref.explain(network, x, "max", name, backend="cpu") for name in COMPOSITES]
    explained = float(explanations[0].ledger.explained[0])
    title = f"EfficientNet-Lite0: “palace”, f(x) = {explained:.2f}; below each name what reached the input"
    destination.write_bytes(png(side_by_side(explanations, title)))


if __name__ == "__main__":
    folder = Path(__file__).parent.parent / "docs" / "images"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else folder / "palace-composites.png")
