"""A form made from a `Config`: the same fields as its JSON Schema, in sections.

A field's `json_schema_extra` may name its `section` and set `widget: textarea`.
"""

import re
from collections.abc import Sequence

from pydantic import BaseModel

from runtime.domain.services.templates import FieldType, FormField, FormSection
from runtime.templates.json_schema import Schema, alternatives, literals, resolve

DEFAULT_SECTION = "General"
LAST_SECTION = "Model"
"""Fine tuning, inherited from GenerationConfig: after what the template itself asks."""
TEXTAREA_FROM = 200
"""A text that may be longer than this, in characters, gets more than one line."""


def sections_of(config: type[BaseModel]) -> Sequence[FormSection]:
    schema = config.model_json_schema()
    sections: dict[str, list[FormField]] = {}
    root = resolve(schema, schema)
    for name, declared in root.get("properties", {}).items():
        title = declared.get("section", DEFAULT_SECTION)
        field = _field(schema, name, declared, name in root.get("required", ()), ())
        sections.setdefault(title, []).append(field)
    return [
        FormSection(
            id=re.sub(r"\W+", "-", title.lower()).strip("-"),
            title=title,
            description="",
            fields=fields,
        )
        for title, fields in sorted(sections.items(), key=lambda each: each[0] == LAST_SECTION)
    ]


def _field(
    schema: Schema, name: str, declared: Schema, required: bool, inside: tuple[int, ...]
) -> FormField:
    """`inside`: the objects around this field; one that holds itself is shown once."""
    node = _value(schema, declared)
    kind = _type(declared, node)
    secret = bool(node.get("writeOnly"))
    holder = node.get("items", {}) if kind == "list" else declared
    nested = _value(schema, holder)
    objects = tuple(id(each) for each in alternatives(schema, holder) if "properties" in each)
    shown = () if set(objects) & set(inside) else nested.get("properties", {}).items()
    return FormField(
        id=name,
        type=kind,
        label=declared.get("title") or name.replace("_", " ").capitalize(),
        description=declared.get("description") or node.get("description", ""),
        default=None if secret else declared.get("default"),
        required=required,
        minimum=_first(node, "minimum", "exclusiveMinimum", "minLength", "minItems"),
        maximum=_first(node, "maximum", "exclusiveMaximum", "maxLength", "maxItems"),
        pattern=node.get("pattern"),
        widget="password" if secret else None,
        options=[str(option) for option in literals(nested)] or None,
        fields=[
            _field(schema, key, each, key in nested.get("required", ()), (*inside, *objects))
            for key, each in shown
        ],
    )


def _value(schema: Schema, node: Schema) -> Schema:
    """The one form that a person fills in for `node`: of a union of objects, all their fields."""
    options = alternatives(schema, node)
    if len(options) == 1:
        return options[0]
    if options and all(literals(each) for each in options):
        return {"enum": [value for each in options for value in literals(each)]}
    if options and all("properties" in each for each in options):
        return _merged(options)
    return next(iter(options), {})


def _merged(options: Sequence[Schema]) -> Schema:
    properties: dict[str, Schema] = {}
    for option in options:
        for name, field in option["properties"].items():
            known = properties.setdefault(name, field)
            if known is not field and literals(known) and literals(field):
                values = dict.fromkeys((*literals(known), *literals(field)))
                other = {key: value for key, value in known.items() if key != "const"}
                properties[name] = other | {"enum": list(values)}
    required = set.intersection(*(set(each.get("required", ())) for each in options))
    return {"type": "object", "properties": properties, "required": required}


def _type(declared: Schema, node: Schema) -> FieldType:
    if literals(node):
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
