"""Callers can't tell a published agent from an OpenAI model: shown client by client.

`python -m tests.conformance` starts the runtime, tries every feature with every client, each in an
environment of its own, and writes docs/compatibility.md. A feature that fails fails the command.

    python -m tests.conformance openai-python:session litellm   # these only; the page stays
"""
