"""Celery: times each task, in whatever process or thread of the pool it runs.

Called by apps.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from metrics_app.client.timer import MS, Recorder


def time_tasks(client: Recorder, *, with_state: bool = False) -> Callable[[], None]:
    """Times the tasks of this process from before they run until they have, failed ones too: `time_tasks(client)`.

    The key is the name of the task; `with_state` adds how it ended, as in "shop.charge FAILURE". Call it where the
    Celery app is made: the children of the prefork pool inherit it.

    Returns:
        What ends it.
    """
    from celery.signals import task_postrun, task_prerun

    started: dict[str, float] = {}  # by the id of the task; each leaves it as it ends

    def begins(task_id: str, **rest: Any) -> None:
        started[task_id] = perf_counter()

    def ends(task_id: str, task: Any, state: str | None = None, **rest: Any) -> None:
        if (since := started.pop(task_id, None)) is not None:
            client.record(f"{task.name} {state}" if with_state else task.name, (perf_counter() - since) * MS)

    task_prerun.connect(begins, weak=False)
    task_postrun.connect(ends, weak=False)

    def stop() -> None:
        task_prerun.disconnect(begins)
        task_postrun.disconnect(ends)

    return stop
