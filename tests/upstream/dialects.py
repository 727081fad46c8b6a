"""What the fake says, in the words of the wire that it was asked in.

A dialect is made for each request: it knows which blocks are open. What is asked is read in
OpenAI's terms whatever the wire, so that one echo and one set of faults serve them all.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import orjson

Json = dict[str, Any]


def sse_event(payload: object) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(payload)


class Dialect(Protocol):
    done: bytes
    """Behind the end of the answer."""
    huge: tuple[bytes, bytes]
    """What stands before and behind a text in one event."""
    ping: bytes
    overload: Json
    """The error of an error event."""

    def asked(self, request: Json) -> Json:
        """The request in OpenAI's terms."""

    def opening(self, *, calls: bool = False) -> bytes: ...

    def word(self, text: str) -> bytes: ...

    def call(self, index: int, call: Json) -> Sequence[bytes]:
        """The whole call in events."""

    def half_call(self) -> bytes:
        """A call whose arguments break off."""

    def ending(self, finish: str, usage: Json | None) -> bytes: ...

    def whole(
        self, words: Sequence[str], calls: Sequence[Json], finish: str | None, usage: Json
    ) -> bytes:
        """An answer in one piece."""

    def error(self, error: object) -> bytes:
        """An event, or a body in one piece."""

    def refusal(self, status: int) -> Json: ...

    def quota(self) -> tuple[int, Json]: ...


def chunk(delta: Json | None = None, *, finish: str | None = None, **fields: object) -> Json:
    choice = {"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "fake-1",
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
        "choices": [choice],
        **fields,
    }


class OpenAIDialect:
    done = b"data: [DONE]\n\n"
    huge = (
        b'data: {"choices":[{"index":0,"delta":{"content":"',
        b'"},"finish_reason":"stop"}]}\n\n',
    )
    ping = b": ping\n\n"
    overload: Json = {"message": "overloaded", "code": "server_error"}  # noqa: RUF012

    def asked(self, request: Json) -> Json:
        return request

    def opening(self, *, calls: bool = False) -> bytes:
        return sse_event(chunk({"role": "assistant", "content": None if calls else ""}))

    def word(self, text: str) -> bytes:
        return sse_event(chunk({"content": text}))

    def call(self, index: int, call: Json) -> Sequence[bytes]:
        arguments = call["function"]["arguments"]
        opening = {**call, "index": index, "function": {**call["function"], "arguments": ""}}
        more = [
            {"index": index, "function": {"arguments": piece}}
            for piece in (arguments[:5], arguments[5:])
        ]
        return [sse_event(chunk({"tool_calls": [piece]})) for piece in (opening, *more)]

    def half_call(self) -> bytes:
        function = {"name": "transfer", "arguments": '{"amount": 1'}
        piece = {"index": 0, "id": "call_1", "type": "function", "function": function}
        return sse_event(chunk({"tool_calls": [piece]}))

    def ending(self, finish: str, usage: Json | None) -> bytes:
        end = sse_event(chunk(finish=finish))
        return end + sse_event({**chunk(), "choices": [], "usage": usage}) if usage else end

    def whole(
        self, words: Sequence[str], calls: Sequence[Json], finish: str | None, usage: Json
    ) -> bytes:
        message: Json = {"role": "assistant", "content": "".join(words), "refusal": None}
        if calls:
            message |= {"content": "".join(words) or None, "tool_calls": calls}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        answer = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "fake-1",
            "system_fingerprint": "fp_fake",
            "choices": [choice],
            "usage": usage,
        }
        return orjson.dumps(answer)

    def error(self, error: object) -> bytes:
        return sse_event({"error": error})

    def refusal(self, status: int) -> Json:
        return {"error": {"message": f"told {status}", "type": "t", "param": None, "code": None}}

    def quota(self) -> tuple[int, Json]:
        return 429, {"error": {"message": "no money", "code": "insufficient_quota"}}


_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


class AnthropicDialect:
    done = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    huge = (
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"',
        b'"}}\n\n',
    )
    ping = b'event: ping\ndata: {"type": "ping"}\n\n'
    overload: Json = {"type": "overloaded_error", "message": "Overloaded"}  # noqa: RUF012

    def __init__(self) -> None:
        self._blocks = 0
        self._in_text = False

    def asked(self, request: Json) -> Json:
        kept = ("model", "stream", "max_tokens")
        chat: Json = {name: request[name] for name in kept if name in request}
        chat["messages"] = [each for turn in request["messages"] for each in _as_chat(turn)]
        chat["stop"] = request.get("stop_sequences")
        chat["stream_options"] = {"include_usage": True}
        chat["tool_choice"] = request.get("tool_choice", {}).get("type")
        chat["tools"] = [{"function": {"name": tool["name"]}} for tool in request.get("tools", [])]
        return chat

    def opening(self, *, calls: bool = False) -> bytes:
        usage = {"input_tokens": 1, "output_tokens": 1}
        begun = {"type": "message_start", "message": {**_message([], None), "usage": usage}}
        return self._event(begun) + self.ping

    def word(self, text: str) -> bytes:
        begun = b"" if self._in_text else self._begin({"type": "text", "text": ""})
        self._in_text = True
        return begun + self._delta({"type": "text_delta", "text": text})

    def call(self, index: int, call: Json) -> Sequence[bytes]:
        arguments = orjson.dumps(orjson.loads(call["function"]["arguments"])).decode()
        halves = (arguments[:5], arguments[5:]) if arguments != "{}" else ()
        events = [self._close() + self._begin(_tool_use(call, {}))]
        events += [self._delta({"type": "input_json_delta", "partial_json": h}) for h in halves]
        return [*events, self._stop()]

    def half_call(self) -> bytes:
        block = {"type": "tool_use", "id": "toolu_1", "name": "transfer", "input": {}}
        half = {"type": "input_json_delta", "partial_json": '{"amount": 1'}
        return self._close() + self._begin(block) + self._delta(half)

    def ending(self, finish: str, usage: Json | None) -> bytes:
        end = {
            "type": "message_delta",
            "delta": {"stop_reason": _STOP_REASONS[finish], "stop_sequence": None},
            "usage": _usage(usage or {}),
        }
        return self._close() + self._event(end)

    def whole(
        self, words: Sequence[str], calls: Sequence[Json], finish: str | None, usage: Json
    ) -> bytes:
        blocks: list[Json] = [{"type": "text", "text": "".join(words)}] if words else []
        blocks += [_tool_use(call, orjson.loads(call["function"]["arguments"])) for call in calls]
        return orjson.dumps({**_message(blocks, finish), "usage": _usage(usage)})

    def error(self, error: object) -> bytes:
        return self._event({"type": "error", "error": error})

    def refusal(self, status: int) -> Json:
        kind = _ERROR_TYPES.get(status, "api_error")
        error = {"type": kind, "message": f"told {status}"}
        return {"type": "error", "error": error, "request_id": "req_1"}

    def quota(self) -> tuple[int, Json]:
        error = {"type": "billing_error", "message": "no money"}
        return 402, {"type": "error", "error": error}

    def _event(self, payload: Json) -> bytes:
        return b"event: %b\n%b" % (payload["type"].encode(), sse_event(payload))

    def _begin(self, block: Json) -> bytes:
        begun = {"type": "content_block_start", "index": self._blocks, "content_block": block}
        self._blocks += 1
        return self._event(begun)

    def _delta(self, delta: Json) -> bytes:
        index = self._blocks - 1
        return self._event({"type": "content_block_delta", "index": index, "delta": delta})

    def _stop(self) -> bytes:
        return self._event({"type": "content_block_stop", "index": self._blocks - 1})

    def _close(self) -> bytes:
        """The block of text, if one is open."""
        was_open, self._in_text = self._in_text, False
        return self._stop() if was_open else b""


def _message(blocks: Sequence[Json], finish: str | None) -> Json:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "fake-1",
        "content": blocks,
        "stop_reason": _STOP_REASONS[finish] if finish else None,
        "stop_sequence": None,
    }


def _tool_use(call: Json, given: Json) -> Json:
    return {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": given}


def _usage(usage: Json) -> Json:
    return {
        "input_tokens": usage.get("prompt_tokens", 1),
        "output_tokens": usage.get("completion_tokens", 1),
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": None,
    }


def _as_chat(turn: Json) -> list[Json]:
    content = turn["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    results = [block for block in blocks if block["type"] == "tool_result"]
    others = [block for block in blocks if block["type"] == "text"]
    said = [{"role": turn["role"], "content": others}] if others or not results else []
    return [{"role": "tool", "content": each.get("content")} for each in results] + said


def dialect_of(path: str) -> Dialect:
    return AnthropicDialect() if path.endswith("/messages") else OpenAIDialect()
