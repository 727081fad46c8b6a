"""`/v1/models` with the official SDK."""

from typing import Any

import openai
import pytest

from tests.e2e.server import Served


async def test_a_model_says_what_it_is_and_what_can_be_asked_of_it(runtime: Served) -> None:
    await runtime.publish(
        name="Sales",
        description="Sells.",
        template_id="task-agent",
        template_config={"steps": [{"name": "one", "instruction": "Do it."}]},
    )
    listed = runtime.openai.models.list()
    models: dict[str, Any] = {model.id: model.to_dict() async for model in listed}

    assert models.keys() == {"assistant", "sales"}
    sales = models["sales"]
    assert sales["owned_by"] == "local"
    assert (sales["description"], sales["agent_type"], sales["version"]) == ("Sells.", "task", "v1")
    assert sales["template"] == "task-agent@1.0.0"
    assert sales["capabilities"] == {
        "streaming": True,
        "tools": False,
        "structured_output": True,
        "logprobs": True,
        "stop": True,
    }
    assert models["assistant"]["capabilities"]["tools"] is True


async def test_it_is_retrieved_by_every_form_that_a_call_takes(runtime: Served) -> None:
    made = await runtime.publish(name="Sales", template_id="langgraph-simple-test")
    draft = await runtime.post(f"/v1/agents/{made['id']}/versions", {}, status=201)

    for reference, agent in (
        ("sales", made),
        ("sales@v1", made),
        (made["id"], made),
        ("sales@v2", draft),
        ("sales@draft", draft),
        (draft["id"], draft),
    ):
        model = await runtime.openai.models.retrieve(reference)
        assert model.id == reference
        assert model.to_dict()["agent_id"] == agent["id"]
        assert await runtime.ask(reference)
    for path in ("sales%40v1", "sales@v1"):
        assert (await runtime.get(f"/v1/models/{path}"))["id"] == "sales@v1"


async def test_what_is_no_model_is_not_found_whatever_it_looks_like(runtime: Served) -> None:
    for name in ("nobody", "some/one", "a/b/c"):
        with pytest.raises(openai.NotFoundError) as error:
            await runtime.openai.models.retrieve(name)
        assert error.value.code == "model_not_found"


async def test_a_model_is_not_deleted_here(runtime: Served) -> None:
    with pytest.raises(openai.APIStatusError) as error:
        await runtime.openai.models.delete("assistant")

    assert (error.value.status_code, error.value.code) == (405, "method_not_allowed")
    assert error.value.response.headers["allow"] == "GET, HEAD"
    assert await runtime.ask("assistant")
