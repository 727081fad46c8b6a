"""Payloads out of the bytes of an answer, as they come."""

from runtime.infrastructure.providers.faults import Faults

LONGEST_PIECE = 8 * 1024 * 1024
"""Bytes of one event, or of an answer in one piece."""


class _Held:
    """Pieces that belong together; joined once, since adding bytes to bytes is quadratic."""

    __slots__ = ("_faults", "_pieces", "_size")

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._pieces: list[bytes] = []
        self._size = 0

    def _hold(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > LONGEST_PIECE:
            raise self._faults.failed("sent more in one piece than the runtime takes")

    def _joined(self) -> bytes:
        joined = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return joined


class EventLines(_Held):
    """The `data:` payloads in a server-sent event stream that is cut anywhere.

    One line is one payload: no provider spreads JSON over several. Payloads keep the blank in
    front and the carriage return behind, which JSON doesn't mind. Event names are not read: where
    a provider has them, its payloads say the same.
    """

    __slots__ = ()

    def feed(self, data: bytes) -> list[bytes]:
        if b"\n" not in data:
            self._hold(data)
            return []
        if self._pieces:
            data = self._joined() + data
        lines = data.split(b"\n")
        tail = lines.pop()
        if tail:
            self._hold(tail)
        return [line[5:] for line in lines if line.startswith(b"data:")]

    def end(self) -> list[bytes]:
        """What came without a line's end."""
        return self.feed(b"\n")


class WholeBody(_Held):
    """A body that is one payload."""

    __slots__ = ()

    def feed(self, data: bytes) -> list[bytes]:
        self._hold(data)
        return []

    def end(self) -> list[bytes]:
        return [self._joined()]
