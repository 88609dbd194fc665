"""Which request came under which idempotency key, as far as this collector has seen and remembers."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

from metrics_app.errors import KeyReuseError

DIGEST_BYTES = 16


class Repeats:
    """The digests of the last bodies sent under an idempotency key, the least recently seen forgotten first.

    A key with another body is a mistake of the client: its values would be taken for a repetition and left out. It is
    only found where the same collector has seen the key; every body counts at most once in any case.

    Args:
        limit: keys remembered; each takes about 200 bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._digests: OrderedDict[bytes, bytes] = OrderedDict()

    def check(self, request_id: bytes, content_type: str, body: bytes) -> None:
        """Notes a body under its key, once it is known to be usable.

        Raises:
            KeyReuseError: the key came with another body.
        """
        if not request_id:
            return
        name, digest = _digest(request_id), _digest(content_type.encode() + b"\0" + body)
        if self._digests.setdefault(name, digest) != digest:
            raise KeyReuseError
        self._digests.move_to_end(name)
        if len(self._digests) > self._limit:
            self._digests.popitem(last=False)


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=DIGEST_BYTES).digest()
