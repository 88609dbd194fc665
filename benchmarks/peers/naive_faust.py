"""The obvious Faust app: one message is one event, folded into a tumbling RocksDB table.

python -m benchmarks.peers.naive_faust BOOTSTRAP TOPIC COUNT GROUP FOLDER PORT
"""

from __future__ import annotations

import struct
import sys
from datetime import timedelta
from typing import Any

import faust

from benchmarks.peers.saying import Progress

HOUR = timedelta(hours=1)


def main() -> None:
    """Runs the app until it has counted everything."""
    bootstrap, topic, count, group, folder, port = sys.argv[1:]
    app = faust.App(
        group,
        broker=f"kafka://{bootstrap}",
        store="rocksdb://?driver=rocksdict",
        datadir=folder,
        web_port=int(port),
        topic_partitions=8,
        consumer_auto_offset_reset="earliest",
    )
    progress, wanted, rows = Progress(), int(count), dict[str, list[float]]()
    source = app.topic(topic, key_type=bytes, key_serializer="raw", value_serializer="raw")
    hours: Any = app.Table("hours", default=list, partitions=8).tumbling(HOUR, expires=2 * HOUR)

    @app.agent(source)
    async def fold(stream: Any) -> None:
        async for key, packed in stream.items():
            (value,) = struct.unpack(">d", packed)
            found = hours[key].value()
            if found:
                row = [found[0] + 1, found[1] + value, min(found[2], value), max(found[3], value)]
            else:
                row = [1, value, value, value]
            hours[key] = rows[key.decode()] = row  # the table itself can be read for the partition of the event only
            progress.done += 1
            if progress.done == wanted:
                progress.end(rows)

    app.finalize()
    faust.Worker(app, loglevel="WARNING", redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main()
