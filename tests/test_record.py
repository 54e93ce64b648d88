"""Records: whole or not there, verified, and not to be tampered with."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import lrpref
from lrpref import data, record
from lrpref.cli import load_network
from lrpref.errors import BadRecord
from lrpref.verification import verify

FILES = {"audit.json", "heatmap.png", "ledger.png", "relevance.npz"}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A record of the embedded network, loaded from a file of its own."""
    folder = tmp_path_factory.mktemp("record")
    data.embedded().save(folder / "net.safetensors")
    network = load_network(str(folder / "net.safetensors"))
    lrpref.explain(network, network.preprocess(data.image(3))).save(folder / "out")
    return folder


@pytest.fixture
def copy(fresh, tmp_path):
    shutil.copytree(fresh, tmp_path / "copy")
    return tmp_path / "copy"


def failures(folder):
    network = str(folder / "net.safetensors")
    return [f.what for f in verify(folder / "out", lambda entry: load_network(network)) if not f.ok]


def edit(folder, change):
    path = folder / "out" / "audit.json"
    audit = json.loads(path.read_text(encoding="utf-8"))
    change(audit)
    path.write_text(json.dumps(audit), encoding="utf-8")


def test_fresh_record_stands(fresh):
    assert {p.name for p in (fresh / "out").iterdir()} == FILES
    findings = verify(fresh / "out", lambda entry: load_network(entry["path"]))
    assert [f for f in findings if not f.ok] == []
    assert findings[-1].detail == "identical"
    assert findings[-2].detail == "bit-identical"


def test_one_byte_of_the_weights(copy):
    path = copy / "net.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1000] ^= 1
    path.write_bytes(raw)
    assert "the network" in failures(copy)


def test_one_value_of_the_input_or_the_relevance(copy):
    path = copy / "out" / "relevance.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    for name in ("input", "relevance"):
        changed = {**arrays, name: arrays[name].copy()}
        changed[name].reshape(-1).view(np.uint8)[0] ^= 1  # the lowest bit of the first number
        np.savez(path, **changed)
        assert f"the {name}" in failures(copy)


def test_one_byte_of_the_file_of_relevances(copy):
    path = copy / "out" / "relevance.npz"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(BadRecord, match=r"relevance\.npz: damaged"):
        failures(copy)


def test_a_record_from_before_there_were_dialects(copy):
    def change(audit):
        del audit["computed"]["dialect"]
        audit["digests"]["computed"] = record.sha256(record.canonical_json(audit["computed"]))

    edit(copy, change)
    assert failures(copy) == []


def test_one_rule(copy):
    edit(copy, lambda audit: audit["rules"].update(conv1="z-box(0,1)"))
    assert failures(copy) == ["audit.json: rules", "recomputed relevance", "recomputed books"]


def test_one_rule_and_its_digest(copy):
    """A forger who mends the digest is caught by the recomputation."""

    def change(audit):
        audit["rules"]["conv1"] = "flat"
        audit["digests"]["rules"] = record.sha256(record.canonical_json(audit["rules"]))

    edit(copy, change)
    assert failures(copy) == ["recomputed relevance", "recomputed books"]


@pytest.mark.parametrize("entry", ["ledger", "totals", "explained", "warnings"])
def test_the_books_and_their_digest(copy, entry):
    """The same forger on the ledger, which is what a reader of the record believes."""

    def change(audit):
        forged = {
            "ledger": lambda: audit["ledger"][0].update(bias=[1.0]),
            "totals": lambda: audit["totals"].pop("bias"),
            "explained": lambda: audit["explained"].update({"class": ["Bag"]}),
            "warnings": lambda: audit["warnings"].append("all is well"),
        }
        forged[entry]()
        audit["digests"][entry] = record.sha256(record.canonical_json(audit[entry]))

    edit(copy, change)
    assert failures(copy) == ["recomputed books"]


def test_one_number_of_the_ledger(copy):
    edit(copy, lambda audit: audit["ledger"][0].update(bias=[0.0]))
    assert failures(copy) == ["audit.json: ledger", "recomputed books"]


def test_a_picture(copy):
    path = copy / "out" / "heatmap.png"
    path.write_bytes(path.read_bytes()[:-1])
    assert failures(copy) == ["heatmap.png"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 99}'])
def test_damaged_audit(copy, text):
    (copy / "out" / "audit.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadRecord):
        failures(copy)


def test_folders(fresh, tmp_path):
    network = data.embedded()
    explanation = lrpref.explain(network, network.preprocess(data.image(0)))
    explanation.save(tmp_path / "new" / "deep")
    with pytest.raises(BadRecord, match="--overwrite"):
        explanation.save(tmp_path / "new" / "deep")
    explanation.save(tmp_path / "new" / "deep", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(BadRecord, match="other files"):
        explanation.save(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").read_text(encoding="utf-8") == "years of work"
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(BadRecord, match="not a folder"):
        explanation.save(tmp_path / "file", overwrite=True)


def test_nothing_half_written(tmp_path, monkeypatch):
    """When writing fails in the middle, the earlier record is still there, and nothing else."""
    network = data.embedded()
    explanation = lrpref.explain(network, network.preprocess(data.image(0)))
    explanation.save(tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(BadRecord, match="No space left"):
        record.write(explanation, tmp_path / "out", overwrite=True)
    monkeypatch.undo()
    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(BadRecord, match="No space left"):
        record.write(explanation, tmp_path / "out", overwrite=True)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_only_looks_like_a_record(tmp_path):
    """Files of our names, but not ours: nothing of them is lost."""
    network = data.embedded()
    explanation = lrpref.explain(network, network.preprocess(data.image(0)))
    for name, content in {"theirs": '{"their": 1}', "empty": "", "list": "[]"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "audit.json").write_text(content, encoding="utf-8")
        (tmp_path / name / "relevance.npz").write_text("precious", encoding="utf-8")
        with pytest.raises(BadRecord, match="other files"):
            explanation.save(tmp_path / name, overwrite=True)
        assert (tmp_path / name / "relevance.npz").read_text(encoding="utf-8") == "precious"
    (tmp_path / "deep" / "audit.json").mkdir(parents=True)
    with pytest.raises(BadRecord, match="other files"):
        explanation.save(tmp_path / "deep", overwrite=True)


def test_a_network_is_not_saved_over_a_folder(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text").write_text("precious", encoding="utf-8")
    with pytest.raises(BadRecord, match="name a file"):
        data.embedded().save(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "text").read_text(encoding="utf-8") == "precious"


def test_an_interrupt_between_the_renames(tmp_path, monkeypatch):
    network = data.embedded()
    explanation = lrpref.explain(network, network.preprocess(data.image(0)))
    explanation.save(tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    rename = os.rename

    def interrupted(source, target):
        if str(source).endswith("new"):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explanation.save(tmp_path / "out", overwrite=True)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_came_while_we_computed(tmp_path):
    """Between the check and the rename somebody else may write: theirs is never moved aside."""
    from lrpref.files import new_folder

    def write(may_replace):
        with new_folder(tmp_path / "race", may_replace) as new:
            new.mkdir()
            (tmp_path / "race").mkdir()
            (tmp_path / "race" / "mine").write_text("precious", encoding="utf-8")

    with pytest.raises(BadRecord, match="not to be replaced"):
        write(record.is_record)
    assert (tmp_path / "race" / "mine").read_text(encoding="utf-8") == "precious"


def test_roundabout_names(tmp_path):
    network = data.embedded()
    explanation = lrpref.explain(network, network.preprocess(data.image(0)))
    explanation.save(tmp_path / "out")
    explanation.save(tmp_path / "out" / ".." / "out", overwrite=True)
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES
    (tmp_path / "link").symlink_to(tmp_path / "out")
    explanation.save(tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert {p.name for p in tmp_path.iterdir()} == {"out", "link"}


def test_every_file_and_entry_counts(copy):
    edit(copy, lambda audit: audit["pictures"].pop("heatmap.png"))
    assert "the files" in failures(copy)
    edit(copy, lambda audit: audit.update(praise="all is well"))
    with pytest.raises(BadRecord, match="praise"):
        failures(copy)


@pytest.mark.parametrize("dtype", ["exact", "ball", "longdouble", "float32"])
def test_other_arithmetics(tmp_path, dtype):
    from lrpref.layers import Dense, ReLU
    from lrpref.network import chain

    draw = np.random.default_rng(0)
    network = chain(
        [("fc1", Dense(draw.normal(size=(5, 4)), draw.normal(size=5))), ("relu", ReLU()),
         ("fc2", Dense(draw.normal(size=(3, 5)), draw.normal(size=3)))], (4,), name="tiny",
    )  # fmt: skip
    network.save(tmp_path / "tiny.safetensors")
    network = lrpref.load(tmp_path / "tiny.safetensors")
    lrpref.explain(network, draw.normal(size=(2, 4)), composite="epsilon", dtype=dtype).save(tmp_path / "out")
    findings = verify(tmp_path / "out", lambda entry: lrpref.load(entry["path"]))
    assert [f for f in findings if not f.ok] == []


def test_relevances_as_target(tmp_path):
    network = data.embedded()
    x = network.preprocess(data.image(1))
    R = np.linspace(-1, 1, 10)[None]
    explanation = lrpref.explain(network, x, R)
    explanation.save(tmp_path / "out")
    assert explanation.ledger.explained[0] == pytest.approx(0, abs=1e-15)  # ten numbers symmetric around 0
    assert all(f.ok for f in verify(tmp_path / "out", lambda entry: network))
