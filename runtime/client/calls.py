"""Every call there is, described once: both clients only send what is said here."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from runtime.client import shapes
from runtime.client.decoding import ChatChunks, TypedEvents
from runtime.client.options import quoted
from runtime.client.shapes import Answered, Call, Completion, Json, Page, StreamCall

Messages = str | Sequence[Mapping[str, Any]]
"""In OpenAI's shape; a text is what the user says."""


# Agents


def create_agent(
    name: str,
    description: str = "",
    model_id: str | None = None,
    system_prompt: str | None = None,
    capabilities: Sequence[str] = ("conversation",),
    tools: Sequence[str] = (),
    *,
    slug: str | None = None,
    template_id: str | None = None,
    template_config: Mapping[str, Any] | None = None,
) -> Call[Json]:
    """Make an agent. Answers `{"request_id", "success", "data", "error"}`; `data` has its
    `agent_id`, its `status`, and the `model` to call it by."""
    body = {
        "name": name,
        "description": description,
        "model_id": model_id,
        "system_prompt": system_prompt,
        "capabilities": list(capabilities),
        "tools": list(tools),
        "slug": slug,
        "template_id": template_id,
        "template_config": template_config,
    }
    return Call("POST", "/api/agents", shapes.envelope, shapes.given(body))


def get_agent(agent_id: str | UUID) -> Call[Json]:
    """By its id, or by what `model` accepts."""
    return Call("GET", f"/api/agents/{quoted(agent_id)}", shapes.data)


def list_agents(
    *, status: str | None = None, limit: int = 50, after: str | None = None
) -> Call[Page]:
    """Agents that the caller sees, newest first."""
    return Call(
        "GET",
        "/api/agents",
        shapes.page,
        query=shapes.query(status=status, limit=limit, after=after),
    )


def send_message(
    agent_id: str | UUID, message: str, conversation_id: str | UUID | None = None
) -> Call[Json]:
    """Say something to an agent. Answers `{"request_id", "success", "data", "error"}`; `data` has
    the `content` and the `conversation_id` to go on with."""
    return Call("POST", *_message(agent_id, shapes.envelope, message, conversation_id))


def stream_message(
    agent_id: str | UUID, message: str, conversation_id: str | UUID | None = None
) -> StreamCall:
    """The same, as it comes; the first event, `Start`, has the `conversation_id`."""
    path, _, body = _message(agent_id, shapes.envelope, message, conversation_id)
    return StreamCall(path, {**body, "stream": True}, TypedEvents)


def list_tools() -> Call[Page]:
    """What can be named in `tools` of an agent."""
    return Call("GET", "/api/tools", shapes.page)


# Models and providers


def register_model(
    model_id: str,
    provider: str,
    model_type: str = "chat",
    display_name: str | None = None,
    capabilities: Mapping[str, Any] | None = None,
    provider_model_id: str | None = None,
    api_key_env_var: str | None = None,
    **more: Any,  # noqa: ANN401 - fields of the body
) -> Call[Json]:
    """Give a provider's model a name. Answers `{"request_id", "success", "data", "error"}`."""
    body = {
        "model_id": model_id,
        "provider": provider,
        "model_type": model_type,
        "display_name": display_name,
        "capabilities": capabilities,
        "provider_model_id": provider_model_id,
        "api_key_env_var": api_key_env_var,
        **more,
    }
    return Call("POST", "/api/models", shapes.envelope, shapes.given(body))


def list_models() -> Call[Page]:
    """What the caller can name in `model`."""
    return Call("GET", "/v1/models", shapes.page)


def register_provider(
    provider_id: str,
    provider_type: str,
    model_name: str | None = None,
    api_key: str | None = None,
    base_url: str | None = None,
    api_key_env: str | None = None,
    **more: Any,  # noqa: ANN401 - fields of the body
) -> Call[Json]:
    """Make models of one vendor callable. The key is kept sealed and never shown again."""
    body = {
        "provider_id": provider_id,
        "provider_type": provider_type,
        "model_name": model_name,
        "api_key": api_key,
        "base_url": base_url,
        "api_key_env": api_key_env,
        **more,
    }
    return Call("POST", f"{_PROVIDERS}/register", shapes.data, shapes.given(body))


def list_providers(*, limit: int = 50, after: str | None = None) -> Call[Page]:
    """What `provider_id` may be."""
    return Call(
        "GET", _PROVIDERS, shapes.provider_page, query=shapes.query(limit=limit, after=after)
    )


def test_provider(provider_id: str) -> Call[Json]:
    """Ask it something small, to see whether it answers."""
    return Call("POST", f"/v1/providers/{quoted(provider_id)}/test", shapes.whole, {})


def remove_provider(provider_id: str) -> Call[Json]:
    """Take it away, with its key. Refused while agents use it."""
    return Call("DELETE", f"{_PROVIDERS}/{quoted(provider_id)}", shapes.data)


# Chat


def chat(
    model: str, messages: Messages, session_id: str | None, options: Mapping[str, Any]
) -> Call[Completion]:
    body = _chat(model, messages, session_id, options)
    return Call("POST", "/v1/chat/completions", shapes.completion, body)


def streamed_chat(
    model: str, messages: Messages, session_id: str | None, options: Mapping[str, Any]
) -> StreamCall:
    body = _chat(model, messages, session_id, options)
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    return StreamCall("/v1/chat/completions", body, ChatChunks)


def stream_chat(
    messages: Messages,
    *,
    agent_id: str | UUID | None = None,
    provider_id: str | None = None,
    model: str | None = None,
    providers: Sequence[str] | None = None,
    generator_mode: str | None = None,
    generator_config: Mapping[str, Any] | None = None,
    session_id: str | None = None,
    **options: Any,  # noqa: ANN401 - of a chat completion
) -> StreamCall:
    """Ask an agent, or models without one, and have the answer come as a mode puts it."""
    body = asked(
        messages,
        agent_id=agent_id,
        provider_id=provider_id,
        model=model,
        providers=providers,
        generator_mode=generator_mode,
        generator_config=generator_config,
        session_id=session_id,
        **options,
    )
    return StreamCall("/api/streaming/chat", {**body, "stream_format": "sse"}, TypedEvents)


def asked(
    messages: Messages,
    *,
    agent_id: str | UUID | None = None,
    **options: Any,  # noqa: ANN401 - of a chat completion, and of the streaming doors
) -> Json:
    """The body of a streaming chat, over HTTP and in a WebSocket's frame alike."""
    named = str(agent_id) if agent_id is not None else None
    return shapes.given({"messages": _messages(messages), "agent_id": named, **options})


# Sessions, memories, schedules, the runtime


def create_session(
    metadata: Mapping[str, str] | None = None, items: Sequence[Mapping[str, Any]] = ()
) -> Call[Json]:
    """Begin a conversation; its `id` is the session's name for every agent."""
    body = {"metadata": metadata, "items": list(items) or None}
    return Call("POST", "/v1/conversations", shapes.whole, shapes.given(body))


def get_session(session_id: str) -> Call[Json]:
    return Call("GET", f"/v1/conversations/{quoted(session_id)}", shapes.whole)


def list_session_items(
    session_id: str,
    *,
    limit: int = 20,
    after: str | None = None,
    order: Literal["asc", "desc"] = "asc",
) -> Call[Page]:
    """What was said, oldest first."""
    path = f"/v1/conversations/{quoted(session_id)}/items"
    return Call("GET", path, shapes.page, query=shapes.query(limit=limit, after=after, order=order))


def delete_session(session_id: str) -> Call[Json]:
    return Call("DELETE", f"/v1/conversations/{quoted(session_id)}", shapes.whole)


def remember(
    text: str,
    *,
    key: str | None = None,
    value: object = None,
    tags: Sequence[str] = (),
    scope: Literal["user", "agent", "shared"] = "user",
    agent: str | None = None,
    expires_in_s: int | None = None,
) -> Call[Json]:
    """Have something known in later runs: by every agent of the caller's, by one, or shared."""
    body = {
        "text": text,
        "key": key,
        "value": value,
        "tags": list(tags),
        "scope": scope,
        "agent": agent,
        "expires_in_s": expires_in_s,
    }
    return Call("POST", "/v1/memories", shapes.whole, shapes.given(body))


def list_memories(
    query: str | None = None,
    *,
    agent: str | None = None,
    scope: Literal["user", "agent", "shared"] | None = None,
    tag: str | None = None,
    limit: int = 50,
    after: str | None = None,
) -> Call[Page]:
    """What is known of the caller, newest first; with a query what fits it, the best first."""
    asked = shapes.query(query=query, agent=agent, scope=scope, tag=tag, limit=limit, after=after)
    return Call("GET", "/v1/memories", shapes.page, query=asked)


def forget(memory_id: str) -> Call[Json]:
    return Call("DELETE", f"/v1/memories/{quoted(memory_id)}", shapes.whole)


def forget_everything() -> Call[Json]:
    """All that is known of the caller, but for what they share. Answers how many there were."""
    return Call("DELETE", "/v1/memories", shapes.whole, query={"all": "true"})


def create_schedule(
    model: str,
    input: Messages,
    *,
    cron: str | None = None,
    timezone: str | None = None,
    every_s: int | None = None,
    name: str | None = None,
    **more: Any,  # noqa: ANN401 - fields of the body
) -> Call[Json]:
    """Have an agent run at set times: by a cron expression, or every so many seconds."""
    body = {"cron": cron, "timezone": timezone, "every_s": every_s, **more}
    asked = {"name": name or model, "model": model, "input": input}
    return Call("POST", "/v1/schedules", shapes.whole, asked | shapes.given(body))


def get_schedule(schedule_id: str) -> Call[Json]:
    """With its next five ticks."""
    return Call("GET", f"/v1/schedules/{quoted(schedule_id)}", shapes.whole)


def list_schedules(*, limit: int = 50, after: str | None = None) -> Call[Page]:
    """Newest first."""
    return Call("GET", "/v1/schedules", shapes.page, query=shapes.query(limit=limit, after=after))


def list_schedule_runs(
    schedule_id: str, *, limit: int = 50, after: str | None = None
) -> Call[Page]:
    """What became of its ticks, the newest first."""
    path = f"/v1/schedules/{quoted(schedule_id)}/runs"
    return Call("GET", path, shapes.page, query=shapes.query(limit=limit, after=after))


def pause_schedule(schedule_id: str) -> Call[Json]:
    return Call("POST", f"/v1/schedules/{quoted(schedule_id)}/pause", shapes.whole)


def resume_schedule(schedule_id: str) -> Call[Json]:
    return Call("POST", f"/v1/schedules/{quoted(schedule_id)}/resume", shapes.whole)


def run_schedule(schedule_id: str) -> Call[Json]:
    """One run now, out of turn; its `run_id` is in the answer."""
    return Call("POST", f"/v1/schedules/{quoted(schedule_id)}/run", shapes.whole)


def delete_schedule(schedule_id: str) -> Call[Json]:
    return Call("DELETE", f"/v1/schedules/{quoted(schedule_id)}", shapes.whole)


def health() -> Call[Json]:
    """`{"status", "services"}`; not raised for a runtime that says that it is unhealthy."""
    return Call("GET", "/api/health", shapes.health, also=(503,))


def stats() -> Call[Json]:
    """What streams and connections go on, and how the providers are."""
    return Call("GET", "/api/streaming/stats", shapes.data)


_PROVIDERS = "/api/streaming/providers"


def _message(
    agent_id: str | UUID,
    parse: Callable[[Answered], Json],
    message: str,
    conversation_id: str | UUID | None,
) -> tuple[str, Callable[[Answered], Json], Json]:
    named = str(conversation_id) if conversation_id is not None else None
    body = shapes.given({"message": message, "conversation_id": named})
    return f"/api/agents/{quoted(agent_id)}/messages", parse, body


def _chat(
    model: str, messages: Messages, session_id: str | None, options: Mapping[str, Any]
) -> Json:
    body = {**options, "model": model, "messages": _messages(messages)}
    if session_id is not None:
        body["metadata"] = {**(body.get("metadata") or {}), "session_id": session_id}
    return body


def _messages(messages: Messages) -> list[Mapping[str, Any]]:
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
