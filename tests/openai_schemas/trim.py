"""Cuts OpenAI's OpenAPI description down to plain JSON Schema: see the package."""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOTS = (
    "ChatCompletionDeleted",
    "ChatCompletionList",
    "ChatCompletionMessageList",
    "CompactResource",
    "ConversationItem",
    "ConversationItemList",
    "ConversationResource",
    "CreateChatCompletionRequest",
    "CreateChatCompletionResponse",
    "CreateChatCompletionStreamResponse",
    "CreateEmbeddingRequest",
    "CreateEmbeddingResponse",
    "CreateResponse",
    "DeleteModelResponse",
    "DeletedConversationResource",
    "ErrorResponse",
    "ListModelsResponse",
    "Model",
    "Response",
    "ResponseItemList",
    "ResponseStreamEvent",
    "TokenCountsResource",
)
_NO_CONSTRAINT = {
    "default", "deprecated", "description", "discriminator", "example", "examples", "externalDocs",
    "format", "readOnly", "title", "writeOnly", "$recursiveAnchor",
}  # fmt: skip
_MAPS = {"properties", "patternProperties", "$defs"}
_REF = "#/components/schemas/"
Schema = Any


def trimmed(openapi: dict[str, Any]) -> dict[str, Any]:
    """What the roots reach, by name."""
    schemas = openapi["components"]["schemas"]
    found: dict[str, Schema] = {}
    names = list(ROOTS)
    while names:
        name = names.pop()
        if name not in found:
            found[name] = _plain(schemas[name], name)
            names += _references(found[name])
    # The messages that a stored completion answers are mostly a user's, as the example of
    # OpenAI's `listChatCompletionMessages` shows; the schema takes an answer's role for them.
    found["ChatCompletionMessageList"] = _without_role(found["ChatCompletionMessageList"], found)
    return dict(sorted(found.items()))


def _plain(schema: Schema, within: str) -> Schema:
    if isinstance(schema, list):
        return [_plain(each, within) for each in schema]
    if not isinstance(schema, dict):
        return schema
    plain: dict[str, Schema] = {}
    for key, value in schema.items():
        if key in _NO_CONSTRAINT or key.startswith("x-") or key == "nullable":
            continue
        if key == "additionalProperties" and value is False:
            continue  # Answers may hold more.
        if key in _MAPS:
            plain[key] = {name: _plain(each, within) for name, each in value.items()}
        elif key in ("enum", "const", "required"):
            plain[key] = value
        elif key == "$ref":
            plain[key] = value.replace(_REF, "#/$defs/")
        elif key == "$recursiveRef":
            plain["$ref"] = f"#/$defs/{within}"
        else:
            # Variants overlap once they may hold more; what tells them apart is their `type`.
            plain["anyOf" if key == "oneOf" else key] = _plain(value, within)
    # OpenAPI 3.0's way to say it, which 3.1 has no word for.
    return {"anyOf": [plain, {"type": "null"}]} if schema.get("nullable") else plain


def _without_role(listed: Schema, found: dict[str, Schema]) -> Schema:
    answer = found["ChatCompletionResponseMessage"]
    properties = {**answer["properties"], "role": {"type": "string"}}
    text = json.dumps(listed).replace(
        '{"$ref": "#/$defs/ChatCompletionResponseMessage"}',
        json.dumps({**answer, "properties": properties}),
    )
    return json.loads(text)


def _references(schema: Schema) -> list[str]:
    return re.findall(r'"#/\$defs/([^"]+)"', json.dumps(schema))


if __name__ == "__main__":
    described = json.loads(Path(sys.argv[1]).read_text())
    lines = [f'"{name}": {json.dumps(each)}' for name, each in trimmed(described).items()]
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")
