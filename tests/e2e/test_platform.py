"""The platform backend's view: schema, health, OpenAPI, bodies in its own words."""

from typing import Any

from tests.e2e.server import Served

BUILT_IN = {
    "langgraph-simple-test",
    "customer-service-bot",
    "task-agent",
    "react-agent",
    "workflow-agent",
    "custom-agent",
}


async def test_the_schema_offers_every_template_in_both_shapes(runtime: Served) -> None:
    schema = await runtime.get("/v1/schema")
    templates = {each["template_id"]: each for each in schema["supportedAgentTemplates"]}

    assert templates.keys() >= BUILT_IN
    assert schema["capabilities"]["streaming"] is True
    assert schema["limits"]["maxConcurrentAgents"] >= 100
    for template in templates.values():
        shapes = template["configSchema"]
        fields = [f["id"] for section in shapes["sections"] for f in section["fields"]]
        assert sorted(fields) == sorted(shapes["jsonSchema"]["properties"])
        for section in shapes["sections"]:
            for field in section["fields"]:
                assert field["type"] in (
                    "checkbox",
                    "number",
                    "text",
                    "textarea",
                    "select",
                    "list",
                    "object",
                )
                assert field["label"]
                assert field["description"]


async def test_a_schema_version_that_does_not_fit_is_refused(runtime: Served) -> None:
    for version, status in (("1.0.0", 200), ("1", 200), ("2.0.0", 409), ("0.9", 409), ("x", 400)):
        response = await runtime.http.get("/v1/schema", headers={"X-Schema-Version": version})
        assert response.status_code == status, version
    refused = (await runtime.http.get("/v1/schema", headers={"X-Schema-Version": "2.0.0"})).json()
    assert refused["error"] == "VERSION_MISMATCH"
    assert refused["details"]["current_version"] == "1.0.0"
    assert refused["details"]["required_version"] == "2.0.0"
    assert refused["details"]["breaking_changes"] == []


async def test_health_tells_the_true_state_of_every_part(runtime: Served) -> None:
    await runtime.ask("assistant")
    await runtime.get("/v1/runs")
    health = await runtime.get("/v1/health")

    assert health["status"] == "healthy"
    assert health["uptime_seconds"] > 0
    assert health["checks"].keys() == {"llm_proxy", "database", "agent_templates"}
    for check in health["checks"].values():
        assert check.keys() == {"status", "response_time_ms", "last_check"}
    assert health["metrics"]["total_executions"] == 1
    assert health["metrics"]["active_agents"] == 1
    assert health["metrics"]["error_rate"] == 0


async def test_an_agent_is_created_changed_and_deleted_in_the_platform_s_words(
    runtime: Served,
) -> None:
    created = await runtime.create(
        id="6650f1",
        agent_line_id="line-77",
        name="客服助手",
        type="conversation",
        template_id="customer-service-bot",
        template_config={"company_name": "Acme"},
        system_prompt="Be brief.",
        conversation_config={"continuous": True, "historyLength": 12},
        owner_id="ann",
        version_type="release",
        version_number="v3",
        status="pending",
    )
    assert created["success"] is True
    assert created["agent_id"] == created["id"] == "6650f1"
    assert created["validation_results"] == {"valid": True, "warnings": []}
    assert (created["status"], created["version_number"]) == ("submitted", "v3")
    assert created["template_config"]["history_messages"] == 12
    assert created["template_config"]["system_prompt"] == "Be brief."

    again = {"id": "6650f1", "name": "x", "template_id": "customer-service-bot"}
    assert (await runtime.post("/v1/agents", again, status=409))["error"] == "CONFLICT"

    await runtime.post("/v1/agents/6650f1/approve")
    assert "[demo]" in await runtime.ask("6650f1")
    assert "[demo]" in await runtime.ask("客服助手@v3")

    deleted = (await runtime.http.delete("/v1/agents/6650f1")).json()
    assert (deleted["success"], deleted["agent_id"]) == (True, "6650f1")
    assert (await runtime.get("/v1/agents/6650f1", status=404))["error"] == "AGENT_NOT_FOUND"
    assert (await runtime.http.get("/v1/models/6650f1")).status_code == 404


async def test_a_change_needs_the_state_that_was_read(runtime: Served) -> None:
    agent = await runtime.create(name="Bot", template_id="langgraph-simple-test")
    path = f"/v1/agents/{agent['id']}"

    async def put(body: dict[str, Any], etag: str) -> int:
        answer = await runtime.http.put(path, json=body, headers={"If-Match": etag})
        return answer.status_code

    assert await put({"description": "a"}, agent["etag"]) == 200
    assert await put({"description": "b"}, agent["etag"]) == 412
    assert await put({"description": "c"}, "*") == 200
    assert (await runtime.get(path))["description"] == "c"


async def test_lists_are_filtered_and_paged(runtime: Served) -> None:
    for number in range(5):
        await runtime.create(name=f"Bot {number}", template_id="langgraph-simple-test")
    await runtime.create(name="Other", template_id="react-agent")

    seen: list[str] = []
    after = ""
    while True:
        page = await runtime.get(f"/v1/agents?template_id=langgraph-simple-test&limit=2{after}")
        seen += [agent["name"] for agent in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['next_cursor']}"
    assert seen == [f"Bot {number}" for number in reversed(range(5))]
    assert len((await runtime.get("/v1/agents?q=OTH"))["data"]) == 1
    assert len((await runtime.get("/v1/agents?status=published"))["data"]) == 1


async def test_a_configuration_is_checked_without_storing_it(runtime: Served) -> None:
    path = "/v1/templates/react-agent/validate"
    good = await runtime.post(path, {"template_config": {"tools": ["calculator"]}})
    assert good["valid"]
    assert good["template_config"]["max_iterations"] > 0

    bad = await runtime.post(
        path, {"template_config": {"tools": ["calculator", "rm"], "max_iterations": 8}}
    )
    assert not bad["valid"]
    assert bad["errors"][0]["path"] == "tools.1"
    assert "calculator" in bad["errors"][0]["allowed"]


async def test_every_route_is_described_with_examples_and_refusals(runtime: Served) -> None:
    spec = await runtime.get("/openapi.json")
    assert (await runtime.http.get("/docs")).status_code == 200

    for path, operations in spec["paths"].items():
        for method, operation in operations.items():
            where = (method, path)
            assert operation.get("summary"), where
            if path.startswith("/v1"):
                assert "401" in operation["responses"], where
            body = operation.get("requestBody")
            if body:
                (content,) = body["content"].values()
                assert _has_example(spec, content["schema"]), where


def _has_example(spec: dict[str, Any], schema: dict[str, Any]) -> bool:
    options = [schema, *schema.get("anyOf", [])]
    for option in options:
        name = option.get("$ref", "").rpartition("/")[2]
        found = spec["components"]["schemas"].get(name, option)
        properties = found.get("properties", {}).values()
        if "examples" in found or any("examples" in each for each in properties):
            return True
    return False
