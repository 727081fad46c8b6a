"""What changed between two versions, field by field as the form shows them."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runtime.domain.value_objects.agents import AgentSpec
from runtime.domain.value_objects.secrets import MASK, steps_of

Schema = Mapping[str, Any]
MISSING = object()
KEYS = ("id", "name", "question")
"""Fields by which the items of a list are told apart, where every item has one."""


@dataclass(frozen=True, slots=True)
class FieldChange:
    path: str
    """Dotted from the agent's root: `template_config.steps.plan.timeout_s`."""
    label: str
    """The field's title in the form."""
    change: Literal["added", "removed", "changed"]
    before: object
    after: object
    lines: Sequence[str] | None = None
    """A unified diff, for texts of several lines."""


def differences(before: AgentSpec, after: AgentSpec, schema: Schema) -> list[FieldChange]:
    """`schema`: JSON Schema of the configuration, of the later version."""
    old, new = _outer(before), _outer(after)
    changes = [
        _change(name, label, old[name], new[name])
        for name, label in _OUTER.items()
        if old[name] != new[name]
    ]
    changes += _walk(
        "template_config", "Configuration", before.config, after.config, schema, schema
    )
    return changes + [
        _secret_change(at, schema)
        for at, kept in after.secrets.items()
        if at in before.secrets and before.secrets[at].mark != kept.mark
    ]


_OUTER = {
    "name": "Name",
    "description": "Description",
    "avatar_url": "Avatar",
    "type": "Type",
    "template": "Template",
    "llm_config_id": "Model",
    "version_type": "Version type",
}


def _outer(spec: AgentSpec) -> dict[str, object]:
    return {
        "name": spec.name,
        "description": spec.description,
        "avatar_url": spec.avatar_url,
        "type": spec.agent_type,
        "template": str(spec.template),
        "llm_config_id": spec.model,
        "version_type": spec.version_type.value,
    }


def _walk(
    path: str, label: str, before: object, after: object, node: Schema, root: Schema
) -> Iterator[FieldChange]:
    if before == after:
        return
    node = _resolved(node, root)
    old, new = _keyed(before), _keyed(after)
    if old is None or new is None:
        yield _change(path, label, before, after)
        return
    for key in dict.fromkeys((*old, *new)):
        child = _child(node, key, root)
        title = child.get("title") or key.replace("_", " ").capitalize()
        old_value, new_value = old.get(key, MISSING), new.get(key, MISSING)
        if MISSING in (old_value, new_value):
            if old_value != new_value:
                yield _change(f"{path}.{key}", title, old_value, new_value)
        else:
            yield from _walk(f"{path}.{key}", title, old_value, new_value, child, root)


def _secret_change(at: str, schema: Schema) -> FieldChange:
    path, label, node = "template_config", "Configuration", _resolved(schema, schema)
    for step in steps_of(at):
        node = _child(node, step, schema)
        path, label = f"{path}.{step}", node.get("title") or step.replace("_", " ").capitalize()
    return FieldChange(path, label, "changed", MASK, MASK)


def _keyed(value: object) -> Mapping[str, object] | None:
    """An object, or a list whose items have names, by key; None for anything else."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        for key in KEYS:
            names = [str(each[key]) for each in value if key in each]
            if len(set(names)) == len(value):
                return dict(zip(names, value, strict=True))
    return None


def _child(node: Schema, key: str, root: Schema) -> Schema:
    if "items" in node:
        return _resolved(node["items"], root)
    child = node.get("properties", {}).get(key, {})
    return {**_resolved(child, root), **({"title": child["title"]} if "title" in child else {})}


def _resolved(node: Schema, root: Schema) -> Schema:
    while "$ref" in node:
        node = root.get("$defs", {}).get(node["$ref"].removeprefix("#/$defs/"), {})
    options = [each for each in node.get("anyOf", ()) if each.get("type") != "null"]
    return _resolved(options[0], root) if options else node


def _change(path: str, label: str, before: object, after: object) -> FieldChange:
    kind: Literal["added", "removed", "changed"] = "changed"
    if before is MISSING:
        kind, before = "added", None
    elif after is MISSING:
        kind, after = "removed", None
    return FieldChange(path, label, kind, before, after, _lines(before, after))


def _lines(before: object, after: object) -> Sequence[str] | None:
    if not (isinstance(before, str) and isinstance(after, str)):
        return None
    if "\n" not in before + after:
        return None
    return list(
        difflib.unified_diff(
            before.splitlines(), after.splitlines(), "before", "after", lineterm=""
        )
    )
