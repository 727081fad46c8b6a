from typing import Protocol


class SecretVault(Protocol):
    """Keeps texts so that whoever reads the database can't."""

    def seal(self, text: str, place: str) -> str:
        """Encrypted; what it returns can be opened for the same `place` only."""

    def open(self, sealed: str, place: str) -> str:
        """Raises SecretUnreadable."""

    def mark(self, text: str, scope: str) -> str:
        """A keyed hash, in hex: it tells texts of one scope apart and reveals none of them."""
