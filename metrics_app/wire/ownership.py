"""Binds what identifies samples to whoever sent them, and says which keys are his.

Called by `gathering`, `json_body`, `columnar_body` and `collector.views`.

Without a name everything is taken as it was sent. With one, the sender of numbered values, the ids of samples and the
idempotency key of a request are hashed together with the name: nobody can give numbers or ids of somebody else, and so
have values of his taken for repetitions. The name is that of a token, not its secret: a new secret changes nothing.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from metrics_app.wire.chunk import ID_BYTES, SENDER_BYTES

_NAMED = 16  # bytes of a hashed idempotency key, which is sent on in hexadecimal


class Owner(NamedTuple):
    """Who sent a body.

    Attributes:
        name: empty: nobody asks.
        prefixes: how his keys begin; empty: any key is his.
    """

    name: str = ""
    prefixes: tuple[str, ...] = ()

    def has(self, key: str) -> bool:
        """Whether the key is his."""
        return not self.prefixes or key.startswith(self.prefixes)

    def sender(self, sent: bytes) -> bytes:
        """The 16 bytes that stand for a sender of his; empty without one."""
        return self._hash(b"owned sender", SENDER_BYTES, sent) if self.name and sent else sent

    def request_id(self, sent: bytes) -> bytes:
        """An idempotency key of his, printable; empty without one."""
        return self._hash(b"owned request", _NAMED, sent).hex().encode() if self.name and sent else sent

    def sample_id(self, key: bytes, text: str) -> bytes:
        """The 16 bytes that stand for a sample's id; the same text names another sample under another key."""
        if self.name:
            return self._hash(b"owned sample", ID_BYTES, key, text.encode())
        return blake2b(b"\0".join((key, text.encode())), digest_size=ID_BYTES, person=b"sample").digest()

    def _hash(self, kind: bytes, size: int, *parts: bytes) -> bytes:
        # neither a name nor a key can hold a NUL, so that no two lists of parts give the same bytes
        return blake2b(b"\0".join((self.name.encode(), *parts)), digest_size=size, person=kind).digest()


NO_OWNER = Owner()
FORBIDDEN = "forbidden"  # the reason of samples whose key is not his


def forbidden(prefixes: tuple[str, ...]) -> str:
    """Why."""
    return f"key: the token is for keys that begin with {' or '.join(map(repr, prefixes))}"
