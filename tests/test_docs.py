"""The numbers in the documentation are recomputed, line by line."""

import doctest
from pathlib import Path

import pytest

from lrpref.composites import COMPOSITES
from lrpref.rules import RULES

ROOT = Path(__file__).parent.parent


PAGES = ("ledger", "rules", "theory", "baselines", "log_odds", "beyond", "trace", "figures", "backends")


@pytest.mark.parametrize("page", [*(f"docs/{name}.md" for name in PAGES), "README.md"])
def test_examples_in_pages(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the README saves a record
    failed, tried = doctest.testfile(str(ROOT / page), module_relative=False)
    assert tried > 3
    assert failed == 0


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("docs/rules.md", RULES),
        ("docs/composites.md", COMPOSITES),
        ("docs/arithmetic.md", ("float32", "float64", "longdouble", "exact", "ball")),
    ],
)
def test_every_name_is_documented(page, names):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}" not in text] == []

