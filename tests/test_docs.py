"""The numbers in the documentation are recomputed, line by line."""

import doctest
import re
from pathlib import Path

import pytest

from lrpref.composites import COMPOSITES
from lrpref.rules import RULES

ROOT = Path(__file__).parent.parent


PAGES = (
    "one_neuron", "one_network", "ledger", "trace", "rules", "layers", "theory", "figures", "baselines",
    "log_odds", "beyond", "backends", "certify", "dialects", "self_check", "vectors", "adapters",
)  # fmt: skip


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


TEXTS = [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("[!_]*.md"))]


@pytest.mark.parametrize("page", [*TEXTS, "README.md"])
def test_links_lead_somewhere(page):
    text, folder = (ROOT / page).read_text(encoding="utf-8"), (ROOT / page).parent
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    assert [t for t in targets if "://" not in t and not (folder / t).exists()] == []


def test_every_page_is_in_the_reading_order():
    listed = re.findall(r"^(\w+)$", (ROOT / "docs/index.md").read_text(encoding="utf-8"), flags=re.M)
    assert sorted(f"docs/{name}.md" for name in ["index", *listed]) == TEXTS
