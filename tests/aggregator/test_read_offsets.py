"""After a seek back Faust hands on what was sought, though later records are still on their way."""

from __future__ import annotations

from faust.types import TP

from metrics_app.aggregator.source_log import ReadOffsets, seek

SAMPLES = TP("samples", 0)


class Consumer:
    """As Faust's consumer keeps its note of the last record handed on."""

    def __init__(self) -> None:
        self._read_offset = ReadOffsets()
        self.handed_on: list[int] = []

    async def seek(self, tp: TP, offset: int) -> None:
        self._read_offset[tp] = offset or None

    def fetched(self, *offsets: int) -> None:
        for offset in offsets:
            last = self._read_offset[SAMPLES]
            if last is None or offset >= last:
                self.handed_on.append(offset)
                self._read_offset[SAMPLES] = offset


async def test_the_sought_record_comes_though_one_fetched_before_came_first():
    consumer = Consumer()
    consumer.fetched(5, 9)
    await seek(consumer, SAMPLES, 6)
    consumer.fetched(10, 11)
    await seek(consumer, SAMPLES, 6)
    consumer.fetched(12, 6, 7, 8)
    assert consumer.handed_on == [5, 9, 10, 11, 12, 6, 7, 8]


async def test_once_it_has_come_what_comes_twice_is_dropped_as_before():
    consumer = Consumer()
    consumer.fetched(1)
    await seek(consumer, SAMPLES, 0)
    consumer.fetched(0, 1, 0, 1, 2)
    assert consumer.handed_on == [1, 0, 1, 1, 2]


async def test_a_partition_that_moves_takes_its_note_along():
    consumer = Consumer()
    consumer.fetched(5)
    await seek(consumer, SAMPLES, 3)
    consumer._read_offset.pop(SAMPLES, None)
    consumer.fetched(7, 6)
    assert consumer.handed_on == [5, 7]
