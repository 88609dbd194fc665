"""Tasks of Celery, run at once in this process, as a thread of its pool would."""

from __future__ import annotations

from celery import Celery

from metrics_app.client.celery import time_tasks
from tests.frameworks.sending import Ledger

SENT = {"add": "shop.add SUCCESS", "fail": "shop.fail FAILURE"}


def run(ledger: Ledger) -> None:
    app = Celery("shop", broker="memory://", backend="cache+memory://")

    @app.task(name="shop.add")
    def add(a: int, b: int) -> int:
        return a + b

    @app.task(name="shop.fail")
    def fail() -> None:
        raise RuntimeError("on purpose")

    stop = time_tasks(ledger, with_state=True)
    assert add.apply(args=(1, 2)).get() == 3
    fail.apply()
    stop()
    add.apply(args=(1, 2))
