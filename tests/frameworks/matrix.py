"""Each framework, oldest and newest supported version, in an environment of its own: `make test-frameworks`.

Without arguments all of them; with names those alone. Packages come from wherever pip is set to find them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

REPOSITORY = Path(__file__).parents[2]
CLIENT_NEEDS = ("msgspec", "urllib3")
# of each app what is installed: the oldest that is supported first, the newest last
MATRIX = {
    "aiohttp": ("aiohttp==3.9.0 yarl<1.10", "aiohttp"),
    "bottle": ("bottle==0.13.0", "bottle"),
    "celery": ("celery==5.3.0", "celery"),
    "django": ("django==4.2", "django"),
    "falcon": ("falcon==3.1.3", "falcon"),
    # without routers that stay as they are, the first with them, and now
    "fastapi": ("fastapi==0.100.0", "fastapi==0.139.0", "fastapi==0.140.0", "fastapi"),
    "flask": ("flask==2.2.0 werkzeug<3", "flask"),
    "grpc": ("grpcio==1.60.0", "grpcio"),
    "httpx": ("httpx==0.24.0", "httpx"),
    "litestar": ("litestar==2.14.0 sniffio", "litestar"),
    "pyramid": ("pyramid==2.0 setuptools<80", "pyramid setuptools<81"),
    "quart": ("quart==0.19.0 flask<3.1 werkzeug<3.1", "quart"),
    "requests": ("requests==2.28.0", "requests"),
    "starlette": ("starlette==0.27.0", "starlette<1", "starlette"),
}


def main(names: list[str]) -> int:
    """How many rows failed; each is told in a line."""
    failed = 0
    for name in names or MATRIX:
        for wanted in MATRIX[name]:
            told = "\n    ".join(_problems(name, wanted.split()))
            failed += bool(told)
            print(f"{'FAILED' if told else 'ok':7}{name:10} {wanted}{told and f'{os.linesep}    {told}'}", flush=True)
    return failed


def _problems(name: str, packages: list[str]) -> Iterator[str]:
    with TemporaryDirectory(prefix="frameworks-") as folder:
        venv.create(folder, with_pip=True)
        python = f"{folder}/bin/python"
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
        steps = (
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *CLIENT_NEEDS, *packages],
            [python, "-m", "tests.frameworks.check", name],
        )
        for step in steps:
            done = subprocess.run(step, env=environment, capture_output=True, text=True, check=False, timeout=600)
            if done.returncode:
                yield from done.stderr.strip().splitlines()[-12:]
                return


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
