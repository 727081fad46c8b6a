"""What a log line, a trace or an error may not show."""

import json
import subprocess
import sys

import pytest

from runtime.domain.errors import InvalidValue
from runtime.infrastructure.redaction import Redactor, redacted, redacted_json
from runtime.infrastructure.web.errors import understand

SECRET = 'pä"ss\\wörd/with@all&of it'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abcdefgh12345678", "Authorization: Bearer ***"),
        ('"authorization": "bearer abcdefgh12345678"', '"authorization": "bearer ***"'),
        ("Basic dXNlcjpwYXNzd29yZDE=", "Basic ***"),
        ("key sk-proj-abc_DEF-123456, and", "key ***, and"),
        ("ar_0123456789abcdef0123", "***"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl!", "***!"),
        ("postgresql://ann:s3cret@db:5432/x", "postgresql://ann:***@db:5432/x"),
        ("redis://:s3cret@cache/0", "redis://:***@cache/0"),
        ("host=db password=s3cret-1 user=ann", "host=db password=*** user=ann"),
        ("X-Runtime-Token: abcdefgh1234", "X-Runtime-Token: ***"),
        ('{"x-runtime-token": "abcdefgh1234"}', '{"x-runtime-token": "***"}'),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, shown: str) -> None:
    assert Redactor()(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "The bearer of authentication information is unknown.",
        "basic understanding_of_everything",
        "desk-top and risk-assessment",
        "http://127.0.0.1:8000/docs and mail@example.com",
        "password: String should have at least 12 characters",
        "run_0192f3c4 ended after 12.5 ms",
        "Send a token as 'Authorization: Bearer'.",
    ],
)
def test_what_does_not_is_left_alone(text: str) -> None:
    assert Redactor()(text) == text


@pytest.mark.parametrize(
    "spelt",
    [
        SECRET,
        json.dumps({"key": SECRET}),
        json.dumps({"key": SECRET}, ensure_ascii=False),
        repr({"key": SECRET}),
        "https://example.com/?key=p%C3%A4%22ss%5Cw%C3%B6rd%2Fwith%40all%26of%20it",
    ],
)
def test_a_known_value_is_hidden_however_it_is_quoted(spelt: str) -> None:
    redact = Redactor()
    redact.know([SECRET])

    shown = redact(spelt)
    assert "***" in shown
    assert "with" not in shown


def test_a_value_is_known_until_the_last_who_knew_it_forgets() -> None:
    redact = Redactor()
    one, other = redact.know(["the-secret"]), redact.know(["the-secret"])
    one()
    one()
    assert redact("the-secret") == "***"
    other()
    assert redact("the-secret") == "the-secret"


def test_the_longer_of_two_values_is_hidden_whole() -> None:
    redact = Redactor()
    redact.know(["12345678", "12345678-and-more"])
    assert redact("12345678-and-more") == "***"


def test_a_word_is_no_secret_worth_hiding() -> None:
    redact = Redactor()
    redact.know(["", "a", "test"])
    assert redact("a test") == "a test"


def test_a_long_line_of_anything_is_read_in_no_time() -> None:
    redact = Redactor()
    for text in ("a://" * 50_000, "eyJ" * 50_000, "bearer " * 50_000, "a" * 200_000, "sk-" * 9_999):
        redact(text)


def test_errors_hide_what_is_known() -> None:
    forget = redacted.know(["canary-of-an-error"])
    try:
        refusal = understand(
            InvalidValue(
                "No such thing as canary-of-an-error.",
                details={"errors": [{"message": "canary-of-an-error"}]},
            )
        )
    finally:
        forget()

    assert refusal.message == "No such thing as ***."
    assert refusal.details == {"errors": [{"message": "***"}]}


def test_json_is_hidden_at_any_depth_and_else_unchanged() -> None:
    value = {"a": [1, None, True, {"b": "Bearer abcdefgh12345678"}], "c": 2.5}
    assert redacted_json(value) == {"a": [1, None, True, {"b": "Bearer ***"}], "c": 2.5}


def test_the_log_hides_secrets_in_every_part_of_a_line() -> None:
    script = (
        "import logging\n"
        "from runtime.infrastructure.logging import configure\n"
        "from runtime.infrastructure.redaction import redacted\n"
        "import structlog\n"
        "configure('DEBUG')\n"
        "redacted.know(['canary-in-the-log'])\n"
        "structlog.get_logger('a').info('canary-in-the-log', key={'x': 'canary-in-the-log'})\n"
        "logging.getLogger('b').debug('%s', 'Bearer abcdefgh12345678')\n"
        "try:\n"
        "    raise ValueError('canary-in-the-log')\n"
        "except ValueError:\n"
        "    logging.getLogger('c').exception('failed')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["***", "Bearer ***", "failed"]
    assert lines[0]["key"] == {"x": "***"}
    assert "ValueError: ***" in lines[2]["exception"]
    assert "canary" not in done.stderr + done.stdout
