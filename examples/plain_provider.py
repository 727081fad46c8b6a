"""A provider with a wire of its own: a prompt goes out, words come back as events.

It takes `POST {base_url}/generate` with `{"model", "prompt", "limit"}` and answers with
`data: {"word": "…"}`, then `data: {"end": "stop", "read": 12, "written": 34}`.
"""

import json
from collections.abc import AsyncGenerator, Iterator

from runtime.providers import (
    Connection,
    EgressClient,
    Faults,
    FinishReason,
    ModelCall,
    ModelEvent,
    ModelFinished,
    ProviderAdapter,
    TextDelta,
    UnsupportedParameter,
    Usage,
    UsageReported,
    Wire,
    address,
)


class PlainProvider(ProviderAdapter):
    type = "plain"
    needs_key = True
    usual_model = "plain-1"

    def __init__(self, egress: EgressClient, connection: Connection) -> None:
        super().__init__(egress, connection)
        base_url = connection.base_url or ""
        self._generate = address(base_url, "generate")
        self._wire = Wire(egress, connection, base_url)

    def stream(self, call: ModelCall, model: str) -> AsyncGenerator[ModelEvent]:
        return self._wire.stream(
            self._generate,
            lambda: request_body(call, model),
            Words(self._wire.faults, model),
            model,
            stream=True,
            headers=call.headers,
        )

    async def aclose(self) -> None:
        await self._wire.aclose()


def request_body(call: ModelCall, model: str) -> bytes:
    if call.options.tools:
        raise UnsupportedParameter("tools", "this provider calls none.")
    prompt = "\n\n".join(f"{message.role}: {message.text}" for message in call.messages)
    body = {"model": model, "prompt": prompt, "limit": call.options.token_limit}
    return json.dumps(body).encode()


class Words:
    """One answer. It is complete when `reason` is set, and over when `done` is."""

    def __init__(self, faults: Faults, model: str) -> None:
        self.done = False
        self.reason: FinishReason | None = None
        self.pings = 0
        self._faults = faults
        self._model = model
        self._usage = Usage()

    def take(self, payload: bytes) -> Iterator[ModelEvent]:
        try:
            event = json.loads(payload)
            if "end" in event:
                self.reason = "length" if event["end"] == "limit" else "stop"
                self._usage = Usage(event["read"], event["written"])
                self.done = True
            elif "error" in event:
                raise self._faults.in_stream(event["error"], self._model)
            else:
                yield TextDelta(event["word"])
        except (KeyError, TypeError, ValueError):
            raise self._faults.failed("sent something that is no word") from None

    def finish(self) -> Iterator[ModelEvent]:
        if self.reason is None:
            raise self._faults.failed("ended before its answer was complete")
        yield UsageReported(self._usage, self._model)
        yield ModelFinished(self.reason, self._model)
