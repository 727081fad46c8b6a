"""`standard`: every event as it comes."""

from runtime.application.services.generation.modes import Single
from runtime.application.services.generation.sources import Stream


class Standard(Single):
    def stream(self, events: Stream) -> Stream:
        return events
