"""A provider to test against: an HTTP server that speaks several wires and can misbehave.

It serves OpenAI's `/v1/chat/completions` and `/v1/embeddings`, Anthropic's `/v1/messages` (which
wants `x-api-key` and `anthropic-version`) and Azure's `/openai/v1/…` and
`/openai/deployments/NAME/…?api-version=…` (which want `api-key`). All faults are there on each.

In a test:

    async with FakeUpstream() as upstream:
        upstream.script(faults.status(503), faults.stall(after=2))  # one per request, then normal
        ... OpenAIProvider(egress, Connection("openai", upstream.base_url)) ...
        upstream.outage = faults.status(503)  # for every request, until it is None again
        await upstream.requests[0].closed.wait()  # the client closed the connection

As a process: `python -m tests.upstream --port 0` prints `base_url=http://127.0.0.1:…/v1`, and
`PUT /outage` and `DELETE /outage` switch the outage.
There, or wherever nothing is scripted, the request itself says what to do: a model named
`fault-NAME`, or `fault:NAME` in the last user message. Names are the keys of `faults.BY_NAME`:

    N (any HTTP status), rate-limited, quota, burst (two 503, then a normal answer, for every
    different message), busy (one 429, then a normal answer, likewise), slow-headers,
    silent-headers, pings-only, never-ending, stall, cut, reset, no-finish, no-done, garbage,
    garbage-json, error-event, huge-line, bytewise, redirect, cut-tool-call

A normal answer is an echo: `You said: …`, word by word, with usage counted in words. It honours
`max_tokens`, `max_completion_tokens` and `stop`. Where tools are offered and the last user message
names some of them, these are called, with the JSON object in the message as their arguments.
`delay:MS` in the message waits that long before each word, `words:N` makes the answer N words long.
"""

from tests.upstream.server import FakeUpstream
from tests.upstream.wire import Exchange, Recorded

__all__ = ["Exchange", "FakeUpstream", "Recorded"]
