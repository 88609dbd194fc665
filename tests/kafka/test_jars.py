"""The jars come whole and unaltered or not at all. A folder served by HTTP stands for Maven Central."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from metrics_app.errors import DownloadError
from metrics_app.kafka.jars import LOCK, Jar, cache_dir, install, kafka_version, locked


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class Repository:
    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.repositories = {"test": url}

    def publish(self, artifact: str, content: bytes) -> Jar:
        """Puts a jar there and returns its line of a lock."""
        path = self.folder / "org" / "example" / artifact / "1.0" / f"{artifact}-1.0.jar"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return Jar(f"org.example:{artifact}:jar:1.0", len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    folder = tmp_path / "repository"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Repository(folder, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()


def test_downloads_what_is_missing_and_nothing_else(repository: Repository, tmp_path: Path) -> None:
    jars = [repository.publish("one", b"1" * 100_000), repository.publish("two", b"22")]
    cache = tmp_path / "cache"
    paths = install(cache, jars, repository.repositories)
    assert [path.read_bytes() for path in paths] == [b"1" * 100_000, b"22"]
    assert install(cache, jars, {"nowhere": "http://127.0.0.1:1"}) == paths
    assert sorted(path.name for path in cache.iterdir()) == ["one-1.0.jar", "two-1.0.jar"]


def test_a_download_that_is_not_the_locked_file_is_refused_and_not_kept(repository: Repository, tmp_path: Path) -> None:
    good, jar = repository.publish("good", b"good"), repository.publish("bad", b"what we locked")
    repository.publish("bad", b"something else")
    cache = tmp_path / "cache"
    with pytest.raises(DownloadError, match=rf"org\.example:bad:jar:1\.0 is not the file .*{jar.sha256}"):
        install(cache, [good, jar], repository.repositories)
    assert not (cache / "bad-1.0.jar").exists()


def test_a_cached_jar_that_was_altered_is_refused_with_what_to_do(repository: Repository, tmp_path: Path) -> None:
    jars = [repository.publish("one", b"whole")]
    (path,) = install(tmp_path / "cache", jars, repository.repositories)
    path.write_bytes(b"whole?")
    with pytest.raises(DownloadError, match=rf"org\.example:one:jar:1\.0 .*: delete {path}"):
        install(tmp_path / "cache", jars, repository.repositories)


def test_a_jar_that_is_nowhere_says_so(repository: Repository, tmp_path: Path) -> None:
    jar = Jar("org.example:absent:jar:1.0", 1, "00")
    with pytest.raises(DownloadError, match=r"failed: .*org\.example:absent"):
        install(tmp_path / "cache", [jar], repository.repositories)


def test_a_network_that_is_not_there_is_said_once_with_whom_we_asked_and_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics_app.kafka.jars.PAUSE_S", 0)
    jar = Jar("org.example:one:jar:1.0", 2_000_000, "00")
    with pytest.raises(DownloadError) as raised:
        install(tmp_path / "cache", [jar], {"test": "http://127.0.0.1:1"})
    assert str(raised.value) == (
        "Kafka's jars (2 MB) are not on this machine, and fetching them, which is needed once, failed: "
        "127.0.0.1:1 cannot be reached: Connection refused"
    )


def test_a_cache_that_cannot_be_used_is_said_at_once(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(DownloadError, match=r"jars cannot be kept in .*cache: .*(File exists|Not a directory)"):
        install(tmp_path / "cache", [repository.publish("one", b"1")], repository.repositories)


def test_without_a_home_folder_it_says_which_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(DownloadError, match="set HOME or XDG_CACHE_HOME"):
        cache_dir(locked())


def test_several_at_once_on_one_cache_all_get_whole_jars(repository: Repository, tmp_path: Path) -> None:
    jars = [repository.publish(f"part{i}", bytes([i]) * 200_000) for i in range(6)]
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(install, tmp_path / "cache", jars, repository.repositories) for _ in range(4)]
    for paths in (each.result() for each in done):
        assert [path.read_bytes() for path in paths] == [bytes([i]) * 200_000 for i in range(6)]


def test_the_lock_names_one_version_of_each_jar_with_a_sum() -> None:
    jars = locked()
    artifacts = [jar.coordinate.rsplit(":", 2)[0] for jar in jars]
    assert len(set(artifacts)) == len(jars)
    assert all(len(bytes.fromhex(jar.sha256)) == 32 and jar.size > 0 for jar in jars)
    ours = {jar.coordinate.split(":")[3] for jar in jars if jar.coordinate.startswith("org.apache.kafka:")}
    assert ours == {kafka_version(jars)}


def test_another_lock_gets_another_cache_folder(tmp_path: Path) -> None:
    other = tmp_path / "kafka.lock"
    other.write_text(LOCK.read_text().replace(locked()[0].sha256, "0" * 64))
    assert cache_dir(locked(other)) != cache_dir(locked())
