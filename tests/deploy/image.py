"""Carries out a Dockerfile without an engine: a stage is a layer over this machine, in which its steps run by chroot.

Needs root, as mounts do; all of them are in a namespace of their own and end with it. In place of the base image stands
this machine, with the Python of the tests on the PATH: what comes from the base image is not tried, all else is.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.deploy.manifests import DOCKER, ROOT

DOCKERFILE = DOCKER / "Dockerfile"
PYTHON = Path(sys.base_prefix) / "bin"


class Step(NamedTuple):
    """One instruction of a Dockerfile, such as RUN, and what follows it."""

    instruction: str
    rest: str


def steps() -> list[Step]:
    """The instructions in their order, continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [Step(*line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def last(instruction: str) -> str:
    """What the last such instruction says."""
    return [step.rest for step in steps() if step.instruction == instruction][-1]


def environment() -> dict[str, str]:
    """The variables that the last stage sets."""
    found = dict(each.split("=", 1) for each in shlex.split(last("ENV")))
    return {name: value.replace("$PATH", f"{PYTHON}:/usr/bin:/bin") for name, value in found.items()}


def can_be_built() -> bool:
    """Whether this process may mount a layer over the root folder."""
    probe = "mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w /mnt/m && " + overlay("/mnt/u", "/mnt/w", "/mnt/m")
    command = ["unshare", "--mount", "sh", "-c", probe]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


def overlay(upper: str, work: str, at: str) -> str:
    return f"mount -t overlay overlay -o lowerdir=/,upperdir={upper},workdir={work} {at}"


def context(folder: Path) -> Path:
    """What the build sees of the repository, as Dockerfile.dockerignore says: nothing but what it names with a `!`."""
    first, *others = [line for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert first == "*"
    for name in (line[1:] for line in others if line.startswith("!")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


class Script:
    """The shell script that carries out the steps, and then a command as the image's user on a root that is sealed."""

    def __init__(self, folder: Path) -> None:
        self.context = context(folder / "context")
        self.layers = str(folder / "layers")
        self.lines = ["set -eu", f"mkdir -p {self.layers}", f"mount -t tmpfs tmpfs {self.layers}"]
        self.stages: dict[str, str] = {}
        self.root = ""
        self.user = "0"
        self.folder = "/"
        self.variables = {"PATH": f"{PYTHON}:/usr/sbin:/usr/bin:/bin", "HOME": "/root"}
        self.passed = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "HTTPS_PROXY"))}
        for step in steps():
            getattr(self, f"on_{step.instruction.lower()}", lambda _rest: None)(step.rest)

    def on_from(self, rest: str) -> None:
        name = rest.partition(" AS ")[2] or "last"
        base = f"{self.layers}/{name}"
        self.root, self.folder, self.stages[name] = f"{base}/m", "/", f"{base}/m"
        self.lines += [
            f"mkdir -p {base}/u {base}/w {base}/m",
            overlay(f"{base}/u", f"{base}/w", f"{base}/m"),
            f"chmod 755 {self.root}/root",  # where this machine may keep its Python
            f"mount --bind /dev {self.root}/dev",
            f"mount -t proc proc {self.root}/proc",
        ]

    def on_workdir(self, rest: str) -> None:
        self.folder = rest
        self.lines.append(f"mkdir -p {self.root}{rest}")

    def on_user(self, rest: str) -> None:
        self.user = rest

    def on_env(self, _rest: str) -> None:
        self.variables |= environment()

    def on_copy(self, rest: str) -> None:
        *sources, target = (word for word in rest.split() if not word.startswith("--from="))
        stage = re.match(r"--from=(\S+)", rest)
        origin = self.stages[stage[1]] if stage else f"{self.context}/"
        at = self.root + (target if target.startswith("/") else f"{self.folder}/{target}")
        self.lines.append(f"mkdir -p {Path(at) if target[-1] in './' else Path(at).parent}")
        for source in sources:
            whole = (
                "-T" if stage or (self.context / source).is_dir() else ""
            )  # the contents of a folder, not the folder
            self.lines.append(f"cp -a {whole} {origin}{source} {at}")

    def on_run(self, rest: str) -> None:
        command = re.sub(r"--mount=\S+", "", rest).strip()
        self.lines.append(self.inside("0", ["sh", "-c", command], self.passed))

    def inside(self, user: str, command: list[str], more: dict[str, str]) -> str:
        """A line that runs a command in the layer as a user."""
        variables = [f"{name}={value}" for name, value in (self.variables | more).items()]
        there = ["sh", "-c", f"cd {self.folder} && exec {shlex.join(command)}"]
        return shlex.join(["chroot", f"--userspec={user}:{user}", self.root, "env", "-i", *variables, *there])

    def finish(self, command: list[str], more: dict[str, str]) -> str:
        """The whole script: the steps, then the image's entry point with a command, as `docker run --read-only`."""
        health = json.loads(last("HEALTHCHECK").partition("CMD")[2])
        sealed = [
            f"mount -t tmpfs -o mode=1777 tmpfs {self.root}/tmp",
            f"mount -t tmpfs -o uid={self.user},mode=700 tmpfs {self.root}/data",
            f"mount -o remount,ro {self.root}",
            "echo built",
            f"while read -r _; do {self.inside(self.user, health, more)} && echo healthy || echo sick; done < health &",
            "exec " + self.inside(self.user, [*json.loads(last("ENTRYPOINT")), *command], more),
        ]
        return "\n".join([*self.lines, *sealed]) + "\n"
