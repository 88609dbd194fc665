"""What an app needs that only sends: msgspec and urllib3."""

from __future__ import annotations

import subprocess
import sys

ALONE = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names | {"metrics_app", "msgspec", "urllib3", *OPTIONAL}:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)

OPTIONAL = {"brotli", "brotlicffi", "zstandard", "backports", "h2", "OpenSSL", "socks"}  # of urllib3, all absent here
sys.meta_path.insert(0, Absent())
from metrics_app import MetricsClient, AsyncMetricsClient
from metrics_app.client.asgi import TimingMiddleware
from metrics_app.client.wsgi import TimingMiddleware
from metrics_app.client import aiohttp, celery, django, falcon, grpc, outgoing, pyramid, quart
client = MetricsClient("http://127.0.0.1:1")
client.record("a", 1.0)
with client.timer("b"):
    pass
client.close(0.1)
foreign = {name.partition(".")[0] for name in sys.modules}
assert not foreign & {"numpy", "faust", "aiohttp", "aiokafka", "pydantic", "structlog", "celery", "django"}, foreign
print("fine")
"""


def test_the_client_needs_nothing_of_the_server() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_importing_the_package_does_not_import_the_client() -> None:
    code = "import sys, metrics_app; print('urllib3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
