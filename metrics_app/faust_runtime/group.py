"""Faust's partition assignor, changed: it tells every member who is active and who is standby for each partition.

Called by `aggregator.role` and `app`.

Who holds which partition: as the group's leader published it last or, before that, as this worker noted it last.

A worker that starts joins the group only after seconds. Until then it asks by the map it noted in its data folder: a
worker that does not hold the partition any more says so, and everybody else on the map is asked.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import faust
import msgspec
from faust.assignor.partition_assignor import PartitionAssignor

STANDBY_SUFFIX = "::standby"


class Assignor(PartitionAssignor):
    """Publishes actives and, under the topic name with a suffix, standbys.

    Faust's own map holds actives only, and where two members have one URL (a worker restarted before its dead self
    has left the group) the second erases the first; here they are merged.

    Of topics with different numbers of partitions those are assigned that all have: where partitions were added to a
    topic in use, keys stay where they are, and nothing is in the others.

    A topic that the leader does not see at the moment is assigned like the others. Faust leaves it out, without a word
    and until the next rebalance: a changelog would have no standby, and owners would not recover from it.
    """

    @classmethod
    def _get_copartitioned_groups(
        cls, topics: set[str], cluster: Any, subscriptions: MutableMapping[str, list[str]]
    ) -> Any:
        known = [len(found) for topic in topics if (found := cluster.partitions_for_topic(topic))]
        return {min(known): cls._group_co_subscribed(topics, subscriptions)} if known else {}

    def _get_changelog_distribution(self, assignments: Any) -> Any:
        by_url: dict[str, dict[str, list[int]]] = {}
        topics = self._table_manager.changelog_topics
        for member, assignment in assignments.items():
            of_url = by_url.setdefault(self._member_urls[member], {})
            for topic, partitions in self._topics_filtered(assignment.actives, topics).items():
                of_url.setdefault(topic, []).extend(partitions)
            for topic, partitions in self._topics_filtered(assignment.standbys, topics).items():
                of_url.setdefault(topic + STANDBY_SUFFIX, []).extend(partitions)
        return by_url


logger = logging.getLogger(__name__)

NOTE = "owners.json"
MAX_AGE_S = 3600.0  # of a note that is used: a restart, not an installation put away
BASE_URL = re.compile(r"https?://[^/?#@]+/?")

Held = dict[str, dict[str, list[int]]]  # partitions, by base URL and topic; standbys under the topic with a suffix


class _Note(msgspec.Struct):
    """Content of the file. The time, epoch seconds, matters because an address may belong to somebody else by now."""

    topic: str
    noted_at: float
    map: Held


class GroupOwners:
    """The map of the group.

    Args:
        topic: the changelog.
        url: base URL of this worker.
        folder: where the map is noted.
    """

    def __init__(self, app: faust.App, topic: str, url: str, folder: Path) -> None:
        self.app = app
        self.topic = topic
        self.url = url
        self._path = folder / NOTE
        self._noted = _read(self._path, topic)

    def owners(self, partition: int) -> list[str]:
        """Base URLs of the holders of a partition, the active one first."""
        return [
            str(url).rstrip("/")
            for name in (self.topic, self.topic + STANDBY_SUFFIX)
            for url, held in self._map.items()
            if partition in held.get(name, ())
        ]

    def members(self) -> list[str]:
        """Base URLs of all workers of the group."""
        return [str(url).rstrip("/") for url in self._map]

    def note(self) -> None:
        """Writes the map down. If that fails, only the next start misses it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(_Note(self.topic, time.time(), self._plain())))
            new.replace(self._path)
        except (OSError, ValueError) as error:
            logger.warning("the map of the group was not noted: %r", error)

    @property
    def _map(self) -> Mapping[str, Mapping[str, Collection[int]]]:
        return self._published or self._noted

    @property
    def _published(self) -> Mapping[str, Mapping[str, Collection[int]]]:
        assignor = self.app.assignor
        if not isinstance(assignor, Assignor):
            raise TypeError("the app runs another assignor than ours")
        return assignor.changelog_distribution

    def _plain(self) -> Held:
        return {
            str(url): {name: list(partitions) for name, partitions in held.items()}
            for url, held in self._published.items()
        }


def _read(path: Path, topic: str) -> Held:
    try:
        note = msgspec.json.decode(path.read_bytes(), type=_Note)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:  # a DecodeError is one, as is a string that is no UTF-8
        logger.warning("the map noted in %s is not used: %r", path, error)
        return {}
    is_ours = note.topic == topic and 0 <= time.time() - note.noted_at < MAX_AGE_S
    return {url: held for url, held in note.map.items() if BASE_URL.fullmatch(url)} if is_ours else {}
