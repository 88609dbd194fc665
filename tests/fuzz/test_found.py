"""What fuzzing has found, each by its own name."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics_app.client import transport
from metrics_app.client.segments import SEGMENT
from metrics_app.client.spool import Spool
from metrics_app.http.proof import ClusterSecret
from tests.fuzz import seeds


@pytest.mark.parametrize("body", [b'{"detail":"\xff"}', b'{"x":' + b"[" * 100_000 + b"}"])
def test_a_reply_that_is_no_utf_8_or_nested_too_deeply_says_nothing_to_the_client(body: bytes) -> None:
    """The thread that sends batches would have ended with an exception, though `send` never raises."""
    assert transport._read(body) == transport._Reply()


@pytest.mark.parametrize("kind", [b"B", b"D"])
def test_a_spool_that_ends_in_a_head_of_zeros_gives_what_is_before_it(tmp_path: Path, kind: bytes) -> None:
    """What a power cut leaves: no bytes have the checksum 0. The whole file would have been left as it is."""
    (tmp_path / f"{'0' * 32}-000001{SEGMENT}").write_bytes(seeds.spools()[0] + kind + bytes(8))
    spool = Spool(tmp_path, 1 << 20, 1 << 20, sync=False)
    assert len(spool.left_behind()) == 2
    spool.close()


def test_a_token_that_is_no_utf_8_is_a_wrong_token() -> None:
    """It would have been answered with 500."""
    assert not ClusterSecret("t", 1.0).is_shown_by("\udcff")
