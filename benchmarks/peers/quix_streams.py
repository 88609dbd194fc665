"""Quix Streams: a tumbling window of an hour, reduced to count, sum, min and max.

    python -m benchmarks.peers.quix_streams BOOTSTRAP TOPIC COUNT GROUP FOLDER

Run in the peers' environment. What it counted is said when the windows close, by the closing samples.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

from quixstreams import Application

from benchmarks.peers.saying import Progress

Row = list[float]


def main() -> None:
    """Runs the app until every window is closed."""
    bootstrap, topic, count, group, folder = sys.argv[1:]
    app = Application(
        broker_address=bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        state_dir=folder,
        loglevel="WARNING",
    )
    progress, wanted, rows = Progress(), int(count), dict[str, Row]()

    def first(value: float) -> Row:
        progress.done += 1
        return [1, value, value, value]

    def fold(row: Row, value: float) -> Row:
        progress.done += 1
        return [row[0] + 1, row[1] + value, min(row[2], value), max(row[3], value)]

    def closed(window: dict[str, Any], key: str, _timestamp: int, _headers: Any) -> None:
        rows[key] = window["value"]
        if sum(row[0] for row in rows.values()) == wanted:
            progress.done = wanted
            progress.end(rows)

    source = app.topic(topic, key_deserializer="str", value_deserializer="double")
    stream = app.dataframe(source)
    windows = stream.tumbling_window(timedelta(hours=1)).reduce(reducer=fold, initializer=first)
    windows.final().update(closed, metadata=True)
    app.run()


if __name__ == "__main__":
    main()
