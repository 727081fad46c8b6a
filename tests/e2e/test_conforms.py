"""The net that holds every answer of the end-to-end tests to OpenAI's schemas catches something."""

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.e2e.conforms import check, check_answer, check_stream_event
from tests.e2e.server import serving

MODEL = {"id": "support", "object": "model", "created": 1, "owned_by": "us"}


def test_more_than_the_schema_is_fine_and_less_is_not() -> None:
    check("Model", {**MODEL, "capabilities": {}})
    with pytest.raises(AssertionError, match=r"created: 1\.5 is not of type"):
        check("Model", {**MODEL, "created": 1.5})


def test_a_union_is_judged_by_the_variant_that_was_meant() -> None:
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
    event = {"type": "response.output_item.done", "output_index": 0, "sequence_number": 3}

    check_stream_event({**event, "item": {**item, "content": []}})
    with pytest.raises(AssertionError, match='item: "content" is a required property'):
        check_stream_event({**event, "item": item})


def test_the_route_and_the_status_pick_the_schema() -> None:
    check_answer("GET", "/v1/models", 200, b'{"object": "list", "data": []}')
    with pytest.raises(AssertionError, match="ErrorResponse"):
        check_answer("GET", "/v1/models", 404, b'{"detail": "Not Found"}')
    with pytest.raises(AssertionError, match="CreateChatCompletionStreamResponse"):
        check_answer("POST", "/v1/chat/completions", 200, b'data: {"choices": []}\n\n')


async def test_a_wrong_answer_fails_the_test_that_met_it(tmp_path: Path) -> None:
    async def wrong(_: Request) -> JSONResponse:
        return JSONResponse({"object": "list"})

    async def met() -> None:
        async with serving(tmp_path) as runtime:
            runtime.app.router.routes.insert(0, Route("/v1/models", wrong))
            await runtime.get("/v1/models")

    with pytest.raises(AssertionError, match=r'GET /v1/models 200: .*"data" is a required'):
        await met()
