from tests.conformance.page import Column, checked, page
from tests.conformance.suite import CLIENTS, STANDARD, Outcome
from tests.pages import blocks

OK = Outcome("ok")
ROWS = {"Chat": {"chat": "answer", "stream": "streamed answer"}, "More": {"models": "list"}}
TITLES = {name: title for rows in ROWS.values() for name, title in rows.items()}


def column(title: str = "SDK", **outcomes: Outcome) -> Column:
    return Column(title, "`sdk` 1.0", outcomes)


def test_a_page_has_a_row_for_every_feature_and_a_column_for_every_client() -> None:
    one, two = (column(title, chat=OK, stream=OK, models=OK) for title in ("One", "Two"))
    text = page(ROWS, [one, two], [column(test_a=OK)])

    assert "| | One | Two |" in text
    assert "| streamed answer | ✓ | ✓ |" in text
    assert "- Two: `sdk` 1.0" in text


def test_a_reason_is_told_once_and_pointed_to_from_everywhere() -> None:
    absent = Outcome("absent", "It has none.")
    told = column(chat=OK, stream=absent, models=absent)
    text = page(ROWS, [told], [column(test_a=OK)])

    assert text.count("1. It has none.") == 1
    assert text.count("<sup>1</sup>") == 2


def test_what_a_script_does_not_tell_has_failed() -> None:
    silent = Column("SDK", "", checked(TITLES, {"chat": OK, "stream": OK}))

    assert "| list | ✗ |" in page(ROWS, [silent], [column(test_a=OK)])
    assert silent.failures() == {"models": "the script told no outcome"}


def test_an_outcome_without_a_row_is_a_failure() -> None:
    told = checked(TITLES, {**dict.fromkeys(TITLES, OK), "typo": OK})

    assert list(Column("SDK", "", told).failures()) == ["typo"]


def test_the_same_outcomes_make_the_same_page() -> None:
    one = column(chat=OK, stream=Outcome("absent", "a"), models=Outcome("absent", "b"))
    other = column(models=Outcome("absent", "b"), stream=Outcome("absent", "a"), chat=OK)
    standard = [column(test_a=OK)]

    assert page(ROWS, [one], standard) == page(ROWS, [other], standard)


def test_every_client_has_a_page_with_code_and_locked_versions() -> None:
    for client in CLIENTS:
        assert list(blocks(client.page, client=client.name)), client.name
    assert all(client.versions for client in (*CLIENTS, *STANDARD))
