"""Draw docs/images/lstm.png: which characters decide how another is read.

    LRPREF_MODELS=FOLDER python tools/draw_lstm.py FONT [FOLDER]

FONT is the file of a font with Chinese characters, such as wqy-microhei.ttc.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from matplotlib.font_manager import FontProperties

import lrpref
from lrpref import beyond
from lrpref.heatmap import png
from lrpref.layers import Dense, ReLU
from lrpref.weights_import.checkpoint import read

READINGS = ("chong2", "zhong4")
"""Of one character: `again` or `double`, and `heavy`."""

SENTENCES = {"The football clubs of Chongqing": 0, "A monument of national importance": 1}
"""Two of the examples that come with the network; what they are about."""

COMPOSITE = "lrp-0"


def main(font: Path, folder: Path) -> None:
    """Draw two sentences."""
    models = Path(os.environ["LRPREF_MODELS"]) / "lstm"
    weights = read(models / "g2pm_bilstm.safetensors")
    record = json.loads((models / "g2pm_bilstm.json").read_text(encoding="utf-8"))
    numbers = {name: int(number) for number, name in record["idx2class"].items()}
    two = [numbers[reading] for reading in READINGS]
    head = [
        ("hidden", Dense(weights["logit_layer.0.weight"], weights["logit_layer.0.bias"])),
        ("relu", ReLU()),
        ("scores", Dense(weights["logit_layer.2.weight"][two], weights["logit_layer.2.bias"][two])),
    ]
    rows = []
    for about, number in SENTENCES.items():
        example = record["examples"][number]
        length, target = len(example["ids"]), example["target_index"]
        tagger = beyond.unroll(weights, length, prefix="lstm.", read=target, head=head, classes=READINGS)
        x = beyond.embed(weights["embedding.weight"], example["ids"])
        e = lrpref.explain(tagger, x, "max", COMPOSITE, head="log-odds")
        reading, other = (READINGS[i] for i in (int(e.target[0]), 1 - int(e.target[0])))
        title = f"{about}: character {target + 1} is {reading}, not {other}, by {e.ledger.explained[0]:.2f}"
        rows.append((title, example["sentence"], beyond.per_token(e)[0]))
    figure = beyond.draw_tokens(rows, font=FontProperties(fname=str(font)))
    (folder / "lstm.png").write_bytes(png(figure))


if __name__ == "__main__":
    default = Path(__file__).parent.parent / "docs" / "images"
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else default)
