"""The program `metrics-app`, also `python -m metrics_app`. Called by the console script.

Ctrl-C ends it without a traceback from the first moment on: while the commands are being imported, SIGINT has its
default effect, and after that Python's.

What it makes on disk, and what its children make, is for its user alone: folders 0700, files 0600.

It runs in Python's UTF-8 mode whatever the locale is: file names, arguments and what is printed are UTF-8.
"""

from __future__ import annotations

import os
import signal
import sys

OURS_ALONE = 0o077

_interrupt = signal.getsignal(signal.SIGINT)
if _interrupt is signal.default_int_handler:  # not in a background job, which ignores it
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run() -> None:
    """Runs the command line and exits with its code; 130 after Ctrl-C."""
    if sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    os.umask(OURS_ALONE)
    from metrics_app.cli.main import app

    try:
        signal.signal(signal.SIGINT, _interrupt)
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
