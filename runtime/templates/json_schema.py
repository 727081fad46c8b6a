"""Reading the JSON Schema that pydantic makes of a `Config`."""

from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]


def resolve(root: Schema, node: Schema) -> Schema:
    """What `node` stands for, through references into `root`."""
    seen = set()
    while "$ref" in node and node["$ref"] not in seen:
        seen.add(node["$ref"])
        node = root.get("$defs", {}).get(node["$ref"].removeprefix("#/$defs/"), {})
    return node


def alternatives(root: Schema, node: Schema) -> list[Schema]:
    """What a value of `node` may be, other than null: itself, or each member of its unions."""
    node = resolve(root, node)
    members = node.get("anyOf") or node.get("oneOf")
    if members is None:
        return [] if node.get("type") == "null" else [node]
    return [each for member in members for each in alternatives(root, member)]


def discriminator(root: Schema, node: Schema) -> tuple[str, Mapping[str, str]] | None:
    """The field that tells the members of a union apart, and the reference of each tag."""
    node = resolve(root, node)
    if found := node.get("discriminator"):
        return found["propertyName"], found.get("mapping", {})
    members = node.get("anyOf", ())
    return next((tag for each in members if (tag := discriminator(root, each))), None)


def literals(node: Schema) -> Sequence[object]:
    """The values that a resolved `node` may take, where they can be counted."""
    return [node["const"]] if "const" in node else node.get("enum", ())


def describe(root: Schema, node: Schema) -> str | None:
    """What a field may take, in words: `a whole number from 1 to 10`."""
    options = alternatives(root, node)
    values = [value for each in options for value in literals(each)]
    texts = ["one of " + ", ".join(str(value) for value in values)] if values else []
    texts += [text for each in options if not literals(each) and (text := _describe_one(each))]
    return " or ".join(dict.fromkeys(texts)) or None


def _describe_one(node: Schema) -> str | None:
    match node.get("type"):
        case "boolean":
            return "true or false"
        case "integer":
            return "a whole number" + _range(node, "minimum", "maximum")
        case "number":
            return "a number" + _range(node, "minimum", "maximum")
        case "string":
            pattern = f" matching {node['pattern']}" if "pattern" in node else ""
            return "text" + _size(node, "minLength", "maxLength", "characters") + pattern
        case "array":
            return "a list" + _size(node, "minItems", "maxItems", "items")
        case "object":
            return "an object"
    return None


def _range(node: Schema, low: str, high: str) -> str:
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    start, end = node.get(low), node.get(high)
    if start is not None and end is not None:
        return f" from {start} to {end}"
    bounds = [
        f"{word} {value}"
        for word, value in (
            ("above", above),
            ("of at least", start),
            ("below", below),
            ("of at most", end),
        )
        if value is not None
    ]
    return " " + " and ".join(bounds) if bounds else ""


def _size(node: Schema, low: str, high: str, unit: str) -> str:
    start, end = node.get(low), node.get(high)
    if start is not None and end is not None:
        return f" of {start} to {end} {unit}"
    if start is not None:
        return f" of at least {start} {unit}"
    return f" of at most {end} {unit}" if end is not None else ""
