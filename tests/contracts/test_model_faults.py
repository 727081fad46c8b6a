"""What every provider makes of every fault, streamed or not: one table for all wires."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
from langchain_core.messages import BaseMessageChunk

from runtime.domain.errors import (
    DomainError,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamMisconfigured,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
)
from runtime.domain.services.models import ModelCall, ModelEvent, ModelFinished
from runtime.domain.value_objects.chat import ChatRole, Message
from runtime.infrastructure.egress import EgressClient, EgressPolicy
from runtime.infrastructure.providers.base import Provider, Timeouts
from runtime.templates.langgraph.chat_model import RuntimeChatModel
from tests.fakes_models import ModelsOn
from tests.providers import WIRES, connected
from tests.upstream import FakeUpstream, faults

KEY = "sk-canary-0123456789"
HASTY = Timeouts(first_token_s=0.3, idle_s=0.3, answer_s=0.5, total_s=0.6)


@dataclass(frozen=True)
class Expected:
    error: type[DomainError]
    retryable: bool
    retry_after_s: float | None = None


TABLE = {
    "400": Expected(UpstreamRefused, False),
    "401": Expected(UpstreamAuthFailed, False),
    "402": Expected(UpstreamQuotaExhausted, False),
    "403": Expected(UpstreamAuthFailed, False),
    "404": Expected(UpstreamRefused, False),
    "408": Expected(UpstreamTimeout, True),
    "413": Expected(UpstreamRefused, False),
    "422": Expected(UpstreamRefused, False),
    "429": Expected(UpstreamRateLimited, True),
    "500": Expected(UpstreamFailed, True),
    "502": Expected(UpstreamFailed, True),
    "503": Expected(UpstreamFailed, True),
    "504": Expected(UpstreamTimeout, True),
    "529": Expected(UpstreamFailed, True),
    "rate-limited": Expected(UpstreamRateLimited, True, 1),
    "quota": Expected(UpstreamQuotaExhausted, False),
    "burst": Expected(UpstreamFailed, True),
    "busy": Expected(UpstreamRateLimited, True, 1),
    "slow-headers": Expected(UpstreamTimeout, True),
    "silent-headers": Expected(UpstreamTimeout, True),
    "pings-only": Expected(UpstreamTimeout, True),
    "never-ending": Expected(UpstreamTimeout, True),
    "stall": Expected(UpstreamTimeout, True),
    "cut": Expected(UpstreamFailed, True),
    "reset": Expected(UpstreamFailed, True),
    "no-finish": Expected(UpstreamFailed, True),
    "garbage": Expected(UpstreamFailed, True),
    "garbage-json": Expected(UpstreamFailed, True),
    "error-event": Expected(UpstreamFailed, True),
    "huge-line": Expected(UpstreamFailed, True),
    "redirect": Expected(UpstreamMisconfigured, False),
    "cut-tool-call": Expected(UpstreamFailed, True),
}
ODD_BUT_FINE = ("bytewise", "no-done")


def test_the_table_knows_every_fault() -> None:
    named = {name for name in TABLE if not name.isdigit()}
    assert named | set(ODD_BUT_FINE) == set(faults.BY_NAME)


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture(params=WIRES)
async def provider(
    request: pytest.FixtureRequest, upstream: FakeUpstream
) -> AsyncIterator[Provider]:
    egress = EgressClient(EgressPolicy(own=[upstream.base_url]))
    made = connected(request.param, egress, upstream, KEY, HASTY)
    yield made
    await made.aclose()
    await egress.aclose()


def asking(fault: str, *, stream: bool) -> ModelCall:
    return ModelCall(None, [Message(ChatRole.USER, f"fault:{fault}")], stream=stream)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("fault", TABLE)
async def test_a_fault_has_the_same_error_on_every_wire(
    provider: Provider, upstream: FakeUpstream, fault: str, stream: bool
) -> None:
    expected = TABLE[fault]
    events, error = await until_it_breaks(provider, asking(fault, stream=stream))

    assert not any(isinstance(event, ModelFinished) for event in events)
    assert type(error) is expected.error
    assert error.retryable is expected.retryable
    assert error.retry_after_s == expected.retry_after_s
    told = f"{error} {error.param} {error.details}"
    assert KEY not in told
    assert "127.0.0.1" not in told
    await neither_reads_nor_holds(upstream)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("oddity", ODD_BUT_FINE)
async def test_an_oddity_is_no_fault_on_any_wire(
    provider: Provider, oddity: str, stream: bool
) -> None:
    events = [event async for event in provider.stream(asking(oddity, stream=stream), "fake-1")]

    finished = events[-1]
    assert isinstance(finished, ModelFinished)
    assert finished.reason == "stop"


async def test_an_answer_that_goes_on_for_ever_is_cut_by_its_total_time(
    provider: Provider, upstream: FakeUpstream
) -> None:
    since = asyncio.get_running_loop().time()
    events, error = await until_it_breaks(provider, asking("never-ending", stream=True))

    assert "took longer than 0.6 s" in str(error)
    assert len(events) > 5
    assert 0.5 < asyncio.get_running_loop().time() - since < 2


async def test_an_outage_fails_every_request_until_it_is_over(
    provider: Provider, upstream: FakeUpstream
) -> None:
    upstream.outage = faults.status(503)
    for _ in range(2):
        with pytest.raises(UpstreamFailed):
            await anext(provider.stream(asking("none", stream=True), "fake-1"))

    upstream.outage = None
    message = Message(ChatRole.USER, "Hello")
    events = [event async for event in provider.stream(ModelCall(None, [message]), "fake-1")]
    assert isinstance(events[-1], ModelFinished)


@pytest.mark.parametrize("finish", ["tool_calls", "stop", "length"])
async def test_a_tool_call_cut_in_its_arguments_is_never_one_to_execute(
    provider: Provider, upstream: FakeUpstream, finish: str
) -> None:
    """A fault, or a call that whoever executes tools sees is none, whatever the provider says."""
    upstream.script(faults.cut_tool_call(finish=finish))
    service = ModelsOn([provider], provider.name)
    model = RuntimeChatModel(service=service)
    try:
        whole = await model.ainvoke("Transfer it")
    except UpstreamFailed:
        assert finish != "length"
        return

    assert whole.tool_calls == []
    assert whole.response_metadata["finish_reason"] == (
        "length" if finish == "length" else "tool_calls"
    )
    assert bool(whole.invalid_tool_calls) is (finish != "length")


@pytest.mark.parametrize("finish", ["tool_calls", "length"])
async def test_a_cut_tool_call_is_not_mended_for_who_reads_the_stream(
    provider: Provider, upstream: FakeUpstream, finish: str
) -> None:
    upstream.script(faults.cut_tool_call(finish=finish))
    service = ModelsOn([provider], provider.name)
    whole: BaseMessageChunk | None = None
    with suppress(UpstreamFailed):
        async for chunk in RuntimeChatModel(service=service).astream("Transfer it"):
            whole = chunk if whole is None else whole + chunk

    assert whole is None or getattr(whole, "tool_calls", []) == []


async def until_it_breaks(
    provider: Provider, call: ModelCall
) -> tuple[list[ModelEvent], DomainError]:
    events = []
    try:
        async with asyncio.timeout(5):
            async for event in provider.stream(call, "fake-1"):
                events.append(event)
    except DomainError as error:
        return events, error
    raise AssertionError("the answer looked complete")


async def neither_reads_nor_holds(upstream: FakeUpstream) -> None:
    """An answer that went wrong before its end leaves no connection to the next one."""
    (request,) = upstream.requests
    if not request.answered.is_set():
        async with asyncio.timeout(1):
            await request.closed.wait()
