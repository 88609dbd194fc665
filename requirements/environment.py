"""Makes a virtual environment that is whole, or says in one sentence why it cannot. Called by the Makefile.

An environment counts as whole when its stamp names this very folder and its Python still runs. A half-made one, one of
an older Python and one that was moved have no such stamp, so they are made anew. Any Python from 3.0 on can run this
file: it must be able to say that it is too old.
"""

import argparse
import os
import subprocess
import sys

OLDEST = (3, 11)
STAMP = ".whole"  # its lines: version of Python, absolute path of the environment
VERSION = "%d.%d" % sys.version_info[:2]


def main():
    """Returns when the environment is whole; exit code 1 and a sentence when it cannot be made."""
    parser = argparse.ArgumentParser(description="Makes a virtual environment that is whole.")
    parser.add_argument("folder")
    parser.add_argument("--exact", action="store_true", help="one of another Python than this is made anew")
    asked = parser.parse_args()
    refuse_old()
    folder = os.path.abspath(asked.folder)
    if not is_whole(folder, asked.exact):
        make(folder)


def refuse_old():
    """A Python that is too old ends here, whatever it is asked to make."""
    if sys.version_info < OLDEST:
        fail(
            "metrics-app needs Python %d.%d or newer, and %s is %s" % (OLDEST + (sys.executable, VERSION)),
            "name another one: make PYTHON=python3.12 ...",
        )


def is_whole(folder, exact):
    """Whether the stamp is that of this folder, and the Python in it still runs and has pip."""
    try:
        with open(os.path.join(folder, STAMP), encoding="utf-8") as stamp:
            version, where = stamp.read().splitlines()
        if where != folder or (exact and version != VERSION):
            return False
        check = [os.path.join(folder, "bin", "python"), "-c", "import pip"]
        return subprocess.call(check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except (OSError, ValueError):
        return False


def make(folder):
    """Makes it anew and puts the stamp in as the last step."""
    if os.path.isdir(folder) and os.listdir(folder) and not os.path.exists(os.path.join(folder, "pyvenv.cfg")):
        fail("%s is in the way: it is no virtual environment" % folder, "move it away and try again")
    try:
        import ensurepip  # noqa: F401  # Debian leaves it out of python3
        import venv
    except ImportError:
        fail(
            "%s cannot make virtual environments: its module venv or ensurepip is missing" % sys.executable,
            "on Debian and Ubuntu: apt-get install python%s-venv" % VERSION,
        )
    print("making the environment %s" % folder)
    sys.stdout.flush()
    try:
        venv.EnvBuilder(with_pip=True, clear=True, symlinks=True).create(folder)
        with open(os.path.join(folder, STAMP), "w", encoding="utf-8") as stamp:
            stamp.write("%s\n%s\n" % (VERSION, folder))
    except (OSError, subprocess.CalledProcessError) as error:
        fail("%s cannot be made: %s" % (folder, error), "mend that and try again: what is half-made is not used")


def fail(problem, advice):
    """Ends with the sentence and what to do next."""
    sys.exit("error: %s\n  %s" % (problem, advice))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
