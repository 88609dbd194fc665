"""Collapsed stacks, as py-spy writes them: where the time goes by stage, and a flame graph as SVG. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

# the first that is part of the innermost frame that any of them is part of says what the time went into
STAGES = (
    ("metrics_app/wire/record", "records: checksum, chunks"),
    ("metrics_app/wire", "bodies: JSON or MessagePack to chunks"),
    ("metrics_app/stats", "statistics: buckets, exact sums, encoding"),
    ("metrics_app/aggregator/row", "rows: encoding, checksums"),
    ("metrics_app/aggregator/store", "RocksDB"),
    ("rocksdict", "RocksDB"),
    ("metrics_app/aggregator/flusher", "flush"),
    ("metrics_app/aggregator", "fold: rows, fences, offsets"),
    ("metrics_app/collector", "collector: gathering, replies"),
    ("metrics_app", "our other code"),
    ("aiokafka/producer", "writing to Kafka"),
    ("aiokafka", "reading from Kafka"),
    ("faust", "Faust: a record's way to the agent"),
    ("mode/", "Faust: a record's way to the agent"),
    ("aiohttp", "HTTP: aiohttp"),
)
OTHER = "event loop, sockets, threads"
LOOP = "BaseEventLoop._run_once"  # what is outside of it is the same for every sample, and says nothing
WAITING = ("select (selectors.py", "wait (threading.py")  # innermost frames of a thread that has nothing to do

WIDTH, ROW, LEAST_PX = 1200, 17, 1.5
COLOURS = {"metrics_app": "#60a5fa", "faust": "#fbbf24", "mode": "#fbbf24", "aiokafka": "#34d399", "aiohttp": "#f472b6"}
PLAIN = "#d1d5db"

Stacks = Counter[tuple[str, ...]]


def parse(text: str) -> Stacks:
    """Samples by stack, the outermost frame first, from lines `frame;frame;frame count`.

    Line numbers are dropped, and so is what called the event loop. Threads that wait are left out.
    """
    stacks: Stacks = Counter()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_without_line(frame) for frame in stack.split(";")]
        if any(waiting in frames[-1] for waiting in WAITING):
            continue
        loops = [index for index, frame in enumerate(frames) if frame.startswith(LOOP)]
        stacks[tuple(frames[loops[-1] :] if loops else frames)] += int(count)
    return stacks


def _without_line(frame: str) -> str:
    return f"{frame.rpartition(':')[0]})" if frame.endswith(")") and ":" in frame else frame


def stage_of(stack: Sequence[str]) -> str:
    """What a sample's time went into."""
    for frame in reversed(stack):
        for part, stage in STAGES:
            if part in frame:
                return stage
    return OTHER


def shares(stacks: Stacks) -> dict[str, float]:
    """The share of each stage, the largest first."""
    counts: Counter[str] = Counter()
    for stack, count in stacks.items():
        counts[stage_of(stack)] += count
    return {stage: round(count / counts.total(), 4) for stage, count in counts.most_common()}


@dataclass
class Node:
    """A frame under its callers: samples in it or below, and the frames it called."""

    count: int = 0
    called: dict[str, Node] = field(default_factory=dict)


def tree(stacks: Stacks) -> Node:
    """All stacks as one tree."""
    root = Node()
    for stack, count in stacks.items():
        root.count += count
        node = root
        for frame in stack:
            node = node.called.setdefault(frame, Node())
            node.count += count
    return root


def svg(stacks: Stacks, title: str) -> str:
    """The flame graph: each frame as wide as its share of the samples, under those that called it."""
    root = tree(stacks)
    boxes = list(_boxes(root, 0.0, 0, WIDTH / max(1, root.count)))
    height = 40 + ROW * (1 + max((depth for _, _, depth, _ in boxes), default=0))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" '
        'font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="20" font-size="15">{escape(title)}</text>',
    ]
    for frame, x, depth, node in boxes:
        width, y = node.count * WIDTH / root.count, 32 + ROW * depth
        colour = next((colour for part, colour in COLOURS.items() if part in frame), PLAIN)
        share = f"{100 * node.count / root.count:.1f} %"
        label = frame[: int(width / 6.7)] if width > 20 else ""
        parts.append(
            f'<g><title>{escape(frame)}: {share}</title><rect x="{x:.1f}" y="{y}" width="{width - 0.4:.1f}" '
            f'height="{ROW - 1}" fill="{colour}"/><text x="{x + 2:.1f}" y="{y + 12}">{escape(label)}</text></g>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _boxes(node: Node, x: float, depth: int, scale: float) -> Iterator[tuple[str, float, int, Node]]:
    for frame, called in sorted(node.called.items()):
        if called.count * scale >= LEAST_PX:
            yield frame, x, depth, called
            yield from _boxes(called, x, depth + 1, scale)
        x += called.count * scale
