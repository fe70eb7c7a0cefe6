"""Words and numbers of a table."""

import pytest

from shared.cohort.vocabulary import (
    DENSITY,
    FISH,
    MALIGNANT,
    RECEPTOR,
    SIDE,
    SUBTYPE,
    is_missing,
    look_up,
    parse_number,
)


@pytest.mark.parametrize("cell", ["", "NA", "n/a", "Unknown", "?", "not done", "ND"])
def test_a_missing_value_is_missing_in_any_case(cell):
    assert is_missing(cell)


@pytest.mark.parametrize("cell", ["0", "no", "negative", "-", "none found"])
def test_a_negative_or_a_zero_is_not_missing(cell):
    assert not is_missing(cell)


@pytest.mark.parametrize(
    ("words", "cell", "value"),
    [
        (RECEPTOR, "POSITIVE", True),
        (RECEPTOR, "\u2212", False),  # a minus sign, as Word writes it
        (FISH, "Not-Amplified", False),
        (FISH, "not  amplified", False),
        (MALIGNANT, "Benign", False),
        (SIDE, "Rechts", "right"),
        (SUBTYPE, "Triple_Negative", "triple_negative"),
        (SUBTYPE, "luminal-B", "luminal_b"),
        (DENSITY, "BI-RADS C", "c"),
        (DENSITY, "4", "d"),
    ],
)
def test_words_have_their_value_whatever_their_case_hyphens_and_blanks(words, cell, value):
    assert look_up(cell, words) == value


def test_an_unknown_word_is_no_value():
    with pytest.raises(KeyError):
        look_up("perhaps", RECEPTOR)


def test_no_word_is_both_a_value_and_missing():
    for words in (RECEPTOR, FISH, MALIGNANT, SIDE, SUBTYPE, DENSITY):
        assert not [word for word in words if is_missing(word)]


@pytest.mark.parametrize(
    ("cell", "comma", "value"),
    [("12.5", False, 12.5), (" 12,5 ", True, 12.5), ("12.5", True, 12.5), ("-3e2", False, -300)],
)
def test_numbers(cell, comma, value):
    assert parse_number(cell, decimal_comma=comma) == value


@pytest.mark.parametrize(
    ("cell", "comma"), [("12,5", False), ("1.234,5", True), ("1_000", False), ("inf", False), ("nan", False)]
)
def test_what_is_ambiguous_or_no_finite_number_is_refused(cell, comma):
    with pytest.raises(ValueError, match=r".+"):
        parse_number(cell, decimal_comma=comma)
