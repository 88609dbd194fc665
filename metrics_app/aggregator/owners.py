"""Who holds which partition: as the group's leader published it last or, before that, as this worker noted it last.

A worker that starts joins the group only after seconds. Until then it asks by the map it noted in its data folder: a
worker that does not hold the partition any more says so, and everybody else on the map is asked.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import faust
import msgspec

from metrics_app.aggregator.assignor import STANDBY_SUFFIX, Assignor

logger = logging.getLogger(__name__)

NOTE = "owners.json"
MAX_AGE_S = 3600.0  # of a note that is used: a restart, not an installation put away
BASE_URL = re.compile(r"https?://[^/?#@]+/?")

Held = dict[str, dict[str, list[int]]]  # partitions, by base URL and topic; standbys under the topic with a suffix


class _Note(msgspec.Struct):
    """What is in the file: the changelog and when, in epoch seconds, for an address may be somebody else's by now."""

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
        """Writes the map down; one that cannot be written is only missed by the next start."""
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
