"""The only way out: every outgoing HTTP call of the runtime goes through `EgressClient`."""

from runtime.infrastructure.egress.client import Credential, EgressClient, Endpoint, Fetched
from runtime.infrastructure.egress.policy import EgressPolicy

__all__ = ["Credential", "EgressClient", "EgressPolicy", "Endpoint", "Fetched"]
