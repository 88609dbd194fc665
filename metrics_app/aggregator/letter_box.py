"""The dead letters that are in Kafka now: read, and brought back.

Called by `cli.dlq` and `letter_views`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from metrics_app.aggregator.dead_letters import Letter, open_letters, read_letter, replayed_headers, revived
from metrics_app.errors import FormatError
from metrics_app.kafka import connections, topics
from metrics_app.settings import Settings


class Letters(NamedTuple):
    """What the topic holds.

    Attributes:
        waiting: letters that were not replayed, the oldest first.
        left_out: why records are no letters.
    """

    waiting: list[Letter]
    left_out: list[str]


async def read(settings: Settings, most_bytes: float = math.inf) -> Letters:
    """All letters.

    Raises:
        LargeTopicError: the topic holds more bytes than that.
        KafkaError, OSError, TimeoutError: Kafka does not answer.
    """
    letters, left_out = [], []
    partitions = await _partitions(settings)
    for each in await connections.everything(settings, settings.dead_letter_topic, partitions, most_bytes):
        try:
            letters.append(read_letter(each.headers, each.value))
        except FormatError as error:
            left_out.append(str(error))
    return Letters(open_letters(letters), left_out)


async def _partitions(settings: Settings) -> list[int]:
    async with topics.admin_client(settings) as admin:
        (topic,) = [topic for topic in await admin.describe_topics() if topic["topic"] == settings.dead_letter_topic]
    return [partition["partition"] for partition in topic["partitions"]]


async def replay(
    settings: Settings, letters: Sequence[Letter], only: str | None = None, *, dry_run: bool = False
) -> Counter[str]:
    """Sends what can be read to the samples topic again; each sample counts once however often this is done.

    Args:
        only: letters of this reason, its part before the colon.
    Returns:
        How many were `replayed`, are `unreadable` and stay, or are `other` ones, not asked for.
    """
    done: Counter[str] = Counter()
    async with connections.producer(settings) as producer:
        for letter in letters:
            if only is not None and letter.kind != only:
                done["other"] += 1
                continue
            try:
                records = revived(letter, settings.max_record_bytes, settings.partitions)
            except FormatError:
                done["unreadable"] += 1
                continue
            done["replayed"] += 1
            if not dry_run:
                for partition, value in records:
                    await producer.send_and_wait(settings.samples_topic, value, partition=partition)
                await producer.send_and_wait(settings.dead_letter_topic, b"", headers=replayed_headers(letter))
    return done
