from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an aggregate, told to others after the commit."""
