"""Errors: their exit codes, their places, and what of them may leave a site."""

import pytest

from shared.errors import (
    EXCLUSION_REASONS,
    LONGEST_ERROR,
    ConfigError,
    FedBreastError,
    RunError,
    SiteError,
    StudyError,
    TableError,
    UpdateError,
    safe_error,
)


@pytest.mark.parametrize(
    ("kind", "code"), [(ConfigError, 2), (SiteError, 2), (RunError, 1), (UpdateError, 1), (FedBreastError, 1)]
)
def test_exit_codes(kind, code):
    assert kind("message").exit_code == code
    assert isinstance(kind("message"), FedBreastError)


def test_a_table_error_says_where(tmp_path):
    error = TableError("blank", file="cases.csv", row=7, column="side")
    assert str(error) == "cases.csv, row 7, column 'side': blank"
    assert str(TableError("empty", file="cases.csv")) == "cases.csv: empty"
    assert (error.file, error.row, error.column, error.exit_code) == ("cases.csv", 7, "side", 2)


def test_a_study_error_begins_with_its_reason():
    error = StudyError("no_mask", "the row names none")
    assert str(error) == "no_mask: the row names none"
    assert error.reason in EXCLUSION_REASONS


def test_only_our_own_messages_leave_a_site():
    assert safe_error(RunError("the loss is not a number")) == "RunError: the loss is not a number"
    assert safe_error(ValueError("could not convert 'Jane Doe'")) == "ValueError"


@pytest.mark.parametrize(
    "message", ["cannot read /data/doe", "'C:\\data\\doe' is missing", "in (/home/x)", "path=/srv/a", "/start"]
)
def test_a_message_with_a_path_stays_at_the_site(message):
    assert safe_error(RunError(message)) == "RunError: its message names a path, see the site's own log"


def test_of_a_sites_folder_class_row_and_column_leave_it_and_of_a_study_its_reason():
    told = "`fedbreast check` at the site says what is wrong"
    error = TableError("'Jane Doe' is no side", file="Jane.csv", row=7, column="side", cell="Jane Doe")
    assert safe_error(error) == f"TableError: row 7, column 'side': {told}"
    assert safe_error(TableError("Jane", file="Jane.csv")) == f"TableError: the table: {told}"
    assert safe_error(SiteError("unknown key 'Jane Doe'")) == f"SiteError: {told}"
    assert safe_error(StudyError("no_mask", "of Jane Doe")) == "StudyError: no_mask"


def test_a_message_holds_no_control_character_whoever_wrote_its_words():
    error = RunError("two\nlines: \x1b[2J \x9b \u202e \u2066 \ud800 \x7f")
    assert str(error) == "two\nlines: \\x1b[2J \\x9b \\u202e \\u2066 \\ud800 \\x7f"
    assert safe_error(error).isprintable()


def test_a_slash_between_words_is_no_path():
    assert safe_error(RunError("5 mm/s and 3/4")).endswith("5 mm/s and 3/4")


def test_a_long_message_is_cut():
    assert len(safe_error(RunError("x" * 10_000))) == LONGEST_ERROR
