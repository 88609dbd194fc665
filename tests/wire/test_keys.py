from __future__ import annotations

import unicodedata

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_app.wire.metric_key import MAX_KEY_BYTES, are_plain, fault_of, key_bytes
from metrics_app.wire.partition import partition_of, partitions_of


@given(st.text(max_size=80))
def test_a_key_is_its_utf8_bytes_or_is_refused_with_what_was_expected(key: str) -> None:
    fits = 0 < len(key.encode(errors="surrogatepass")) <= MAX_KEY_BYTES
    printable = all(unicodedata.category(character) not in ("Cc", "Cs") for character in key)
    if fits and printable:
        assert key_bytes(key).decode() == key
    else:
        with pytest.raises(ValueError, match="expected 1 to 256 bytes of UTF-8 without control characters; it has"):
            key_bytes(key)


@given(st.lists(st.binary(min_size=1, max_size=MAX_KEY_BYTES) | st.text("az/09", min_size=1).map(str.encode)))
def test_keys_that_are_plain_together_are_valid_each(keys: list[bytes]) -> None:
    if are_plain(b"".join(keys)):
        assert [fault_of(key) for key in keys if len(key) <= MAX_KEY_BYTES] == [None] * sum(
            len(key) <= MAX_KEY_BYTES for key in keys
        )


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0x100)])
def test_keys_with_a_control_character_or_beyond_ascii_are_not_plain(code: int) -> None:
    assert are_plain(b"shop/basket")
    assert not are_plain(b"shop/bas" + bytes([code]) + b"ket")


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("", "0 bytes"),
        ("k" * 257, "257 bytes"),
        ("é" * 129, "258 bytes"),
        ("a\x00", r"U\+0000 at character 1"),
        ("\n", r"U\+000A at character 0"),
        ("ab\x7f", r"U\+007F at character 2"),
        ("\x85", r"U\+0085"),
        ("a\ud800", "lone surrogate at character 1"),
    ],
)
def test_a_refused_key_says_what_is_wrong_with_it(key: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        key_bytes(key)


@pytest.mark.parametrize("key", ["k" * 256, "é" * 128, "/../a b?c#d%2F", "<script>", "😀", "\u202eabc", "e\u0301"])
def test_anything_else_is_a_key_and_is_not_normalised(key: str) -> None:
    assert key_bytes(key) == key.encode()


@given(st.binary(min_size=1, max_size=MAX_KEY_BYTES), st.integers(1, 512))
def test_the_partition_is_the_one_kafkas_default_partitioner_picks(key: bytes, partitions: int) -> None:
    everything = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, everything, everything)


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=9), max_size=60), st.integers(0, 9), st.integers(1, 512))
def test_many_keys_are_where_each_of_them_is(keys: list[bytes], size: int, partitions: int) -> None:
    of_one_size = [key.ljust(10, b".")[: 1 + size] for key in keys]
    for some in (keys, of_one_size, of_one_size * 2):
        assert partitions_of(some, partitions) == [partition_of(key, partitions) for key in some]


@pytest.mark.parametrize(("key", "partition"), [(b"checkout", 2), (b"login", 7), (b"a", 4)])
def test_partitions_of_known_keys_never_change(key: bytes, partition: int) -> None:
    """Stored data would be looked for in the wrong place."""
    assert partition_of(key, 8) == partition
