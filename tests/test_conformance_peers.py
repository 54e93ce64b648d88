"""The libraries are what the documentation says of them (`make peers`): every verdict, recomputed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lrpref
from lrpref import data, rules
from lrpref.composites import Composite
from lrpref.conformance import runner, suite
from lrpref.conformance.crosscheck import crosscheck
from lrpref.layers import Dense
from lrpref.network import chain

pytestmark = pytest.mark.peers

RECORDS = Path(__file__).parent.parent / "docs" / "conformance"

IN_CI = ("zennit", "zennit-0.5.1", "captum", "autolrp", "lxt")
"""iNNvestigate needs an environment of its own (`make peers-tf`); its record has a date."""


@pytest.mark.parametrize("library", IN_CI)
def test_the_record_stands(library, tmp_path):
    recorded = runner.load(RECORDS / f"{library}.json")
    found = runner.run(library, suite.load(), tmp_path)
    assert found.about["version"] == recorded.about["version"]
    verdicts = {finding.id: (finding.verdict, finding.dimensions) for finding in found.findings}
    assert verdicts == {finding.id: (finding.verdict, finding.dimensions) for finding in recorded.findings}
    assert found.regressions == []


def test_zennit_on_the_embedded_network():
    net = data.embedded()
    found = crosscheck("zennit", net, net.preprocess(data.image(9)), composite="epsilon-plus")
    assert found.agrees
    assert found.first is None
    assert len(found.lines) == len(lrpref.Plan(net).canonical.nodes) + 1  # and the input


def test_captum_on_the_embedded_network():
    """Its z-plus has the raw bias in the denominator (D6); it is found among all that differs in Captum."""
    net = data.embedded()
    found = crosscheck("captum", net, net.preprocess(data.image(9)), composite="epsilon-plus")
    assert found.agrees
    assert "D6" in found.dimensions
    assert found.first is not None
    assert max(line.dialect for line in found.lines) <= 1e-9


def test_what_a_peer_lacks_is_one_line(tmp_path):
    """From the command line, in a process that is not this one."""
    arguments = ("crosscheck", "--library", "captum", "--composite", "gamma", "--out", tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-m", "lrpref", *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("lrpref: captum: node 'conv1'")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_bias_under_w2_is_d11():
    """By hand: w = (1, 2), b = 3: (1/5, 4/5) without b^2, (1/14, 4/14) with it."""
    net = chain([("dense", Dense(np.array([[1.0, 2.0]]), np.array([3.0])))], (2,))
    composite = Composite("w2", kinds={"dense": str(rules.WSquare())})
    found = crosscheck("zennit", net, np.ones((1, 2)), np.ones((1, 1)), composite)
    assert found.peer["input"] == pytest.approx(np.array([[1 / 14, 4 / 14]]), rel=1e-12)
    assert found.chapter.relevance == pytest.approx(np.array([[1 / 5, 4 / 5]]), rel=1e-12)
    assert found.dimensions == ("D11",)
    assert json.dumps(found.plain())
