"""A form made from a `Config`: the same fields as its JSON Schema, in sections.

A field's `json_schema_extra` may name its `section` and set `widget: textarea`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from runtime.domain.services.templates import FieldType, FormField, FormSection

Schema = Mapping[str, Any]
DEFAULT_SECTION = "General"
TEXTAREA_FROM = 200
"""A text that may be longer than this, in characters, gets more than one line."""


def sections_of(config: type[BaseModel]) -> Sequence[FormSection]:
    schema = config.model_json_schema()
    required = set(schema.get("required", ()))
    sections: dict[str, list[FormField]] = {}
    for name, field in schema.get("properties", {}).items():
        title = field.get("section", DEFAULT_SECTION)
        sections.setdefault(title, []).append(_field(schema, name, field, name in required))
    return [
        FormSection(
            id=re.sub(r"\W+", "-", title.lower()),
            title=title,
            description="",
            fields=fields,
        )
        for title, fields in sections.items()
    ]


def _field(schema: Schema, name: str, declared: Schema, required: bool) -> FormField:
    node = _value_schema(schema, declared)
    options = node.get("enum") or ([node["const"]] if "const" in node else None)
    kind = _type(declared, node)
    items = _value_schema(schema, node.get("items", {})) if kind == "list" else {}
    nested = node if kind == "object" else items
    return FormField(
        id=name,
        type=kind,
        label=declared.get("title") or name.replace("_", " ").capitalize(),
        description=declared.get("description") or node.get("description", ""),
        default=declared.get("default"),
        required=required,
        minimum=_first(node, "minimum", "exclusiveMinimum", "minLength", "minItems"),
        maximum=_first(node, "maximum", "exclusiveMaximum", "maxLength", "maxItems"),
        pattern=node.get("pattern"),
        options=[str(option) for option in options or items.get("enum", ())] or None,
        fields=[
            _field(schema, key, each, key in nested.get("required", ()))
            for key, each in nested.get("properties", {}).items()
        ],
    )


def _value_schema(schema: Schema, node: Schema) -> Schema:
    """Through references, and through `X | None` to X."""
    while True:
        if "$ref" in node:
            node = schema.get("$defs", {}).get(node["$ref"].removeprefix("#/$defs/"), {})
            continue
        options = [each for each in node.get("anyOf", ()) if each.get("type") != "null"]
        if not options:
            return node
        node = options[0]


def _type(declared: Schema, node: Schema) -> FieldType:
    if "enum" in node or "const" in node:
        return "select"
    match node.get("type"):
        case "boolean":
            return "checkbox"
        case "integer" | "number":
            return "number"
        case "array":
            return "list"
        case "object":
            return "object"
    long = node.get("maxLength", 0) > TEXTAREA_FROM
    return "textarea" if long or declared.get("widget") == "textarea" else "text"


def _first(node: Schema, *keys: str) -> float | None:
    return next((node[key] for key in keys if key in node), None)
