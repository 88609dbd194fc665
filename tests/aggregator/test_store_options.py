"""RocksDB does what it is asked for: what it runs with is in a file of its own."""

from __future__ import annotations

from pathlib import Path

import rocksdict

from metrics_app.aggregator.local_copies import BUFFER_FILTER_SHARE, WRITE_BUFFER_BYTES, options


def test_filters_stand_before_the_files_and_before_the_buffers_in_memory(tmp_path: Path) -> None:
    rocksdict.Rdict(str(tmp_path / "rows.db"), options()).close()
    (used,) = sorted((tmp_path / "rows.db").glob("OPTIONS-*"))[-1:]
    lines = {line.strip() for line in used.read_text().splitlines()}
    assert "filter_policy=bloomfilter" in lines
    assert "memtable_whole_key_filtering=true" in lines
    (share,) = (float(line.partition("=")[2]) for line in lines if line.startswith("memtable_prefix_bloom_size_ratio="))
    assert share == BUFFER_FILTER_SHARE
    assert f"write_buffer_size={WRITE_BUFFER_BYTES}" in lines
