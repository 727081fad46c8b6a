"""Callers can't tell a published agent from an OpenAI model: shown client by client.

`python -m tests.conformance` starts the runtime, tries every feature with every client, each in an
environment of its own, and writes docs/compatibility.md. A feature that fails fails the command.

    python -m tests.conformance openai-python:session litellm   # these only; the page stays

Another client is a script in `clients` or `js` that tells an outcome for every row of
`features.py`, a `Client` in `suite.py`, its package in a requirements file, and a page with code
in docs/clients.
"""
