"""Lines of logs a second: taken apart on one core, by format, and a whole `metrics-app import` until Kafka has all.

Called by `benchmarks`.

The lines of each format are those of an hour of one service. Their paths hold ids: 2,000 different ones, or as many as
there are lines, which is the worst case, for each path is then looked at anew.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.services import service
from metrics_app.sources.key_template import KeyTemplate
from metrics_app.sources.log_fields import FieldRules, Units
from metrics_app.sources.log_formats import FORMATS
from metrics_app.sources.log_lines import reader_of

LINES, QUICK_LINES = 400_000, 20_000
BLOCK = 10_000  # lines taken apart at once
PATHS = 2_000
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"


def run(bench: Bench) -> dict[str, Any]:
    """The section `logs`.

    Raises:
        RuntimeError: a line was not taken.
    """
    lines = QUICK_LINES if bench.quick else LINES
    cases = (("nginx", PATHS), ("nginx", lines), ("envoy", PATHS), ("ndjson", PATHS), ("csv", PATHS))
    bench.expect(len(cases) + 1)
    rows = []
    for name, paths in cases:
        bench.step(f"{name} lines, {paths:,} paths")
        rows.append({"format": name, "paths": paths, "lines": lines, "per_s": _taken_apart(name, lines, paths)})
    bench.step("metrics-app import")
    return {"logs": {"formats": rows, "import_per_s": _imported(bench, lines), "lines": lines}}


def _line(name: str, at: datetime, number: int, ms: int) -> str:
    request = f'"GET /users/{number}/orders HTTP/1.1"'
    match name:
        case "nginx":
            return f'10.0.0.1 - - [{at:%d/%b/%Y:%H:%M:%S} +0000] {request} 200 512 "-" "{AGENT}" {ms / 1000:.3f}'
        case "envoy":
            return f'[{at:%Y-%m-%dT%H:%M:%S}.310Z] {request} 200 - via_upstream - "-" 0 512 {ms} {ms} "-" "{AGENT}"'
        case "ndjson":
            return json.dumps({"key": f"GET /users/{number}", "value": ms, "timestamp": int(at.timestamp())})
    return f"GET /users/{number},{ms},{int(at.timestamp())}"


def _written(name: str, lines: int, paths: int) -> list[str]:
    chosen, began = random.Random(1), datetime.now(UTC) - timedelta(hours=2)
    moments = (began + timedelta(seconds=3600 * at / lines) for at in range(lines))
    return [_line(name, at, chosen.randrange(paths), chosen.randrange(3000)) + "\n" for at in moments]


def _taken_apart(name: str, lines: int, paths: int) -> int:
    form, text = FORMATS[name], _written(name, lines, paths)
    blocks = ["".join(text[start : start + BLOCK]).encode() for start in range(0, lines, BLOCK)]
    rules = FieldRules(KeyTemplate.of(form.key), Units(form.unit, "ms"))
    read = reader_of(form, rules, ["key", "value", "timestamp"], ",")
    began = time.process_time()
    taken = sum(read(block, 1).count for block in blocks)
    took_s = time.process_time() - began
    if taken != lines:
        raise RuntimeError(f"{name}: {taken} of {lines} lines were taken")
    return round(lines / took_s)


def _imported(bench: Bench, lines: int) -> int:
    log: Path = bench.folder / "access.log"
    log.write_text("".join(_written("nginx", lines, PATHS)))
    with service(bench, "all", bench.name("logs")) as worker:
        command = [sys.executable, "-m", "metrics_app", "import", "--format", "nginx", "--json", "--url", worker.url]
        began = time.monotonic()
        said = subprocess.run([*command, "--state", str(bench.folder / "state"), str(log)], capture_output=True)
        took_s = time.monotonic() - began
    accepted = json.loads(said.stdout)["files"][0]["accepted"] if said.stdout else 0
    if accepted != lines:
        raise RuntimeError(f"{accepted} of {lines} lines were accepted: {said.stderr.decode()[-500:]}")
    return round(lines / took_s)
