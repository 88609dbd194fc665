"""Looks every few seconds whether the topics are still those that this process began with.

Called by `aggregator.role` and `app`.

Kafka's clients do not notice: they know topics by name, and look them up again after five minutes. Meanwhile keys would
go to partitions that nobody folds, and flushes into a topic that is not there.

A topic that is gone is made again as it should be; one that is there again under another id is a new one, and whoever
reads it begins anew. What cannot be used as configured must be changed by a person.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import mode
from aiokafka.errors import KafkaError

from metrics_app.errors import BrokerError
from metrics_app.kafka import topics
from metrics_app.kafka.identity import ClusterIdentity, cluster_identity
from metrics_app.kafka.topics import LateBrokerError
from metrics_app.kafka.topics import topics as topics_of
from metrics_app.settings import Settings

logger = logging.getLogger(__name__)

CHECK_LOOKS = 30  # every so many looks the settings of the topics are checked too

OnRemade = Callable[[set[str]], Awaitable[None]]


class TopicsWatch(mode.Service):
    """The watch of one process.

    Attributes:
        on_remade: awaited with the names of topics that were made anew, or that are not trusted to be the same.
        on_unusable: told what must be changed, when a second look has shown the same.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.on_remade: list[OnRemade] = []
        self.on_unusable: list[Callable[[str], None]] = []
        self._names = [topic.name for topic in topics_of(settings)]
        self._known: ClusterIdentity | None = None
        self._problem: str | None = None
        self._refused: str | None = None
        self._to_tell: set[str] = set()
        self._looks = 0

    def problem(self) -> str | None:
        """Why samples must neither be taken nor folded now; None if nothing has changed."""
        return self._problem

    def distrust(self, topic: str, why: str) -> None:
        """Has a topic treated as made anew at the next look, because it did what the same topic cannot do."""
        logger.error("topic %s is not the one it was: %s", topic, why)
        self._to_tell.add(topic)

    @mode.Service.task
    async def _watch(self) -> None:
        while not self.should_stop:
            await self.sleep(self.settings.topics_check_s)
            try:
                await self.look()
            except (KafkaError, OSError, TimeoutError) as error:  # whoever needs Kafka says that it is away
                logger.info("could not look at the topics: %r", error)

    async def look(self) -> None:
        """Notes what has changed, and has it mended or refused."""
        now = await cluster_identity(self.settings)
        known = self._known
        if known is None:
            if all(name in now.topics for name in self._names):  # otherwise they are still being made
                self._known = now
            return
        self._looks += 1
        changed = [name for name in self._names if now.topics.get(name) != known.topics[name]]
        if changed:
            await self._mend(known, now, changed)
        elif self._looks % CHECK_LOOKS == 0 or self._problem is not None:
            await self._check()
        if self._to_tell and self._problem is None:
            await self._tell()

    async def _mend(self, known: ClusterIdentity, now: ClusterIdentity, changed: list[str]) -> None:
        gone = [name for name in changed if name not in now.topics]
        said, self._problem = self._problem, f"topics have changed in Kafka: {', '.join(changed)}"
        if self._problem != said:
            logger.error("%s; gone: %s", self._problem, ", ".join(gone) or "none")
            if gone:  # whoever deleted a topic may be about to make it again
                return
        if not await self._check():
            return
        self._known = now = await cluster_identity(self.settings)
        remade = {name for name in changed if name in now.topics and now.topics[name].id != known.topics[name].id}
        if remade:
            logger.error("topics were made anew: %s; what had not been read of them is lost", ", ".join(sorted(remade)))
            self._to_tell |= remade

    async def _check(self) -> bool:
        """Makes what is missing; whether all can be used."""
        try:
            await topics.ensure(self.settings)
        except LateBrokerError as error:
            logger.warning("%s", error)
            return False
        except BrokerError as error:
            self._refuse(str(error))
            return False
        self._problem = self._refused = None
        return True

    def _refuse(self, sentence: str) -> None:
        is_sure = self._refused == sentence
        if not is_sure:
            logger.error("%s", sentence)
        self._problem = self._refused = sentence
        for tell in self.on_unusable if is_sure else ():
            tell(sentence)

    async def _tell(self) -> None:
        names = set(self._to_tell)
        for tell in self.on_remade:
            await tell(names)  # if this fails, the next look tells it again
        self._to_tell -= names
