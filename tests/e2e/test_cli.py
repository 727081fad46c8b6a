"""The command as people type it: a process of its own, against a runtime that it started."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from runtime import __version__
from runtime.cli.failures import Failure
from runtime.cli.scaffold import Scaffold
from runtime.infrastructure.frameworks.discovery import TemplateFolder
from runtime.infrastructure.frameworks.registry import TemplateRegistry
from runtime.infrastructure.tools.service import BuiltinTools
from tests.fakes_models import ScriptedModels, asks, events_of, made, says, text_of
from tests.scripted import saying, scripted, streaming

COMMAND = str(Path(sys.executable).with_name("agent-runtime"))
PATHS = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
TOKEN = "a-token-that-nobody-guesses"

SUPPORT = """\
name: Support
template_id: customer-service-bot
template_config:
  company_name: Acme
"""


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever was printed
        return json.loads(self.out)


@dataclass
class Shell:
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [COMMAND, *arguments],
            cwd=self.folder,
            env={**PATHS, **self.environment, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, typed: str = "", **variables: str) -> Outcome:
        with self.start(*arguments, **variables) as process:
            out, err = process.communicate(typed, timeout=30)
        return Outcome(process.returncode, out, err)

    def done(self, *arguments: str, typed: str = "", **variables: str) -> Outcome:
        outcome = self.run(*arguments, typed=typed, **variables)
        assert outcome.code == 0, outcome.err
        return outcome

    def refused(self, *arguments: str, code: int = 1, typed: str = "", **variables: str) -> str:
        outcome = self.run(*arguments, typed=typed, **variables)
        assert outcome.code == code, outcome
        assert "Traceback" not in outcome.err
        return outcome.err


@dataclass
class Serving:
    process: "subprocess.Popen[str]"
    url: str

    def stopped(self) -> str:
        """What it logged, once it has ended by itself after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        return log


def serving(shell: Shell, **variables: str) -> Serving:
    process = shell.start("serve", "--port", "0", **variables)
    assert process.stdout
    ready = process.stdout.readline()
    if not ready:
        raise AssertionError(process.communicate()[1])
    assert ready.startswith("Agent runtime is ready on http://127.0.0.1:")
    return Serving(process, ready.split()[5])


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell beside a running runtime; tests make agents of names of their own."""
    shell = Shell(tmp_path_factory.mktemp("cli"), {"RUNTIME_TEMPLATE_DIRS": "mine"})
    served = serving(shell)
    shell.environment["RUNTIME_URL"] = served.url
    yield shell
    served.stopped()


def test_help_imports_no_framework() -> None:
    loaded = "import sys; from runtime.cli import main; print(*sys.modules)"

    shown = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True)

    heavy = {"fastapi", "langgraph", "pydantic", "sqlalchemy", "uvicorn", "yaml", "aiohttp"}
    heavy |= {"opentelemetry", "prometheus_client"}
    assert not heavy & set(shown.stdout.split())


def test_it_says_its_version_and_lists_its_commands(shell: Shell) -> None:
    assert shell.done("--version").out == f"agent-runtime {__version__}\n"
    commands = {
        "serve",
        "config",
        "agents",
        "templates",
        "keys",
        "limits",
        "prices",
        "db",
        "providers",
        "runs",
        "schedules",
        "webhooks",
    }
    assert commands <= set(shell.done("--help").out.split())


# serve


def test_without_a_credential_only_loopback_is_served(shell: Shell) -> None:
    error = shell.refused("serve", "--host", "0.0.0.0", code=2)

    assert "0.0.0.0 is not loopback" in error
    assert "agent-runtime keys create me --role admin" in error
    assert "or set RUNTIME_TOKEN, in the environment, in .env or as `token` in" in error


def test_bad_settings_are_listed_without_their_values(shell: Shell) -> None:
    error = shell.refused("serve", code=2, RUNTIME_TOKEN="hunter2", RUNTIME_PORT="many")

    assert "RUNTIME_TOKEN: must have at least 8 characters" in error
    assert "RUNTIME_PORT: Input should be a valid integer" in error
    assert "hunter2" not in error
    assert "many" not in error


def test_a_port_in_use_is_named(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        error = shell.refused("serve", "--port", str(port))

    assert error.startswith(f"Error: Port {port} on 127.0.0.1 is in use.")


def test_a_database_out_of_reach_is_told_without_its_password(shell: Shell) -> None:
    url = "postgresql://me:hunter2@127.0.0.1:1/x"

    error = shell.refused("serve", "--port", "0", RUNTIME_DATABASE_URL=url)

    assert "Error: The database can't be used:" in error
    assert "hunter2" not in error


def test_an_ordered_stop_lets_the_running_answer_finish(shell: Shell) -> None:
    shell.environment["RUNTIME_TOKEN"] = TOKEN
    served = serving(shell, RUNTIME_DEMO_TOKEN_DELAY_MS="20")
    refusal = shell.refused("agents", "list", "--url", served.url, "--token", "x")
    chat = shell.start("agents", "chat", "assistant", "Hello", "--url", served.url)
    assert chat.stdout
    begun = chat.stdout.read(3)

    log = served.stopped()

    answer, _ = chat.communicate(timeout=30)
    assert chat.returncode == 0
    assert "“Hello”" in begun + answer
    assert refusal == (
        "Error: The token is not valid. The command line takes it from RUNTIME_TOKEN or --token.\n"
    )
    entries = [json.loads(line) for line in log.splitlines()]
    requests = [entry for entry in entries if entry["event"] == "request"]
    assert [entry["status"] for entry in requests] == [401, 200]
    assert all(entry["request_id"] and entry["timestamp"].endswith("Z") for entry in requests)
    assert TOKEN not in log


def test_an_answer_that_outlasts_the_grace_period_is_seen_to_be_broken_off(shell: Shell) -> None:
    served = serving(shell, RUNTIME_DEMO_TOKEN_DELAY_MS="500", RUNTIME_GRACE_S="0")
    chat = shell.start("agents", "chat", "assistant", "Hello", "--url", served.url)
    assert chat.stdout
    chat.stdout.read(1)

    log = served.stopped()

    _, error = chat.communicate(timeout=30)
    assert chat.returncode == 1
    assert error.startswith("Error: ")
    assert "Traceback" not in log


# config, db


def test_the_settings_are_shown_with_their_secrets_masked(shell: Shell) -> None:
    (shell.folder / ".env").write_text(f"RUNTIME_TOKEN={TOKEN}\nOPENAI_API_KEY=sk-secret\n")
    (shell.folder / "runtime.toml").write_text("port = 9000\n")

    shown = shell.done("config", RUNTIME_PROT="1")

    assert shown.json["RUNTIME_TOKEN"] == shown.json["OPENAI_API_KEY"] == "***"
    assert shown.json["RUNTIME_PORT"] == 9000
    assert shown.err == "Warning: RUNTIME_PROT is not a setting; did you mean RUNTIME_PORT?\n"


def test_the_schema_can_be_upgraded_ahead_of_the_start(shell: Shell) -> None:
    before = shell.done("db", "current").out
    assert not (shell.folder / "var").exists()

    upgraded = shell.done("db", "upgrade").out

    assert before.startswith("The schema is at nothing yet;")
    assert before.endswith("Run `agent-runtime db upgrade`.\n")
    version = upgraded.removeprefix("The schema is at ").removesuffix(".\n")
    assert shell.done("db", "current").out == f"The schema is at {version}; {version} is needed.\n"


# agents


def test_an_agent_lives_from_a_yaml_file_to_its_rollback(runtime: Shell) -> None:
    (runtime.folder / "support.yaml").write_text(SUPPORT)

    created = runtime.done("agents", "create", "support.yaml")
    assert created.out.startswith("support@v1 is draft.")
    assert "Next: agent-runtime agents submit support\n" in created.out
    assert runtime.done("agents", "submit", "support").out.startswith("support@v1 is submitted.")
    assert runtime.done("agents", "approve", "support").out.startswith("support@v1 is published.")

    second = runtime.done("agents", "update", "support", "--set", "template_config.tone=concise")
    assert second.out.startswith("support@v2 is draft.")
    again = runtime.done("agents", "update", "support", "--set", "description=Short answers.")
    assert again.out.startswith("support@v2 is draft.")
    changes = runtime.done("agents", "diff", "support").out
    assert changes.startswith("support: v1 (published) → v2 (draft)\n")
    assert ["template_config.tone", "friendly", "concise"] in [
        line.split() for line in changes.splitlines()
    ]

    runtime.done("agents", "submit", "support")
    rejected = runtime.done("agents", "reject", "support", "--reason", "Too short.", "--json")
    assert (rejected.json["status"], rejected.json["rejection_reason"]) == ("draft", "Too short.")
    runtime.done("agents", "submit", "support")
    runtime.done("agents", "approve", "support")
    back = runtime.done("agents", "rollback", "support")
    assert back.out.startswith("support@v1 is published.")

    versions = runtime.done("agents", "versions", "support", "--json").json
    assert [(each["model"], each["status"]) for each in versions] == [
        ("support@v2", "superseded"),
        ("support@v1", "published"),
    ]


def test_a_list_from_standard_input_is_published_at_once(runtime: Shell) -> None:
    simple = {"template_id": "langgraph-simple-test"}
    wanted = [{"name": "One", **simple}, {"name": "Two", **simple, "slug": "zwei"}]

    made = runtime.done("agents", "create", "-", "--publish", "--json", typed=json.dumps(wanted))

    assert [(each["model"], each["status"]) for each in made.json] == [
        ("one@v1", "published"),
        ("zwei@v1", "published"),
    ]
    listed = runtime.done("agents", "list", "--status", "published").out
    assert "one@v1" in listed
    assert "zwei@v1" in listed
    shown = runtime.done("agents", "show", "zwei", "--json").json
    assert shown["template_config"]["system_prompt"] == "You are a helpful assistant."


def test_a_wrong_field_is_named_and_nothing_is_made(runtime: Shell) -> None:
    wrong = SUPPORT.replace("Support", "Wrong") + "  tone: loud\n  colour: red\n"

    error = runtime.refused("agents", "create", "-", typed=wrong)

    assert "tone: " in error
    assert "It takes one of friendly, professional, concise, empathetic." in error
    assert "colour: " in error
    assert "does not exist" in runtime.refused("agents", "show", "wrong")


def test_a_file_that_can_not_be_parsed_is_named_with_its_line(runtime: Shell) -> None:
    (runtime.folder / "odd.yaml").write_text("name: x\n  y: [\n")

    assert "odd.yaml, line 2 is neither JSON nor YAML" in runtime.refused(
        "agents", "create", "odd.yaml"
    )
    assert "nowhere.yaml can't be read" in runtime.refused("agents", "create", "nowhere.yaml")


def test_deleting_needs_a_version_and_a_yes(runtime: Shell) -> None:
    body = {"name": "Gone", "template_id": "langgraph-simple-test"}
    runtime.done("agents", "create", "-", "--publish", typed=json.dumps(body))
    runtime.done("agents", "update", "gone", "--set", "description=x")

    assert "'gone' has several versions" in runtime.refused("agents", "delete", "gone", "--yes")
    runtime.refused("agents", "delete", "gone@v2", typed="n\n")
    assert runtime.done("agents", "delete", "gone@v2", typed="y\n").out.endswith("is deleted.\n")
    revoked = runtime.done("agents", "revoke", "gone", "--yes", "--json").json
    assert revoked["status"] == "revoked"


def test_where_nothing_listens_it_says_how_to_start_a_runtime(shell: Shell) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        error = shell.refused("agents", "list", "--url", url)

    assert error == (
        f"Error: No runtime answers at {url} (Connection refused); "
        "start it with `agent-runtime serve`.\n"
    )


# chat


def test_a_conversation_through_a_pipe_keeps_its_history(runtime: Shell) -> None:
    said = runtime.done("agents", "chat", "assistant", typed="Hi\n\nStill there?\nexit\nlost\n")

    first, second = said.out.splitlines()
    assert "“Hi”" in first
    assert "turn 1" in first
    assert "“Still there?”" in second
    assert "turn 2" in second


def test_an_unknown_agent_is_refused_in_the_words_of_the_api(runtime: Shell) -> None:
    error = runtime.refused("agents", "chat", "nobody", "Hello")

    assert error.startswith("Error: The model 'nobody' does not exist")


@dataclass
class Upstream:
    """Says one piece, waits until it is told to go on, and ends as it was asked to."""

    url: str
    go_on: Event


@pytest.fixture
def slow(request: pytest.FixtureRequest) -> Iterator[Upstream]:
    go_on = Event()
    ending: bytes = request.param

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b': waiting\n\ndata: {"choices":[{"delta":{"content":"Hel"}}]}\n\n')
            self.wfile.flush()
            go_on.wait(30)
            self.wfile.write(ending)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield Upstream(f"http://127.0.0.1:{server.server_address[1]}", go_on)
        go_on.set()
        server.shutdown()
        thread.join()


REST = b'data: {"choices":[{"delta":{"content":"lo"}}]}\n\n'
FAULT = b'data: {"error":{"message":"The provider failed."}}\n\n'


@pytest.mark.parametrize(
    ("slow", "code", "rest", "error"),
    [
        (REST + b"data: [DONE]\n\n", 0, "lo\n", ""),
        (REST, 1, "lo\n", "Error: The answer broke off: the connection was lost.\n"),
        (FAULT, 1, "\n", "Error: The provider failed.\n"),
    ],
    indirect=["slow"],
    ids=["whole", "cut", "failed"],
)
def test_an_answer_is_shown_while_it_is_made(
    shell: Shell, slow: Upstream, code: int, rest: str, error: str
) -> None:
    with shell.start("agents", "chat", "any", "Hi", "--url", slow.url) as chat:
        assert chat.stdout
        assert chat.stdout.read(3) == "Hel"

        slow.go_on.set()

        assert chat.communicate(timeout=30) == (rest, error)
    assert chat.returncode == code


# templates


def test_the_templates_and_their_blanks_are_shown(runtime: Shell) -> None:
    assert "customer-service-bot" in runtime.done("templates", "list").out

    blanks = runtime.done("templates", "show", "customer-service-bot", "--version", "1.0.0").out

    assert "friendly | professional | concise | empathetic" in blanks
    assert "number, at least 1, at most 1000" in blanks


def test_a_new_template_works_as_it_is_written(runtime: Shell) -> None:
    told = runtime.done("templates", "new", "Travel guide").out
    path = runtime.folder / "mine" / "travel_guide.py"
    assert str(path.relative_to(runtime.folder)) in told
    assert "already there" in runtime.refused("templates", "new", "travel-guide")

    for _ in range(50):  # The watcher has it in a moment.
        if "travel-guide" in runtime.done("templates", "list").out:
            break
    agent = {"name": "Guide", "template_id": "travel-guide", "template_config": {"sentences": 2}}
    runtime.done("agents", "create", "-", "--publish", typed=json.dumps(agent))

    assert "“Lisbon?”" in runtime.done("agents", "chat", "guide", "Lisbon?").out


async def test_a_new_template_answers_in_its_own_words(tmp_path: Path) -> None:
    registry = TemplateRegistry(BuiltinTools())
    Scaffold.of("LangGraph state").write(tmp_path)
    TemplateFolder(tmp_path, registry).sync()
    template = registry.entry(registry.get("langgraph-state").ref).template
    models = ScriptedModels(says("Hel", "lo"))

    events = await events_of(made(template, models, role="a pirate"), asks("Hi"))

    assert text_of(events) == "Hello"
    assert models.prompt(0) == "You are a pirate. Use at most 3 sentences.\nHi"


@pytest.mark.parametrize(
    ("name", "id", "file", "kind"),
    [
        ("Travel guide", "travel-guide", "travel_guide.py", "TravelGuideAgent"),
        ("HTTP Agent!", "http-agent", "http_agent.py", "HTTPAgent"),
        ("none", "none", "none.py", "NoneAgent"),
        ("Größe 2", "größe-2", "größe_2.py", "Größe2Agent"),
    ],
)
def test_a_templates_names_follow_from_the_one_that_people_read(
    name: str, id: str, file: str, kind: str
) -> None:
    scaffold = Scaffold.of(name)

    assert (scaffold.template_id, scaffold.file_name, scaffold.class_name) == (id, file, kind)


@pytest.mark.parametrize("name", ["", "!!", "3d printer", "x" * 65, "²"])
def test_what_can_name_no_class_is_refused(name: str) -> None:
    with pytest.raises(Failure, match="begins with a letter"):
        Scaffold.of(name)


# limits and prices


def test_limits_are_set_shown_and_removed(runtime: Shell) -> None:
    options = ("--requests", "1000", "--budget-usd", "2.5", "--period", "day")
    made = runtime.done("limits", "set", "agent", "assistant", *options, "--json").json
    listed = runtime.done("limits", "list", "--json").json
    table = runtime.done("limits", "list").out
    shown = runtime.done("limits", "show", "agent", "assistant", "--json").json

    assert (made["requests_per_minute"], made["tokens_per_minute"]) == (1_000, None)
    assert made["budget"]["cost_usd"] == 2.5
    assert [limits["id"] for limits in listed] == [made["id"]] == [shown["id"]]
    assert "2.5 USD a day" in table
    assert "0.0 USD" in table
    runtime.done("limits", "remove", "agent", "assistant")
    assert "no limit for the agent" in runtime.refused("limits", "show", "agent", "assistant")
    assert runtime.done("limits", "list").out == "No limit.\n"
    assert "at least one limit" in runtime.refused("limits", "set", "agent", "assistant")


def test_prices_are_imported_and_removed(runtime: Shell) -> None:
    prices = runtime.folder / "prices.toml"
    prices.write_text('["acme/small*"]\ninput = 0.5\noutput = 1\n', encoding="utf-8")
    runtime.done("prices", "import", "prices.toml")
    runtime.done("prices", "set", "acme/vision/large", "--input", "1", "--output", "2")
    listed = runtime.done("prices", "list", "--json").json
    runtime.done("prices", "remove", "acme/vision/large")

    assert [price["model"] for price in listed] == ["acme/vision/large", "acme/small*"]
    assert listed[1]["cached_input"] == 0.5
    assert "acme/small*" in runtime.done("prices", "list").out
    assert "has no price" in runtime.refused("prices", "remove", "acme/vision/large")
    prices.write_text("input = 1", encoding="utf-8")
    assert "for each model" in runtime.refused("prices", "import", "prices.toml")
    prices.write_text("[[", encoding="utf-8")
    assert "neither JSON nor TOML" in runtime.refused("prices", "import", "prices.toml")
    prices.write_text('["acme/x"]\ninput = 1\n', encoding="utf-8")
    assert "acme/x: output: Field required" in runtime.refused("prices", "import", "prices.toml")


def test_usage_is_shown_by_day(runtime: Shell) -> None:
    runtime.done("agents", "chat", "assistant", "Hello")
    (day,) = runtime.done("limits", "usage", "--json").json

    assert day["runs"] >= 1
    assert day["day"] in runtime.done("limits", "usage", "--by", "agent").out
    assert "--by" in runtime.refused("limits", "usage", "--by", "user", code=2)


# memories


def test_what_is_remembered_is_found_and_forgotten(runtime: Shell) -> None:
    tea = runtime.done("memories", "add", "Drinks green tea.", "--key", "drink", "--json").json
    shared = ("memories", "add", "Open until five.", "--scope", "shared", "--tag", "hours")
    assert "is remembered" in runtime.done(*shared).out
    (found,) = runtime.done("memories", "search", "which tea?", "--json").json

    assert found["id"] == tea["id"]
    listed = runtime.done("memories", "list").out
    assert "Drinks green tea." in listed
    assert "hours" in listed
    assert "is forgotten" in runtime.done("memories", "forget", tea["id"]).out
    runtime.done("memories", "add", "Likes walks.")
    assert "1 memories" in runtime.done("memories", "forget", "--all", typed="y\n").out
    assert runtime.done("memories", "search", "walks").out.strip() == "Nothing."
    assert "either" in runtime.refused("memories", "forget", code=2)
    assert "not found" in runtime.refused("memories", "forget", "mem_0")


# webhooks


def test_a_webhook_is_made_tried_and_deleted(runtime: Shell) -> None:
    assert "No webhook" in runtime.done("webhooks", "list").out
    create = ("webhooks", "create", "http://localhost:9999/", "--event", "run.failed")
    made = runtime.done(*create)
    assert made.out.startswith("whsec_")
    id = made.err.split()[0]
    assert "run.failed" in runtime.done("webhooks", "list").out

    trial = runtime.run("webhooks", "test", id, "--json")
    assert (trial.code, trial.json["delivered"]) == (1, False)
    assert "does not call 'localhost'" in trial.json["error"]
    assert "No delivery" in runtime.done("webhooks", "deliveries", id, "--status", "dead").out
    assert "Delivery 'whd_1' does not exist" in runtime.refused("webhooks", "retry", id, "whd_1")
    runtime.done("webhooks", "delete", id, typed="y\n")
    assert runtime.done("webhooks", "list", "--json").json == []


# schedules


def test_a_schedule_is_made_run_paused_and_deleted(runtime: Shell) -> None:
    create = ("schedules", "create", "assistant", "Sum up the day.", "--name", "digest")
    assert "Say when" in runtime.refused(*create, code=2)
    assert "in its minute" in runtime.refused(*create, "--cron", "61 * * * *")
    when = ("--cron", "0 7 * * mon-fri", "--timezone", "Europe/Berlin")
    made = runtime.done(*create, *when, "--overlap", "skip", "--json").json
    assert (made["overlap"], len(made["next_ticks"])) == ("skip", 5)

    run = runtime.done("schedules", "run", made["id"]).out.strip()
    assert run in runtime.done("schedules", "runs", made["id"]).out
    assert "paused" not in runtime.done("schedules", "list").out
    runtime.done("schedules", "pause", made["id"])
    assert "paused" in runtime.done("schedules", "list").out
    assert runtime.done("schedules", "resume", made["id"], "--json").json["enabled"] is True
    runtime.done("schedules", "delete", made["id"], typed="y\n")
    assert "does not exist" in runtime.refused("schedules", "show", made["id"])


# runs


def test_a_run_is_ordered_followed_and_looked_after(runtime: Shell) -> None:
    order = ("runs", "start", "assistant", "Count to 3", "--metadata", "k=v", "--session", "cli")
    assert "NAME=VALUE" in runtime.refused(*order, "--metadata", "v", code=2)
    followed = runtime.done(*order, "--follow")
    id = followed.err.strip()
    shown = runtime.done("runs", "show", id, "--json").json
    assert (shown["status"], shown["metadata"], shown["session_id"]) == (
        "completed",
        {"k": "v"},
        "cli",
    )
    assert followed.out.strip() == shown["output"].strip()
    (listed,) = runtime.done("runs", "list", "--session", "cli", "--json").json
    assert (listed["id"], listed["status"]) == (id, "completed")
    lines = runtime.done("runs", "follow", id, "--after", "2", "--json").out.splitlines()
    events = [json.loads(line) for line in lines]
    assert (events[0]["seq"], events[-1]["type"]) == (3, "run.completed")
    assert "answer" in runtime.done("runs", "steps", id).out
    assert runtime.done("runs", "checkpoints", id, "--json").json == []
    assert runtime.done("runs", "tool-calls", id).out == "No tool was called.\n"
    assert "checkpoint" in runtime.refused("runs", "fork", id, "c-1", "--input", "Hi")

    later = ("--not-before", "2190-01-01T00:00:00Z", "--priority", "-5")
    id = runtime.done("runs", "start", "assistant", "Hi", *later).out.strip()
    assert id in runtime.done("runs", "list", "--status", "queued").out
    assert runtime.done("runs", "cancel", id).out == f"{id} is cancelled.\n"
    assert runtime.refused("runs", "follow", id, code=3) == f"Error: {id} was cancelled.\n"
    for again in ("retry", "resume"):
        assert runtime.done("runs", again, id, "--json").json["origin"]["kind"] == again
    assert "does not exist" in runtime.refused("runs", "follow", "run_0")


async def test_what_is_followed_goes_on_over_broken_connections(shell: Shell) -> None:
    def said(seq: int, text: str) -> dict[str, object]:
        return {"seq": seq, "type": "text.delta", "text": text}

    asked = {"approval_id": "appr_1", "kind": "tool", "tool": "pay", "arguments": '{"eur": 4}'}
    async with scripted(
        saying({"id": "run_1", "status": "running", "error": None}),
        streaming(said(1, "Hel"), said(2, "lo"), cut=True),
        streaming({"error": {"code": "draining", "message": "It stops."}}),
        streaming(
            said(2, "lo"),
            {"seq": 3, "type": "approval.requested", "value": None, **asked},
            said(4, " you"),
            {"seq": 5, "type": "run.failed", "code": "step_failed", "message": "It broke."},
        ),
    ) as server:
        command = ("runs", "follow", "run_1", "--url", server.url)
        outcome = await asyncio.to_thread(shell.run, *command)

    assert (outcome.code, outcome.out) == (1, "Hello\n you\n")
    assert outcome.err.splitlines() == [
        'Waits for a person\'s word on appr_1: pay {"eur": 4}',
        "Error: It broke.",
    ]
    assert [each.headers.get("last-event-id") for each in server.asked] == [None, "0", "2", "2"]


# providers


def test_a_provider_is_added_with_a_key_that_is_read_and_never_shown(runtime: Shell) -> None:
    add = ("providers", "add", "mine", "--type", "openai", "--api-key")
    made = runtime.done(*add, "--default-model", "gpt", "--json", typed="sk-canary-of-the-cli\n")
    runtime.done("providers", "set", "mine", "--default-model", "gpt-5")
    shown = runtime.done("providers", "show", "mine")
    table = runtime.done("providers", "list")

    assert made.json["key"] == {"source": "stored", "variable": None}
    assert "gpt-5" in shown.out
    assert "stored" in table.out
    for each in (made, shown, table):
        assert "sk-canary" not in each.out + each.err
    moved = ("providers", "set", "mine", "--base-url", "https://x.test/v1")
    assert "send api_key again" in runtime.refused(*moved)
    assert "there is none" in runtime.refused(*moved, "--api-key", code=2)
    assert "Say what to change" in runtime.refused("providers", "set", "mine", code=2)
    runtime.done("providers", "disable", "mine")
    assert runtime.done("providers", "show", "mine", "--json").json["enabled"] is False
    runtime.done("providers", "enable", "mine")
    runtime.done("providers", "remove", "mine", "--yes")
    assert "no provider 'mine'" in runtime.refused("providers", "show", "mine")


def test_models_of_a_provider_are_set_and_removed(runtime: Shell) -> None:
    runtime.done("providers", "add", "trial", "--type", "demo", "--option", "token_delay_ms=1")
    options = ("--can", "tools", "--can", "no-vision", "--fallback", "demo", "--input", "1")
    model = ("providers", "models", "set", "trial", "vendor/large", *options)
    assert "both --input and --output" in runtime.refused(*model, code=2)
    made = runtime.done(*model, "--output", "2", "--json").json
    runtime.done("providers", "models", "disable", "trial", "vendor/large")
    (listed,) = runtime.done("providers", "models", "list", "trial", "--json").json

    assert (made["id"], made["price"]["output"]) == ("trial/vendor/large", 2)
    assert (made["capabilities"]["tools"], made["capabilities"]["vision"]) == (True, False)
    assert listed["enabled"] is False
    assert "trial/vendor/large" in runtime.done("providers", "models", "list", "trial").out
    runtime.done("providers", "models", "remove", "trial", "vendor/large")
    assert "No model is registered" in runtime.done("providers", "models", "list", "trial").out
    can = ("providers", "models", "set", "trial", "x", "--can", "fly")
    assert "--can takes streaming" in runtime.refused(*can, code=2)
    runtime.done("providers", "remove", "trial", typed="y\n")


def test_providers_are_tried(runtime: Shell) -> None:
    assert "demo/demo answered in" in runtime.done("providers", "test", "demo").out
    assert "healthy" in runtime.done("providers", "health", "--probe").out
    assert "azure_openai" in runtime.done("providers", "types").out
    assert "no provider 'x'" in runtime.refused("providers", "test", "x")
