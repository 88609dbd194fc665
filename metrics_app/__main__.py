"""`python -m metrics_app` is the command line."""

from metrics_app.cli.main import run

run()
