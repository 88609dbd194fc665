"""Which body came under which idempotency key, as far as this collector has seen and remembers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

from metrics_app.errors import KeyReuseError, OverloadedError

DIGEST_BYTES = 16


class Repeats:
    """The digests of the last bodies sent under an idempotency key, the least recently seen forgotten first.

    A key with another body is a mistake of the client: its values would be taken for a repetition and left out. It is
    only found where the same collector has seen the key; every body counts at most once in any case. What is compared
    are the bytes: none are samples in more than one of the forms a body may have, so its content type says nothing new.

    Args:
        limit: keys remembered; each takes about 200 bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._digests: OrderedDict[bytes, bytes] = OrderedDict()

    @contextmanager
    def under(self, request_id: bytes, body: bytes) -> Iterator[None]:
        """Within it a usable body is kept under its key, if it has one; what was not is not remembered.

        Raises:
            KeyReuseError: the key came with another body.
        """
        if not request_id:
            yield
            return
        name, digest = _digest(request_id), _digest(body)
        before = self._digests.get(name)
        if before not in (None, digest):
            raise KeyReuseError
        self._note(name, digest)
        try:
            yield
        except OverloadedError as error:
            if error.nothing_kept and before is None:
                self._digests.pop(name, None)
            raise
        self._note(name, digest)

    def _note(self, name: bytes, digest: bytes) -> None:
        self._digests[name] = digest
        self._digests.move_to_end(name)
        if len(self._digests) > self._limit:
            self._digests.popitem(last=False)


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=DIGEST_BYTES).digest()
