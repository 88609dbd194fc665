"""`python -m tests.faults.limited <arguments>`: metrics-app with the limit of open files in OPEN_FILES, "soft hard"."""

from __future__ import annotations

import os
import resource

from metrics_app.__main__ import run

OPEN_FILES = "OPEN_FILES"

if __name__ == "__main__":
    soft, hard = map(int, os.environ[OPEN_FILES].split())
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    run()
