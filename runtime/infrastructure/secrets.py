"""The runtime's key, and what is kept under it."""

import base64
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.domain.errors import InvalidValue, SecretUnreadable
from runtime.domain.services.secrets import SecretVault
from runtime.infrastructure.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_FILE = "secret.key"
_KEY_BYTES = 32
_SHORTEST_KEY = 16
_LONGEST_FILE = 4_096
_NONCE_BYTES = 12
_FORMAT = "v1"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MAKE_ONE = "make one with `openssl rand -hex 32`, or unset it"


def load_secret_key(settings: Settings) -> bytes:
    """From RUNTIME_SECRET_KEY, else from a file in the data folder that is made when it is missing.

    Any number of processes may start at once: they all get the same key. Raises InvalidValue.
    """
    if settings.secret_key is not None:
        return _checked(settings.secret_key.get_secret_value(), "RUNTIME_SECRET_KEY")
    path = settings.data_dir / KEY_FILE
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InvalidValue(f"{path} can't be read: {error.strerror}.") from error
    try:
        _make(path)
        return _read(path)
    except OSError as error:
        raise InvalidValue(
            f"{path} can't be made: {error.strerror}. Set RUNTIME_SECRET_KEY instead."
        ) from error


def previous_keys(settings: Settings) -> list[bytes]:
    """Keys that open what was stored before. Raises InvalidValue."""
    given = settings.secret_key_previous
    texts = given.get_secret_value().split(",") if given else []
    return [_checked(text, "RUNTIME_SECRET_KEY_PREVIOUS") for text in texts]


def derived(key: bytes, purpose: str, length: int = _KEY_BYTES) -> bytes:
    """A key of its own for each purpose: HKDF-SHA256 (RFC 5869) without salt, one block."""
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), key, "sha256")
    return hmac.digest(extracted, b"agent-runtime/" + purpose.encode() + b"\x01", "sha256")[:length]


class SecretBox(SecretVault):
    """AES-256-GCM; a token is `v1.<key id>.<nonce and ciphertext>` and bound to its place.

    The first key seals, all of them open, so that a key can be replaced while old tokens last.
    """

    def __init__(self, key: bytes, previous: Iterable[bytes] = ()) -> None:
        self._key_id = _key_id(key)
        self._keys = {_key_id(each): each for each in (*previous, key)}
        self._mark_key = derived(key, "marks")

    def seal(self, text: str, place: str) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        cipher = self._ciphers[self._key_id]
        sealed = cipher.encrypt(nonce, text.encode(), self._bound(self._key_id, place))
        return f"{_FORMAT}.{self._key_id}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, place: str) -> str:
        from cryptography.exceptions import InvalidTag

        try:
            version, key_id, encoded = sealed.split(".")
            raw = base64.urlsafe_b64decode(encoded)
            cipher = self._ciphers[key_id]
            if version != _FORMAT:
                raise ValueError(version)
            nonce, ciphertext = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            return cipher.decrypt(nonce, ciphertext, self._bound(key_id, place)).decode()
        except (ValueError, KeyError, InvalidTag):
            raise SecretUnreadable from None

    def mark(self, text: str, scope: str) -> str:
        scope_key = hmac.digest(self._mark_key, scope.encode(), "sha256")
        return hmac.digest(scope_key, text.encode(), "sha256").hex()

    def is_current(self, sealed: str) -> bool:
        return sealed.startswith(f"{_FORMAT}.{self._key_id}.")

    @cached_property
    def _ciphers(self) -> "dict[str, AESGCM]":
        # Late: it takes 40 ms to import, and most runtimes store no secret.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return {id: AESGCM(derived(key, "secrets at rest")) for id, key in self._keys.items()}

    @staticmethod
    def _bound(key_id: str, place: str) -> bytes:
        return f"{_FORMAT}.{key_id}.{place}".encode()


def _key_id(key: bytes) -> str:
    return derived(key, "key id", 4).hex()


def _checked(text: str, where: str) -> bytes:
    text = text.strip()
    if len(text) < _SHORTEST_KEY:
        raise InvalidValue(f"{where} must have at least {_SHORTEST_KEY} characters; {_MAKE_ONE}.")
    return text.encode()


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidValue(f"{path} is no file.")
        if os.name == "posix" and not _is_private(found):
            raise InvalidValue(
                f"{path} is open to other users: `chmod 600` it, or replace it if they may have "
                "read it."
            )
        text = file.read(_LONGEST_FILE).decode(errors="replace")
    return _checked(text, str(path))


def _is_private(found: os.stat_result) -> bool:
    return not found.st_mode & _OTHERS and found.st_uid in (0, os.geteuid())


def _make(path: Path) -> None:
    """Under another name first: whoever sees the file sees all of it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(_KEY_BYTES) + "\n")
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(draft, path)
        except FileExistsError:
            return  # Another process was first; its key is everybody's.
    finally:
        draft.unlink()
