"""What the model service adds to a provider: names, repetition, estimates, health."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest

from runtime.domain.errors import (
    DomainError,
    InvalidValue,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamMisconfigured,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
)
from runtime.domain.events.runs import ReasoningDelta, TextDelta, ToolCallDelta, UsageReported
from runtime.domain.services.models import ModelCall, ModelEvent, ModelFinished
from runtime.domain.value_objects.chat import ChatRole, Message, ToolCall, Usage
from runtime.infrastructure.egress import EgressClient, EgressPolicy
from tests.fakes_models import ModelsOn, statuses
from tests.providers import openai
from tests.upstream import FakeUpstream, faults

CALL = ModelCall(None, [Message(ChatRole.USER, "Hello")])
USAGE = UsageReported(Usage(1, 1), "m")
END = ModelFinished("stop", "m")

Step = ModelEvent | DomainError


class ScriptedProvider:
    """Plays one script after the other, the last one for ever."""

    default_model = "standard"
    formats: frozenset[str] = frozenset()

    def __init__(self, *scripts: list[Step], name: str = "scripted") -> None:
        self.name = name
        self._scripts = list(scripts)
        self.tried_at: list[float] = []
        self.asked_for: list[str] = []
        self.closed = False

    async def stream(self, call: ModelCall, model: str) -> AsyncGenerator[ModelEvent]:
        self.tried_at.append(asyncio.get_running_loop().time())
        self.asked_for.append(model)
        for step in self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]:
            if isinstance(step, DomainError):
                raise step
            yield step

    async def aclose(self) -> None:
        self.closed = True


def service_on(*providers: ScriptedProvider, attempts: int = 3) -> ModelsOn:
    return ModelsOn(providers, providers[0].name, attempts=attempts, backoff_s=0)


async def events_of(service: ModelsOn, call: ModelCall = CALL) -> list[ModelEvent]:
    return [event async for event in service.stream(call)]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as fake:
        yield fake


@pytest.mark.parametrize(
    ("named", "provider", "model"),
    [
        (None, "one", "standard"),
        ("two", "two", "standard"),
        ("two/large", "two", "large"),
        ("two/vendor/large", "two", "vendor/large"),
    ],
)
async def test_a_model_is_found_by_its_providers_name(
    named: str | None, provider: str, model: str
) -> None:
    both = {name: ScriptedProvider([USAGE, END], name=name) for name in ("one", "two")}
    await events_of(service_on(*both.values()), ModelCall(named, []))

    assert both[provider].asked_for == [model]


@pytest.mark.parametrize("named", ["three", "three/large", "one/", "/large", "large"])
async def test_a_model_without_a_provider_is_refused_before_any_call(named: str) -> None:
    provider = ScriptedProvider([USAGE, END], name="one")
    service = service_on(provider)

    with pytest.raises(InvalidValue, match="the providers are: one"):
        service.check(named)
    with pytest.raises(InvalidValue):
        await events_of(service, ModelCall(named, []))
    assert provider.asked_for == []


def test_a_default_model_without_a_provider_is_refused_at_the_start() -> None:
    with pytest.raises(InvalidValue, match="absent"):
        ModelsOn([ScriptedProvider([END])], "absent/large")


@pytest.mark.parametrize(
    "fault",
    [
        UpstreamFailed("x"),
        UpstreamTimeout("x"),
        UpstreamRateLimited("x"),
        UpstreamRateLimited("x", retry_after_s=0.01),
    ],
)
async def test_a_passing_fault_before_the_first_delta_is_not_noticed(fault: DomainError) -> None:
    provider = ScriptedProvider([fault], [fault], [TextDelta("Hi"), USAGE, END])

    assert await events_of(service_on(provider)) == [TextDelta("Hi"), USAGE, END]
    assert len(provider.tried_at) == 3


@pytest.mark.parametrize("attempts", [1, 2, 5])
async def test_attempts_are_bounded(attempts: int) -> None:
    provider = ScriptedProvider([UpstreamFailed("x")])

    with pytest.raises(UpstreamFailed):
        await events_of(service_on(provider, attempts=attempts))
    assert len(provider.tried_at) == attempts


@pytest.mark.parametrize(
    "fault",
    [
        UpstreamRefused("x"),
        UpstreamAuthFailed("x"),
        UpstreamMisconfigured("x"),
        UpstreamQuotaExhausted("x"),
        UpstreamRateLimited("x", retry_after_s=11),
        UpstreamFailed("x", retry_after_s=3600),
    ],
)
async def test_a_lasting_fault_is_passed_on_at_once(fault: DomainError) -> None:
    provider = ScriptedProvider([fault])

    with pytest.raises(type(fault)) as raised:
        await events_of(service_on(provider))
    assert raised.value is fault
    assert len(provider.tried_at) == 1


async def test_after_the_first_delta_nothing_is_repeated() -> None:
    provider = ScriptedProvider([TextDelta("Hi"), UpstreamFailed("x")])
    service = service_on(provider)

    events = service.stream(CALL)
    assert await anext(events) == TextDelta("Hi")
    with pytest.raises(UpstreamFailed):
        await anext(events)
    assert len(provider.tried_at) == 1


async def test_a_provider_is_given_the_time_it_asks_for() -> None:
    provider = ScriptedProvider([UpstreamRateLimited("x", retry_after_s=0.08)], [USAGE, END])
    await events_of(service_on(provider))

    first, second = provider.tried_at
    assert second - first >= 0.079


async def test_a_burst_of_failures_is_survived_over_the_wire(upstream: FakeUpstream) -> None:
    upstream.script(faults.status(503), faults.rate_limited(retry_after_ms="10"))
    egress = EgressClient(EgressPolicy(own=[upstream.base_url]))
    service = ModelsOn([openai(egress, upstream.base_url, "sk-test")], "openai", backoff_s=0)
    events = await events_of(service)
    await service.aclose()
    await egress.aclose()

    assert events[-1] == ModelFinished("stop", "fake-1", "fp_fake")
    assert len(upstream.requests) == 3


async def test_leaving_the_stream_leaves_the_provider(upstream: FakeUpstream) -> None:
    upstream.script(faults.stall())
    egress = EgressClient(EgressPolicy(own=[upstream.base_url]))
    service = ModelsOn([openai(egress, upstream.base_url)], "openai")
    async with aclosing(service.stream(CALL)) as events:
        await anext(events)

    await upstream.requests[0].closed.wait()
    assert upstream.requests[0].closed_by_client
    await service.aclose()
    await egress.aclose()


async def test_usage_that_the_provider_does_not_count_is_estimated() -> None:
    provider = ScriptedProvider(
        [ReasoningDelta("1234"), TextDelta("12345678"), ToolCallDelta(0, "c", "1234", "1"), END]
    )
    messages = [
        Message(ChatRole.USER, "12345678"),
        Message(ChatRole.ASSISTANT, "", tool_calls=(ToolCall("c", "1234", "12345"),)),
    ]
    *_, usage, finished = await events_of(service_on(provider), ModelCall(None, messages))

    assert usage == UsageReported(Usage(5, 5), "m", estimated=True)
    assert finished == END


async def test_an_answer_without_a_delta_is_an_answer() -> None:
    estimate = UsageReported(Usage(2, 0), "m", estimated=True)

    assert await events_of(service_on(ScriptedProvider([END]))) == [estimate, END]


@pytest.mark.parametrize("script", [[], [TextDelta("Hi")], [TextDelta("Hi"), USAGE]])
async def test_a_stream_without_an_end_is_a_failure(script: list[Step]) -> None:
    with pytest.raises(UpstreamFailed, match="did not finish"):
        await events_of(service_on(ScriptedProvider(script)))


async def test_a_provider_is_degraded_from_a_failed_call_to_the_next_good_one() -> None:
    provider = ScriptedProvider([UpstreamFailed("x")], [TextDelta("Hi"), USAGE, END])
    service = service_on(provider, attempts=1)

    with pytest.raises(UpstreamFailed):
        await events_of(service)
    assert statuses(service) == {"scripted": "degraded"}
    await events_of(service)
    assert statuses(service) == {"scripted": "healthy"}


async def test_a_request_that_the_provider_refuses_does_not_count_against_it() -> None:
    service = service_on(ScriptedProvider([UpstreamRefused("x")]))

    with pytest.raises(UpstreamRefused):
        await events_of(service)
    assert statuses(service) == {"scripted": "healthy"}


async def test_closing_the_service_closes_its_providers() -> None:
    providers = [ScriptedProvider([END], name=name) for name in ("one", "two")]
    await service_on(*providers).aclose()

    assert all(provider.closed for provider in providers)
