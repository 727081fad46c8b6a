"""OpenAI's own description of its wire, cut to the endpoints that the runtime speaks.
Theirs is under the MIT licence.

Made by `python -m tests.openai_schemas.trim openapi.json > tests/openai_schemas/schemas.json`.
"""
