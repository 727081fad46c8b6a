from dataclasses import dataclass

from runtime.application.handlers.feedback import GiveFeedbackHandler
from runtime.application.handlers.streaming import StreamChatHandler
from runtime.application.services.connections import Connections
from runtime.application.services.live_streams import LiveStreams
from runtime.domain.services.identity import Authenticator


@dataclass(frozen=True, slots=True)
class Services:
    """What this door needs of the application."""

    authenticator: Authenticator
    connections: Connections
    live_streams: LiveStreams
    stream_chat: StreamChatHandler
    give_feedback: GiveFeedbackHandler
    max_requests: int
    """That go on at once in one connection."""
    idle_s: float
