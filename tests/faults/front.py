"""HAProxy with the configuration of docker/haproxy.cfg before workers of this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from metrics_app.kafka.ports import free_port
from metrics_app.verify.running import RunningProcess

CONFIGURATION = Path(__file__).parents[2] / "docker" / "haproxy.cfg"


def configuration(port: int, addresses: dict[str, str]) -> str:
    """The product's own, but for where it listens and where the workers are.

    Args:
        addresses: host and port of each server by the name it has in the file.
    """
    lines: list[str] = []
    for line in CONFIGURATION.read_text().splitlines():
        words = line.split()
        if words[:1] == ["server"]:
            line = f"    server {words[1]} {addresses[words[1]]}"
        elif words[:1] == ["bind"]:
            line = f"    bind 127.0.0.1:{port}"
        elif words[:1] == ["default-server"]:
            line = line.partition(" resolvers ")[0]  # names are Docker's; there are none here
        lines.append(line)
    text = "\n".join(lines) + "\n"
    head, resolvers, rest = text.partition("resolvers docker\n")
    assert resolvers, "the section of Docker's names"
    return head + rest[rest.index("defaults\n") :]


@contextmanager
def haproxy(folder: Path, urls: dict[str, str]) -> Iterator[str]:
    """A running HAProxy; gives its base URL.

    Args:
        urls: base URL of each server by its name in the configuration.
    """
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    port = free_port()
    file = folder / "haproxy.cfg"
    file.write_text(configuration(port, {name: urlsplit(url).netloc for name, url in urls.items()}))
    command, url = [program, "-db", "-f", str(file)], f"http://127.0.0.1:{port}"
    with RunningProcess("HAProxy", command, folder / "haproxy.log", {}, url).running():
        yield url
