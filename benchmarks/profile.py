"""Where the time goes: flame graphs of our processes under load, by py-spy, and the share of each stage.

    python -m benchmarks.profile [--quick]

A sampling profiler reads the stacks from outside, so the process runs as it does in production. The shares times what a
value costs in the same run give nanoseconds a value. py-spy needs the right to read another process (root, or
`kernel.yama.ptrace_scope=0`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import backlog, flame, ingest, pages, results
from benchmarks.bench import Bench
from benchmarks.samples import Samples
from benchmarks.services import Service, service

PY_SPY = Path(sys.executable).with_name("py-spy")
SAMPLES_PER_S = 200
FOLDS = {"fold-10-keys": (10, 40_000_000), "fold-many-keys": (500_000, 500_000)}
BATCH = 10_000
JSON_SECONDS = 8.0
QUICK = 10  # times shorter


@contextmanager
def recorded(process: Service, file: Path) -> Iterator[None]:
    """Samples a process while within it, into collapsed stacks.

    Raises:
        RuntimeError: py-spy may not, or nothing was sampled.
    """
    options = ["--format", "raw", "--rate", str(SAMPLES_PER_S), "--nonblocking", "--output", str(file)]
    command = [str(PY_SPY), "record", "--pid", str(process.process.pid), *options]
    spy = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield
    finally:
        spy.send_signal(2)  # it writes what it has when it is interrupted
        said, _ = spy.communicate(timeout=60)
    if not file.exists():
        raise RuntimeError(f"py-spy recorded nothing; it needs the right to read another process: {said}")


def main() -> int:
    """Profiles all cases; writes the graphs to docs/plots and the shares to the results, unless it is quick."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter, into results-quick.json and build/")
    options = parser.parse_args()
    folder = Path("build") if options.quick else pages.PLOTS
    folder.mkdir(exist_ok=True)
    with Bench(options.quick) as bench:
        bench.expect(2 * len(FOLDS) + 1)
        cases = {name: _fold(bench, name, *size) for name, size in FOLDS.items()}
        cases["collect-json"] = _collect(bench)
        for name in cases:
            stacks = flame.parse((bench.folder / name).read_text())
            cases[name] |= {"samples": stacks.total(), "shares": flame.shares(stacks)}
            (folder / f"flame-{name}.svg").write_text(flame.svg(stacks, f"{name}: {stacks.total():,} samples"))
    document = {"profile": cases}
    results.update(results.QUICK_RESULTS if options.quick else results.RESULTS, document, bench.busy)
    pages.show(Console(width=150), document, document)
    print(f"flame graphs: {folder}/flame-*.svg")
    if not options.quick:
        list(pages.write(results.load()))
    return 0


def _fold(bench: Bench, name: str, keys: int, count: int) -> dict[str, Any]:
    samples, topic = Samples(keys, count // (QUICK if bench.quick else 1), in_turn=True), bench.name(name)
    bench.step(f"filling for {name}")
    backlog.fill(bench, topic, backlog.columns(samples, backlog.this_hour(), BATCH))
    bench.step(f"profiling {name}")
    with service(bench, "aggregator", topic, answers="/livez") as worker, recorded(worker, bench.folder / name):
        return {"cpu_ns": backlog.folded(bench, worker, samples.count).cpu_ns}


def _collect(bench: Bench) -> dict[str, Any]:
    form = ingest.FORMS[1]
    seconds = JSON_SECONDS / (QUICK if bench.quick else 1)
    with service(bench, "collector", bench.name("collect")) as collector:
        with recorded(collector, bench.folder / "collect-json"):
            found = ingest.measure(bench, collector, form, seconds)
        return {"cpu_ns": found["cpu_ns"]}


if __name__ == "__main__":
    sys.exit(main())
