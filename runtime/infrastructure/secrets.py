"""The key under which the runtime keeps secrets: from the settings, or from a file it makes."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from runtime.domain.errors import InvalidValue
from runtime.infrastructure.settings import Settings

KEY_FILE = "secret.key"
KEY_BYTES = 32


def load_secret_key(settings: Settings) -> bytes:
    """`RUNTIME_SECRET_KEY`, else the content of `secret.key` in the data folder, made at first.

    Any number of processes may come first at once; all get the same key. Raises InvalidValue for
    a file that others may read, or that is no key.
    """
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value().encode()
    path = settings.data_dir / KEY_FILE
    try:
        if not path.exists():
            _make(path)
        return _read(path)
    except OSError as error:
        raise InvalidValue(
            f"{path} can't be used: {error.strerror}. RUNTIME_SECRET_KEY does without it."
        ) from error


def _make(path: Path) -> None:
    """Whole or not at all: written beside it, then linked to its name, which only one can."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{KEY_FILE}.{secrets.token_hex(8)}")
    try:
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "wb") as opened:
            opened.write(secrets.token_bytes(KEY_BYTES))
            opened.flush()
            os.fsync(opened.fileno())
        with suppress(FileExistsError):
            os.link(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    with path.open("rb") as opened:
        mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
        key = opened.read(KEY_BYTES + 1)
    if mode & 0o077 and os.name == "posix":
        raise InvalidValue(
            f"{path} can be read by others. If nobody did, run: chmod 600 {path}; else remove it, "
            "and all API keys have to be made again."
        )
    if len(key) != KEY_BYTES:
        raise InvalidValue(f"{path} does not hold a key of {KEY_BYTES} bytes; restore it.")
    return key
