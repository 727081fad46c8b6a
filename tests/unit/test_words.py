"""What a text is found by."""

from runtime.domain.value_objects.words import (
    MAX_WORD,
    MOST_ASKED,
    asked_words,
    weights_of,
    worth_of,
)


def test_case_width_and_punctuation_make_no_difference() -> None:
    assert asked_words("\uff34ea, TEA; straße!") == ["tea", "strasse"]


def test_text_without_spaces_is_asked_for_in_pairs_and_stored_with_single_characters() -> None:
    assert asked_words("喝绿茶") == ["喝绿", "绿茶"]
    assert asked_words("茶") == ["茶"]
    assert set(weights_of("喝绿茶")) == {"喝", "绿", "茶", "喝绿", "绿茶"}


def test_other_scripts_beside_it_are_words_of_their_own() -> None:
    assert asked_words("iPhone手机15 Pro") == ["iphone", "手机", "15", "pro"]


def test_every_word_asked_for_is_found_in_the_text_itself() -> None:
    for text in ("The user's tea", "用户喜欢iPhone", "서울에 산다", "東京に住む", "x" * 500):
        assert set(asked_words(text)) <= set(weights_of(text))


def test_a_word_says_more_in_a_short_text_and_when_repeated() -> None:
    alone, lost = weights_of("tea")["tea"], weights_of("tea " + "and more " * 50)["tea"]
    often = weights_of("tea tea tea")["tea"]

    assert lost < alone < often


def test_rarer_words_count_more_and_the_commonest_not_at_all_beside_them() -> None:
    worth = worth_of({"walnut": 1, "order": 50, "the": 5_000})

    assert worth["walnut"] > worth["order"] > 0
    assert "the" not in worth
    assert worth_of({"the": 5_000}).keys() == {"the"}
    assert worth_of({}) == {}


def test_there_are_no_more_words_than_a_statement_takes() -> None:
    many = " ".join(map(str, range(5_000)))

    assert len(asked_words(many)) == MOST_ASKED
    assert len(weights_of(many)) == 2_000
    assert asked_words("x" * 100) == ["x" * MAX_WORD]
