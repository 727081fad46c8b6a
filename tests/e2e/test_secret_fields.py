"""Secrets in an agent's configuration: written, used, never shown, on both databases."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from runtime.infrastructure.database import create_engine
from runtime.infrastructure.repositories.secrets import Rotated, rotate
from runtime.infrastructure.secrets import SecretBox
from tests import secret_template
from tests.e2e.server import Served, serving
from tests.secret_template import fingerprints

OLD_KEY, NEW_KEY = "the-old-key-of-the-runtime", "the-new-key-of-the-runtime"
SECRET, OTHER, THIRD = "canary-of-a-secret", "another-canary-secret", "a-third-canary-secret"


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("fresh_postgres_url"))
    return f"sqlite:///{tmp_path / 'runtime.db'}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return secret_template.write(tmp_path / "templates")


@pytest.fixture
async def runtime(tmp_path: Path, folder: Path, database: str) -> AsyncIterator[Served]:
    async with serving(
        tmp_path, template_dirs=[folder], database_url=database, secret_key=OLD_KEY
    ) as served:
        yield served


async def keeper(runtime: Served, **config: object) -> dict[str, Any]:
    return await runtime.publish(
        name="Keeper", template_id="keeper", template_config={"api_key": SECRET, **config}
    )


async def stored(database: str) -> str:
    """Everything in the tables that hold configurations."""
    engine = create_engine(database)
    async with engine.connect() as connection:
        rows = [
            (await connection.execute(text(f"SELECT * FROM {table}"))).all()
            for table in ("agents", "audit", "agent_lines", "runs")
        ]
    await engine.dispose()
    return str(rows)


async def test_a_secret_is_used_and_never_shown(runtime: Served, database: str) -> None:
    created = await keeper(runtime, spare=OTHER)
    path = f"/v1/agents/{created['id']}"
    answers = [
        created,
        await runtime.get(path),
        await runtime.get("/v1/agents"),
        await runtime.get(f"{path}/versions"),
        await runtime.get(f"{path}/audit"),
        await runtime.post(f"{path}/versions", {}, status=201),
        await runtime.get(f"{path}/diff?against=v2"),
    ]

    assert created["template_config"]["api_key"] == created["template_config"]["spare"] == "***"
    assert await runtime.ask("keeper") == fingerprints(SECRET)
    for text_ in (json.dumps(answers), await stored(database)):
        assert SECRET not in text_
        assert OTHER not in text_


async def test_a_mask_that_is_sent_back_keeps_the_secret(runtime: Served) -> None:
    created = await runtime.create(
        name="Keeper", template_id="keeper", template_config={"api_key": SECRET}
    )
    path = f"/v1/agents/{created['id']}"
    shown = created["template_config"]
    put = await runtime.http.put(path, json={"template_config": {**shown, "tone": "warm"}})
    patch = await runtime.http.patch(path, json={"template_config": {"tone": "dry"}})

    assert put.json()["template_config"]["tone"] == "warm"
    assert patch.json()["content_hash"] == created["content_hash"]
    await runtime.post(f"{path}/submit")
    await runtime.post(f"{path}/approve", {"content_hash": created["content_hash"]})
    assert await runtime.ask("keeper") == fingerprints(SECRET)


async def test_another_secret_is_another_content_and_shows_as_changed(runtime: Served) -> None:
    created = await keeper(runtime)
    path = f"/v1/agents/{created['id']}/versions"
    same = await runtime.post(path, {"template_config": {"api_key": SECRET}}, status=201)
    other = await runtime.post(path, {"template_config": {"api_key": OTHER}}, status=201)
    difference = await runtime.get(f"/v1/agents/{other['id']}/diff?against=v1")
    unchanged = await runtime.get(f"/v1/agents/{same['id']}/diff?against=v1")

    assert created["content_hash"] == same["content_hash"] != other["content_hash"]
    assert unchanged["changes"] == []
    (change,) = difference["changes"]
    assert (change["path"], change["label"]) == ("template_config.api_key", "The key")
    assert (change["before"], change["after"]) == ("***", "***")


async def test_a_rollback_brings_the_secret_back(runtime: Served) -> None:
    first = await keeper(runtime)
    second = await runtime.post(
        f"/v1/agents/{first['id']}/versions", {"template_config": {"api_key": OTHER}}, status=201
    )
    await runtime.post(f"/v1/agents/{second['id']}/submit")
    await runtime.post(f"/v1/agents/{second['id']}/approve")
    assert await runtime.ask("keeper") == fingerprints(OTHER)

    await runtime.post(f"/v1/agents/{second['id']}/rollback")
    assert await runtime.ask("keeper") == fingerprints(SECRET)
    assert await runtime.ask("keeper@v1") == fingerprints(SECRET)


async def test_a_migration_takes_the_secret_to_its_new_field(runtime: Served, folder: Path) -> None:
    created = await keeper(runtime)
    secret_template.write(folder, "2.0.0", "token")
    await runtime.until(lambda t: "2.0.0" in t["versions"], "/v1/templates/keeper")
    migrated = await runtime.post(
        f"/v1/agents/{created['id']}/versions",
        {"template_version_id": "2.0.0", "template_config": {"token": "***"}},
        status=201,
    )
    await runtime.post(f"/v1/agents/{migrated['id']}/submit")
    await runtime.post(f"/v1/agents/{migrated['id']}/approve")

    assert migrated["template_config"]["token"] == "***"
    assert "api_key" not in migrated["template_config"]
    assert await runtime.ask("keeper") == fingerprints(SECRET)


async def test_secrets_in_a_list_stay_with_their_entries(runtime: Served) -> None:
    created = await keeper(
        runtime,
        endpoints=[
            {"url": "https://a.test", "key": OTHER},
            {"url": "https://b.test", "key": THIRD},
        ],
    )
    path = f"/v1/agents/{created['id']}/versions"
    shown = created["template_config"]["endpoints"]
    assert [each["key"] for each in shown] == ["***", "***"]

    turned = await runtime.post(path, {"template_config": {"endpoints": shown[::-1]}}, status=201)
    assert await runtime.ask(turned["model"].replace("@v2", "@draft")) == fingerprints(
        SECRET, THIRD, OTHER
    )

    stolen = [{**shown[0], "url": "https://evil.test"}, shown[1]]
    refused = await runtime.post(path, {"template_config": {"endpoints": stolen}}, status=422)
    assert refused["details"]["errors"][0]["path"] == "endpoints.0.key"


@pytest.mark.parametrize("sent", [{"api_key": "***"}, {"api_key": SECRET, "spare": "***"}])
async def test_a_mask_without_a_stored_secret_is_refused(
    runtime: Served, sent: dict[str, str]
) -> None:
    body = {"name": "Keeper", "template_id": "keeper", "template_config": sent}
    await runtime.post("/v1/agents", body, status=422)


async def test_a_refusal_does_not_repeat_the_secret(runtime: Served) -> None:
    for config in ({"api_key": f"{SECRET} with a blank"}, {"api_key": SECRET, "spare": [SECRET]}):
        body = {"name": "Keeper", "template_id": "keeper", "template_config": config}
        refused = await runtime.post("/v1/agents", body, status=422)
        checked = await runtime.post("/v1/templates/keeper/validate", {"template_config": config})
        assert SECRET not in json.dumps([refused, checked])


async def test_checking_a_configuration_shows_no_secret(runtime: Served) -> None:
    checked = await runtime.post(
        "/v1/templates/keeper/validate", {"template_config": {"api_key": SECRET}}
    )
    assert checked["template_config"]["api_key"] == "***"


async def test_the_form_asks_for_a_password(runtime: Served) -> None:
    template = await runtime.get("/v1/templates/keeper")
    fields = {field["id"]: field for field in template["sections"][0]["fields"]}

    assert (fields["api_key"]["type"], fields["api_key"]["widget"]) == ("text", "password")
    assert (fields["spare"]["widget"], fields["tone"]["widget"]) == ("password", None)
    assert template["configSchema"]["properties"]["api_key"]["writeOnly"] is True


async def test_rotation_takes_every_secret_to_the_new_key(
    runtime: Served, database: str, tmp_path: Path, folder: Path
) -> None:
    created = await keeper(runtime, spare=OTHER)
    await runtime.post(f"/v1/agents/{created['id']}/versions", {}, status=201)
    old, new = OLD_KEY.encode(), NEW_KEY.encode()
    engine = create_engine(database)
    without = await rotate(engine, SecretBox(new))
    first = await rotate(engine, SecretBox(new, [old]))
    again = await rotate(engine, SecretBox(new, [old]))
    await engine.dispose()

    assert without == Rotated(unreadable=4)
    assert first == Rotated(renewed=4)
    assert again == Rotated(current=4)
    async with serving(
        tmp_path, template_dirs=[folder], database_url=database, secret_key=NEW_KEY
    ) as after:
        agent = await after.get(f"/v1/agents/{created['id']}")
        assert (agent["etag"], agent["content_hash"]) == (created["etag"], created["content_hash"])
        assert await after.ask("keeper") == fingerprints(SECRET)


async def test_under_another_key_a_secret_has_to_be_written_again(
    runtime: Served, database: str, tmp_path: Path, folder: Path
) -> None:
    created = await keeper(runtime)
    async with serving(
        tmp_path, template_dirs=[folder], database_url=database, secret_key=NEW_KEY
    ) as lost:
        body = {"model": "keeper", "messages": [{"role": "user", "content": "Hi"}]}
        failed = await lost.post("/v1/chat/completions", body, status=500)
        path = f"/v1/agents/{created['id']}/versions"
        await lost.post(path, {"template_config": {"tone": "warm"}}, status=422)
        await lost.post(path, {"template_config": {"api_key": OTHER}}, status=201)

        assert failed["error"]["code"] == "secret_unreadable"
        assert await lost.ask("keeper@draft") == fingerprints(OTHER)


async def test_a_secret_moved_to_another_row_does_not_open(runtime: Served, database: str) -> None:
    await keeper(runtime)
    await runtime.publish(
        name="Thief", template_id="keeper", template_config={"api_key": "the-key-of-a-thief"}
    )
    engine = create_engine(database)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE agents SET secrets = (SELECT secrets FROM agents WHERE slug = 'keeper') "
                "WHERE slug = 'thief'"
            )
        )
    await engine.dispose()

    body = {"model": "thief", "messages": [{"role": "user", "content": "Hi"}]}
    failed = await runtime.post("/v1/chat/completions", body, status=500)
    assert failed["error"]["code"] == "secret_unreadable"
