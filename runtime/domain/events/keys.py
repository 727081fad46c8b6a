from dataclasses import dataclass

from runtime.domain.events.base import Event
from runtime.domain.value_objects.ids import KeyId


@dataclass(frozen=True, slots=True)
class KeyEvent(Event):
    key_id: KeyId


@dataclass(frozen=True, slots=True)
class KeyCreated(KeyEvent): ...


@dataclass(frozen=True, slots=True)
class KeyRevoked(KeyEvent): ...
