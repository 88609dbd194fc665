"""Bytes that outlive a release stay what they are, and a new version of a format is announced.

The tests beside each golden file prove that it is read and written; here nobody can change one, or write another
version, without saying so in this file and in docs/upgrading.md.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from metrics_app.aggregator import row
from metrics_app.client import segments
from metrics_app.stats import codec
from metrics_app.wire import record

ROOT = Path(__file__).parent.parent
# never change a line: a golden file holds what is stored somewhere; a new version is a new file
GOLDEN = {
    "tests/aggregator/ids.hex": "d4289a9558ceb358832ad012a961b5ca95ce8a077aff33828a15137bd7fdaf30",
    "tests/aggregator/place_v2.hex": "616a27b12d2ec5a6435dddd2c2b98889810627cb7d3b55ce504c0afa19287071",
    "tests/aggregator/row_v1.hex": "c49b5537362a3a4ec2d6c2ed9496a3b0b2f5a61a9c915449634d0b96413187ea",
    "tests/client/spool_v0.hex": "652b1e191768e0013d336aa126726d680c37f48f59372da06724bb16d78ccea5",
    "tests/stats/golden/empty.hex": "b721495b90416536abc61e40ea00eb0fc8eb92a0e737672875f0eca3507aaa2c",
    "tests/stats/golden/exact.hex": "fea92497386d57e64fc87d197ff05ef599188aac8497cec3b8b2acf2bdd951f2",
    "tests/stats/golden/histogram.hex": "d968f797ba165c9d860b66a8e1b09d4b134d10f4f4c020acdf2c471329e05fe4",
    "tests/stats/golden/one.hex": "5a27beb43f6ff2ac2ca3a3fcf837e6a6e7bc8348c6376a00b07ea603ef1d62fa",
    "tests/wire/record_v1.hex": "a17f96c1e0d91fe730d01f5ead040790fb8b2e68ad82a7fec178c10e04063622",
    "tests/wire/record_v2.hex": "baa6e5f8d93767588379f73da90036c135e9fc7cf4eac4487fc6918ff8f1ed6e",
    "tests/wire/record_v3.hex": "d66e7c7b9b233cc40955d3ff671a0e732fb197349500c4bdf6c2c477652f0676",
}
NEWEST = {
    "record of the samples topic": record.WITH_PLACES,
    "row, ids and checkpoint": row.VERSION,
    "summary within a row": codec.VERSION,
    "spool of the client": segments.VERSION,
}


def test_no_golden_file_has_changed_and_each_new_one_is_named_here():
    corpus = ROOT / "tests" / "fuzz" / "corpus"
    found = [path for path in (ROOT / "tests").rglob("*.hex") if corpus not in path.parents]
    hashes = {path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}
    assert hashes == GOLDEN


def test_the_newest_version_of_each_format_is_told_to_who_upgrades():
    page = (ROOT / "docs" / "upgrading.md").read_text()
    told = {name: int(version) for name, version in re.findall(r"^\| ([a-z ,]+) \| (\d+) \|", page, re.MULTILINE)}
    assert told == NEWEST
