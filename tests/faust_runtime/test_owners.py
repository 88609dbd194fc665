from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metrics_app.faust_runtime.group import MAX_AGE_S, NOTE, STANDBY_SUFFIX, Assignor, GroupOwners

TOPIC = "changelog"
A, B = "http://a:1", "http://b:2"
MAP = {f"{A}/": {TOPIC: [0, 1], TOPIC + STANDBY_SUFFIX: [2]}, f"{B}/": {TOPIC: [2], TOPIC + STANDBY_SUFFIX: [0, 1]}}


def owners_in(folder: Path, published: dict[str, Any], topic: str = TOPIC) -> GroupOwners:
    assignor = Assignor.__new__(Assignor)  # as it is before it has met a group; a whole one needs a whole app
    assignor.changelog_distribution = published
    app: Any = SimpleNamespace(assignor=assignor)
    return GroupOwners(app, topic, A, folder)


def test_the_active_holder_comes_before_the_standby(tmp_path: Path):
    owners = owners_in(tmp_path, MAP)
    assert owners.owners(1) == [A, B]
    assert owners.owners(2) == [B, A]
    assert owners.owners(3) == []
    assert owners.members() == [A, B]


def test_the_map_outlives_the_process(tmp_path: Path):
    owners_in(tmp_path / "new", MAP).note()
    again = owners_in(tmp_path / "new", {})
    assert again.owners(2) == [B, A]
    assert again.members() == [A, B]


def test_what_the_group_says_is_newer(tmp_path: Path):
    owners_in(tmp_path, MAP).note()
    assert owners_in(tmp_path, {B: {TOPIC: [0]}}).owners(0) == [B]


@pytest.mark.parametrize("noted", [b"", b"{", b'{"http://a": [1]}', b"\xff" * 100, b'{"\xff": {}}', b"[" * 9999])
def test_a_note_that_makes_no_sense_is_not_used(tmp_path: Path, noted: bytes):
    (tmp_path / NOTE).write_bytes(noted)
    assert owners_in(tmp_path, {}).members() == []


def test_a_note_that_cannot_be_written_stops_nobody(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    owners_in(tmp_path / "file", MAP).note()


def test_a_note_of_another_table_or_of_long_ago_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its addresses may be anybody's by now, who would be shown the token of the cluster."""
    owners_in(tmp_path, MAP).note()
    assert owners_in(tmp_path, {}, "of another installation").members() == []
    later = time.time() + MAX_AGE_S
    monkeypatch.setattr(time, "time", lambda: later)
    assert owners_in(tmp_path, {}).members() == []


def test_only_plain_base_urls_of_a_note_are_used(tmp_path: Path):
    odd = {"http://a:1/admin?x=": {TOPIC: [0]}, "file:///etc": {TOPIC: [0]}, "http://u@a:1": {TOPIC: [0]}}
    owners_in(tmp_path, MAP | odd).note()
    assert owners_in(tmp_path, {}).members() == [A, B]


@pytest.mark.parametrize(
    ("seen", "partitions"),
    [({"samples": 4, "changelog": 4}, 4), ({"samples": 4}, 4), ({"samples": 6, "changelog": 4}, 4), ({}, None)],
)
def test_a_topic_that_the_leader_does_not_see_now_is_assigned_like_the_others(seen, partitions):
    """Else its partitions would have no owner and no standby until the next rebalance."""
    both = {"samples", "changelog"}
    cluster = SimpleNamespace(partitions_for_topic=lambda topic: set(range(seen[topic])) if topic in seen else None)
    groups = Assignor._get_copartitioned_groups(both, cluster, {"a": sorted(both), "b": sorted(both)})
    assert {number: [set(group) for group in found] for number, found in groups.items()} == (
        {} if partitions is None else {partitions: [both]}
    )
