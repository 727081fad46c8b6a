"""`agent-runtime agents …`: make, review and ask agents, over HTTP."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.cli import output
from runtime.cli.failures import Failure
from runtime.cli.options import AsJson, Token, Url, Yes, connect

if TYPE_CHECKING:
    from runtime.cli.client import Client

Json = dict[str, Any]

app = typer.Typer(
    no_args_is_help=True,
    help="Make, review and ask agents. AGENT is an id, a slug, slug@v2 or slug@draft.",
)
Agent = Annotated[str, typer.Argument(metavar="AGENT", show_default=False)]

PAGE = 200
COLUMNS = ("Agent", "Status", "Name", "Template", "Model", "Updated")


@app.command("list")
def list_agents(
    status: Annotated[
        str | None, typer.Option(help="draft, submitted, published, superseded or revoked.")
    ] = None,
    template: Annotated[str | None, typer.Option(help="A template's id.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most versions to show.")] = 100,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Versions of every agent, newest first."""
    asked = {"status": status, "template_id": template}
    where = {name: value for name, value in asked.items() if value}
    _show_list(_pages(connect(url, token), limit, where, "agents"), as_json)


@app.command()
def show(agent: Agent, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """One agent with its whole configuration; of a slug the published version, else the newest."""
    found = _find(connect(url, token), agent, "published", "submitted", "draft")
    if as_json:
        output.print_json(found)
    else:
        output.print_pairs(found)


@app.command()
def create(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="YAML or JSON, one agent or a list; - is stdin.")
    ],
    publish: Annotated[bool, typer.Option("--publish", help="Submit and approve it too.")] = False,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Make agents of what a file says: name, template_id, template_config …"""
    content = _content(file)
    wanted = content if isinstance(content, list) else [content]
    client, created = connect(url, token), []
    for position, body in enumerate(wanted, 1):
        if not isinstance(body, dict):
            raise Failure(f"{file}: an agent is a mapping with name, template_id, template_config.")
        if publish:
            body = {**body, "status": "published"}
        try:
            agent = client.call("POST", "agents", body=body)
        except Failure as failure:
            if len(wanted) == 1:
                raise
            raise Failure(f"{file}, agent {position} of {len(wanted)}: {failure}") from failure
        created.append(agent)
        if not as_json:
            _tell(agent)
    if as_json:
        output.print_json(created if isinstance(content, list) else created[0])


@app.command()
def update(
    agent: Agent,
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="YAML or JSON; - is stdin.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE, such as template_config.tone=formal."),
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Change fields of a draft. Where a slug has none, its next version is made."""
    body = _content(file) if file else {}
    if not isinstance(body, dict):
        raise Failure(f"{file}: the change of an agent is a mapping of its fields.")
    for assignment in assignments or ():
        _assign(body, assignment)
    if not body:
        raise Failure("Nothing to change: give a FILE or --set FIELD=VALUE.", 2)
    client = connect(url, token)
    found = _find(client, agent, "draft", "submitted", "published")
    if found["status"] not in ("draft", "submitted") and agent == found["slug"]:
        changed = client.call("POST", "agents", found["id"], "versions", body=body)
    else:
        changed = client.call("PATCH", "agents", found["id"], body=body, if_match=found["etag"])
    _show_change(changed, as_json)


@app.command()
def submit(agent: Agent, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Put a draft into review; of a slug its newest draft."""
    _act(connect(url, token), "submit", agent, "draft", as_json)


@app.command()
def approve(agent: Agent, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Publish what is in review; of a slug its newest submitted version."""
    _act(connect(url, token), "approve", agent, "submitted", as_json)


@app.command()
def reject(
    agent: Agent,
    reason: Annotated[str, typer.Option(help="What the author should change.", prompt=True)],
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Send what is in review back to its author, as a draft."""
    _act(connect(url, token), "reject", agent, "submitted", as_json, {"reason": reason})


@app.command()
def revoke(
    agent: Agent,
    reason: Annotated[str, typer.Option(help="For the audit trail.")] = "",
    yes: Yes = False,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Withdraw a version for good: nobody can call it any more."""
    client = connect(url, token)
    found = _find(client, agent, "published")
    _confirm(f"Revoke {found['model']} for good?", yes)
    _act(client, "revoke", found["id"], None, as_json, {"reason": reason})


@app.command()
def rollback(
    agent: Agent,
    to: Annotated[
        str | None, typer.Option(help="A version such as v1; unset: the one before.")
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Publish an earlier version again."""
    client = connect(url, token)
    found = _find(client, agent, "published")
    body = {"to": to} if to else {}
    _show_change(client.call("POST", "agents", found["id"], "rollback", body=body), as_json)


@app.command()
def versions(
    agent: Agent,
    limit: Annotated[int, typer.Option(min=1, help="Most versions to show.")] = 100,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """All versions of an agent, newest first."""
    client = connect(url, token)
    found = _find(client, agent, "published", "submitted", "draft")
    _show_list(_pages(client, limit, {}, "agents", found["id"], "versions"), as_json)


@app.command()
def diff(
    agent: Agent,
    against: Annotated[
        str | None, typer.Option(help="A version such as v1; unset: the published one.")
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """What a version changes, field by field; of a slug what is in review, else its draft."""
    client = connect(url, token)
    found = _find(client, agent, "submitted", "draft", "published")
    query = {"against": against} if against else None
    difference = client.call("GET", "agents", found["id"], "diff", query=query)
    if as_json:
        output.print_json(difference)
        return
    before, after = difference["from"], difference["to"]
    output.say(
        f"{found['slug']}: {before['version_number']} ({before['status']}) → "
        f"{after['version_number']} ({after['status']})"
    )
    if not difference["changes"]:
        output.say("Nothing is different.")
    else:
        output.print_table(("Field", "Before", "After"), map(_difference, difference["changes"]))


@app.command()
def delete(
    agent: Agent, yes: Yes = False, url: Url = None, token: Token = None, as_json: AsJson = False
) -> None:
    """Remove one version; a slug alone will do where there is only one."""
    client = connect(url, token)
    found = _only(client, agent)
    _confirm(f"Delete {found['model']} ({found['status']})?", yes)
    answer = client.call("DELETE", "agents", found["id"], if_match=found["etag"])
    if as_json:
        output.print_json(answer)
    else:
        output.say(f"{found['model']} is deleted.")


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="A slug, slug@v2, slug@draft or an agent's id.")],
    message: Annotated[
        str | None, typer.Argument(help="Unset: a conversation, ended by 'exit' or Ctrl-D.")
    ] = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Ask an agent; the answer appears as it is made."""
    from runtime.cli.chat import Conversation

    conversation = Conversation(connect(url, token), model)
    if message is not None:
        conversation.ask(message)
    else:
        conversation.hold()


def _act(
    client: "Client",
    action: str,
    agent: str,
    status: str | None,
    as_json: bool,
    body: Json | None = None,
) -> None:
    found = _find(client, agent, *([status] if status else []))
    etag = found["etag"]
    changed = client.call("POST", "agents", found["id"], action, body=body or {}, if_match=etag)
    _show_change(changed, as_json)


def _find(client: "Client", reference: str, *preferred: str) -> Json:
    """What `reference` names; of a slug alone the newest version in the first status it has."""
    if "@" not in reference:
        for status in preferred:
            query: dict[str, str | int] = {"slug": reference, "status": status, "limit": 1}
            page = client.call("GET", "agents", query=query)["data"]
            if page:
                return dict(page[0])
    try:
        return client.call("GET", "agents", reference)
    except Failure:
        newest = client.call("GET", "agents", query={"slug": reference, "limit": 1})["data"]
        if not newest:
            raise
        return dict(newest[0])


def _only(client: "Client", reference: str) -> Json:
    query: dict[str, str | int] = {"slug": reference, "limit": 2}
    if "@" not in reference and len(client.call("GET", "agents", query=query)["data"]) > 1:
        raise Failure(
            f"'{reference}' has several versions: name one, such as {reference}@v1. "
            f"`agent-runtime agents versions {reference}` lists them."
        )
    return _find(client, reference)


def _pages(client: "Client", limit: int, where: dict[str, str], *path: str) -> list[Json]:
    found: list[Json] = []
    query: dict[str, str | int] = {**where, "limit": min(limit, PAGE)}
    while True:
        page = client.call("GET", *path, query=query)
        found += page["data"]
        if not page["next_cursor"] or len(found) >= limit:
            return found[:limit]
        query["after"] = page["next_cursor"]


def _content(file: str) -> Any:  # noqa: ANN401 - whatever is in the file
    import json

    import yaml

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise Failure(f"{file} can't be read: {reason}.") from error
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        at = f", line {where.line + 1}" if where else ""
        why = getattr(error, "problem", None) or "it can't be parsed"
        raise Failure(f"{file}{at} is neither JSON nor YAML: {why}.") from error


def _assign(body: Json, assignment: str) -> None:
    """`template_config.tone=formal`; the value is YAML, so `3`, `true` and `[a, b]` are no text."""
    import yaml

    path, equals, value = assignment.partition("=")
    *outer, name = path.split(".")
    if not equals or not all((*outer, name)):
        raise Failure(f"'{assignment}' is not FIELD=VALUE.", 2)
    for part in outer:
        body = body.setdefault(part, {})
        if not isinstance(body, dict):
            raise Failure(f"'{path}': '{part}' holds no fields.", 2)
    try:
        body[name] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise Failure(f"The value of '{path}' is not YAML; put it in quotes.", 2) from error


def _confirm(question: str, yes: bool) -> None:
    if not yes:
        typer.confirm(question, abort=True)


def _show_list(agents: list[Json], as_json: bool) -> None:
    if as_json:
        output.print_json(agents)
    elif agents:
        output.print_table(COLUMNS, map(_row, agents))
    else:
        output.say("No agent.")


def _row(agent: Json) -> tuple[object, ...]:
    return (
        agent["model"],
        agent["status"],
        agent["name"],
        f"{agent['template_id']}@{agent['template_version_id']}",
        agent["llm_config_id"],
        agent["updated_at"][:16].replace("T", " "),
    )


def _show_change(agent: Json, as_json: bool) -> None:
    if as_json:
        output.print_json(agent)
    else:
        _tell(agent)


def _tell(agent: Json) -> None:
    for warning in agent["validation_results"]["warnings"]:
        typer.echo(f"Warning: {output.harmless(warning)}", err=True)
    slug, status = agent["slug"], agent["status"]
    output.say(f"{agent['model']} is {status}.  (id {agent['id']})")
    following = {"draft": "submit", "submitted": "approve", "published": "chat"}.get(status)
    if following:
        output.say(f"Next: agent-runtime agents {following} {slug}")


def _difference(change: Json) -> tuple[object, ...]:
    if change["lines"]:
        return change["path"], None, "\n".join(change["lines"])
    return change["path"], change["before"], change["after"]
