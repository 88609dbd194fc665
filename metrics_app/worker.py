"""The app as `faust -A metrics_app.worker worker` loads it: role `all`, settings from the environment.

Called by Faust's own command line.
"""

from metrics_app.app import create_app
from metrics_app.configuration import load
from metrics_app.kafka import belonging

settings = load()
belonging.guard(settings)
app = create_app(settings, "all")
