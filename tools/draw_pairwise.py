"""Draw docs/images/pairwise.png: which patches make two embedded pictures alike.

    python tools/draw_pairwise.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

from lrpref import data
from lrpref.beyond import draw_pairs, features, match
from lrpref.commands.console import progress_bar
from lrpref.heatmap import png

PATCH, PICTURES, NODE, COMPOSITE = 4, (9, 12), "relu_fc1", "epsilon-gamma-box"


def main(folder: Path) -> None:
    """Draw two sneakers."""
    phi = features(data.embedded(), NODE)
    x, other = (phi.preprocess(data.image(number)) for number in PICTURES)
    with progress_bar() as progress:
        task = progress.add_task("relevance, feature by feature", total=None)

        def tell(made: int, total: int) -> None:
            progress.update(task, advance=made, total=total)

        found = match(phi, phi, x, other, COMPOSITE, patch=PATCH, watch=tell)
    print(f"similarity {found.similarity:.2f}, of which {found.books[0, 0]:.2f} are on pairs of pixels")
    title = f"similarity at {NODE}, {COMPOSITE}: the 30 strongest pairs of {PATCH} x {PATCH} patches"
    pictures = [data.image(number) / 255 for number in PICTURES]
    figure = draw_pairs(pictures, found.table(), PATCH, strongest=30, title=title)
    (folder / "pairwise.png").write_bytes(png(figure))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "docs" / "images")
