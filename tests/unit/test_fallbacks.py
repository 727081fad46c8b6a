"""Who answers when a model can't: fallbacks, routing, breakers, places, capabilities."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from runtime.domain.entities.providers import ProviderModel
from runtime.domain.errors import (
    CircuitOpen,
    DomainError,
    InvalidValue,
    ModelDisabled,
    ProviderSaturated,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamQuotaExhausted,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
)
from runtime.domain.events.runs import TextDelta, UsageReported
from runtime.domain.services.models import ModelCall, ModelEvent, ModelFinished
from runtime.domain.value_objects.chat import (
    ChatRole,
    GenerationOptions,
    ImagePart,
    Message,
    ToolSpec,
    Usage,
)
from runtime.domain.value_objects.identity import DEFAULT_PROJECT
from runtime.domain.value_objects.providers import Capabilities, Fallback, Routing, Tuning
from tests.fakes_models import ModelsOn, statuses

HELLO = [Message(ChatRole.USER, "Hello")]


class Node:
    """Says its name, unless it is told to fail."""

    default_model = "m"
    formats: frozenset[str] = frozenset()

    def __init__(self, name: str) -> None:
        self.name = name
        self.error: DomainError | None = None
        self.after = 0
        """Pieces that come before the error."""
        self.calls: list[ModelCall] = []
        self.gate: asyncio.Event | None = None

    async def stream(self, call: ModelCall, model: str) -> AsyncGenerator[ModelEvent]:
        self.calls.append(call)
        for _ in range(self.after):
            yield TextDelta("piece")
        if self.gate:
            yield TextDelta("waiting")
            await self.gate.wait()
        if self.error:
            raise self.error
        yield TextDelta(self.name)
        yield UsageReported(Usage(1, 1), model)
        yield ModelFinished("stop", model)

    async def aclose(self) -> None:
        """Nothing is held."""


def chain(
    *nodes: Node,
    routing: Routing = Routing.FIRST_HEALTHY,
    weights: Sequence[int] = (1, 1, 1),
    tuning: Tuning = Tuning(attempts=1),  # noqa: B008 - frozen
    capabilities: Capabilities = Capabilities(),  # noqa: B008 - frozen
    enabled: bool = True,
) -> ModelsOn:
    """The first one's model `m` falls back on the others."""
    first = ProviderModel(
        name="m",
        upstream_name="m",
        fallbacks=tuple(
            Fallback(node.name, weight)
            for node, weight in zip(nodes[1:], weights[1:], strict=False)
        ),
        routing=routing,
        weight=weights[0],
        capabilities=capabilities,
        enabled=enabled,
    )
    return ModelsOn(
        nodes, nodes[0].name, backoff_s=0, tuning=tuning, models={nodes[0].name: [first]}
    )


async def said(models: ModelsOn, call: ModelCall | None = None) -> str:
    call = call or ModelCall(None, HELLO)
    events = [event async for event in models.stream(call)]
    assert isinstance(events[-1], ModelFinished)
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize(
    "error",
    [
        UpstreamFailed("x"),
        UpstreamTimeout("x"),
        UpstreamRateLimited("x", retry_after_s=60),
        UpstreamQuotaExhausted("x"),
        UpstreamAuthFailed("x"),
    ],
)
async def test_another_model_answers_where_one_fails(error: DomainError) -> None:
    one, two = Node("one"), Node("two")
    one.error = error
    assert await said(chain(one, two)) == "two"


async def test_a_request_that_is_wrong_is_wrong_for_every_model() -> None:
    one, two = Node("one"), Node("two")
    one.error = UpstreamRefused("no such parameter")
    with pytest.raises(UpstreamRefused):
        await said(chain(one, two))
    assert two.calls == []


async def test_after_the_first_piece_nobody_steps_in() -> None:
    one, two = Node("one"), Node("two")
    one.error, one.after = UpstreamFailed("cut"), 1
    with pytest.raises(UpstreamFailed, match="cut"):
        await said(chain(one, two))
    assert two.calls == []


async def test_what_the_last_one_failed_with_is_the_answer() -> None:
    one, two = Node("one"), Node("two")
    one.error, two.error = UpstreamFailed("first"), UpstreamTimeout("last")
    with pytest.raises(UpstreamTimeout, match="last"):
        await said(chain(one, two))


async def test_usage_is_reported_under_the_model_that_answered() -> None:
    one, two = Node("one"), Node("two")
    one.error = UpstreamFailed("x")
    events = [event async for event in chain(one, two).stream(ModelCall(None, HELLO))]
    assert [each.called for each in events if isinstance(each, UsageReported)] == ["two/m"]


async def test_a_model_that_fails_five_times_is_left_alone_and_says_for_how_long() -> None:
    one = Node("one")
    one.error = UpstreamFailed("down")
    models = chain(one)
    for _ in range(5):
        with pytest.raises(UpstreamFailed):
            await said(models)
    with pytest.raises(CircuitOpen) as refused:
        await said(models)
    assert len(one.calls) == 5
    assert 29 < (refused.value.retry_after_s or 0) <= 30
    assert statuses(models) == {"one": "unhealthy"}


async def test_an_open_breaker_costs_its_fallback_nothing() -> None:
    one, two = Node("one"), Node("two")
    one.error = UpstreamFailed("down")
    models = chain(one, two)
    answers = [await said(models) for _ in range(20)]
    assert answers == ["two"] * 20
    assert len(one.calls) == 5
    (known,) = (each for each in models.health() if each.provider == "one")
    assert known.models[0].fallbacks == 20


async def test_a_breaker_is_one_models_not_its_providers() -> None:
    one = Node("one")
    one.error = UpstreamFailed("down")
    models = chain(one)
    for _ in range(5):
        with pytest.raises(UpstreamFailed):
            await said(models)
    one.error = None
    assert await said(models, ModelCall("one/other", HELLO)) == "one"


async def test_neither_a_wrong_key_nor_a_wrong_request_opens_a_breaker() -> None:
    one = Node("one")
    models = chain(one)
    for error in (UpstreamAuthFailed("x"), UpstreamRefused("x"), UpstreamRateLimited("x")):
        one.error = error
        for _ in range(6):
            with pytest.raises(type(error)):
                await said(models)
    assert models.health()[0].models[0].breaker == "closed"


async def test_one_probe_shows_that_a_model_is_back() -> None:
    one = Node("one")
    one.error = UpstreamFailed("down")
    models = chain(one, tuning=Tuning(attempts=1, breaker_threshold=1, breaker_recovery_s=0))
    with pytest.raises(UpstreamFailed):
        await said(models)
    one.error, one.gate = None, asyncio.Event()
    async with aclosing(models.stream(ModelCall(None, HELLO))) as probe:
        await anext(probe)
        with pytest.raises(CircuitOpen):
            await said(models)
        one.gate.set()
        rest = [event async for event in probe]
    assert isinstance(rest[-1], ModelFinished)
    assert models.health()[0].models[0].breaker == "closed"


async def test_a_probe_that_its_caller_leaves_makes_room_for_another() -> None:
    one = Node("one")
    one.error = UpstreamFailed("down")
    models = chain(one, tuning=Tuning(attempts=1, breaker_threshold=1, breaker_recovery_s=0))
    with pytest.raises(UpstreamFailed):
        await said(models)
    one.error, one.gate = None, asyncio.Event()
    async with aclosing(models.stream(ModelCall(None, HELLO))) as probe:
        await anext(probe)
    one.gate = None
    assert await said(models) == "one"


async def test_a_full_provider_sends_calls_on_and_refuses_where_nobody_else_is() -> None:
    one, two = Node("one"), Node("two")
    one.gate = asyncio.Event()
    tuning = Tuning(attempts=1, max_concurrency=1)
    models = chain(one, two, tuning=tuning)
    async with aclosing(models.stream(ModelCall(None, HELLO))) as going_on:
        await anext(going_on)
        assert await said(models) == "two"
        with pytest.raises(ProviderSaturated) as refused:
            await said(models, ModelCall("one/other", HELLO))
    assert refused.value.retry_after_s == 1
    one.gate = None
    assert await said(models) == "one"


async def test_a_time_out_is_not_sat_out_twice_where_somebody_else_can_answer() -> None:
    one, two = Node("one"), Node("two")
    one.error = UpstreamTimeout("silent")
    assert await said(chain(one, two, tuning=Tuning(attempts=3))) == "two"
    assert len(one.calls) == 1


async def test_a_time_out_is_sat_out_where_the_others_are_left_alone() -> None:
    one, two = Node("one"), Node("two")
    one.error = UpstreamTimeout("x")
    models = chain(one, two, tuning=Tuning(attempts=3))
    for _ in range(5):
        models.directory.model(DEFAULT_PROJECT, "two").breaker.leave("failure", probe=False)
    with pytest.raises(UpstreamTimeout):
        await said(models)
    assert (len(one.calls), len(two.calls)) == (3, 0)


async def test_other_passing_faults_are_tried_again_first() -> None:
    one, two = Node("one"), Node("two")
    one.error = UpstreamFailed("busy")
    assert await said(chain(one, two, tuning=Tuning(attempts=3))) == "two"
    assert len(one.calls) == 3


async def test_the_fastest_is_called_first_where_latency_decides() -> None:
    one, two = Node("one"), Node("two")
    models = chain(one, two, routing=Routing.LEAST_LATENCY)
    await said(models)
    await said(models)
    for model, seconds in (("one", 0.5), ("two", 0.1)):
        found = models.directory.find(DEFAULT_PROJECT, model)
        assert found is not None
        found.model(None).calls.smoothed_first_s = seconds
    assert await said(models) == "two"


async def test_weights_share_the_calls_out() -> None:
    one, two = Node("one"), Node("two")
    models = chain(one, two, routing=Routing.WEIGHTED, weights=(1, 9))
    answers = Counter([await said(models) for _ in range(300)])
    assert 10 < answers["one"] < 90
    assert answers["one"] + answers["two"] == 300


async def test_a_disabled_model_is_not_called_and_its_fallback_answers() -> None:
    one, two = Node("one"), Node("two")
    assert await said(chain(one, two, enabled=False)) == "two"
    with pytest.raises(ModelDisabled):
        await said(chain(one, enabled=False))
    assert one.calls == []


async def test_what_a_model_cant_do_is_refused_by_name_or_done_by_another() -> None:
    one, two = Node("one"), Node("two")
    cant = Capabilities(tools=False, vision=False)
    tools = ModelCall(None, HELLO, GenerationOptions(tools=(ToolSpec("clock"),)))
    image = ModelCall(None, [Message(ChatRole.USER, (ImagePart("https://a.test/b.png"),))])
    for call, param in ((tools, "tools"), (image, "messages")):
        with pytest.raises(InvalidValue) as refused:
            await said(chain(one, capabilities=cant), call)
        assert refused.value.param == param
        assert await said(chain(one, two, capabilities=cant), call) == "two"
    assert one.calls == []


async def test_a_model_that_cant_stream_is_asked_for_the_whole_answer() -> None:
    one = Node("one")
    await said(chain(one, capabilities=Capabilities(streaming=False)))
    assert one.calls[0].stream is False


async def test_a_format_is_obeyed_only_where_every_model_that_may_answer_does() -> None:
    one, two = Node("one"), Node("two")
    one.formats = frozenset({"json_object"})
    assert not chain(one, two).obeys(None, {"type": "json_object"})
    assert chain(one).obeys(None, {"type": "json_object"})
    weak = chain(one, capabilities=Capabilities(json_mode=False))
    assert not weak.obeys(None, {"type": "json_object"})
