"""Logs of both sides: what a line says of an exception, and what it must not."""

import json
import logging

import pytest

from shared.errors import RunError, SiteError, TableError
from shared.runtime.logs import log_to

NAME = "JANE DOE"


@pytest.fixture
def lines(tmp_path):
    def of(write):
        with log_to(tmp_path / "log.jsonl"):
            write(logging.getLogger("shared.here"))
        text = (tmp_path / "log.jsonl").read_text()
        return text, [json.loads(line) for line in text.splitlines()]

    return of


def failing(raise_it):
    def write(log):
        try:
            raise_it()
        except Exception:
            log.exception("case %d failed", 7)

    return write


def test_of_a_librarys_exception_the_class_and_the_frames_are_told_and_never_its_text(lines):
    def read_the_table():
        int(NAME)

    text, (entry,) = lines(failing(read_the_table))
    assert NAME not in text
    assert (entry["level"], entry["message"], entry["exception"]) == ("error", "case 7 failed", "ValueError")
    assert entry["frames"][-1].startswith("tests/shared/runtime/test_logs.py:")
    assert entry["frames"][-1].endswith(" in read_the_table")
    assert "text" not in entry


def test_a_librarys_frames_are_named_within_their_package_and_no_folder_above_is(lines):
    text, (entry,) = lines(failing(lambda: json.loads(NAME)))
    assert entry["frames"][-1].startswith("json/decoder.py:")
    assert "/home" not in text
    assert "/usr" not in text
    assert NAME not in text


def test_an_error_of_ours_keeps_its_text_and_what_caused_it_does_not(lines):
    def open_site():
        try:
            int(NAME)
        except ValueError as error:
            raise RunError("row 3 cannot be read") from error

    text, (entry,) = lines(failing(open_site))
    assert (entry["exception"], entry["text"]) == ("RunError", "row 3 cannot be read")
    assert entry["cause"]["exception"] == "ValueError"
    assert entry["cause"]["frames"][-1].endswith(" in open_site")
    assert NAME not in text


def test_an_exception_that_is_a_messages_argument_is_its_class_unless_it_is_ours(lines):
    def write(log):
        foreign, ours = ValueError(NAME), RunError("no table")
        log.warning("%s and %s", foreign, ours)
        log.warning("%(why)s", {"why": foreign})
        log.warning(foreign)

    text, entries = lines(write)
    assert [entry["message"] for entry in entries] == ["ValueError and no table", "ValueError", "ValueError"]
    assert NAME not in text


def test_of_a_sites_folder_a_log_tells_class_row_and_column(lines):
    def write(log):
        error = TableError(NAME, file="cases.csv", row=3, column="side", cell=NAME)
        log.warning("%s", error)
        failing(lambda: (_ for _ in ()).throw(error))(log)
        log.error("%s", SiteError(NAME))

    text, entries = lines(write)
    assert NAME not in text
    assert "row 3, column 'side'" in entries[0]["message"]
    assert "row 3, column 'side'" in entries[1]["text"]


def test_a_message_of_a_log_holds_no_control_character_once_it_is_read_again(lines):
    _, (entry,) = lines(lambda log: log.warning("node of '%s'", "\x1b]0;x\x07\u202e\x9b\u2069"))
    assert entry["message"] == "node of '\\x1b]0;x\\x07\\u202e\\x9b\\u2069'"


def test_a_log_kept_alone_is_written_nowhere_else_and_loggers_are_as_before_afterwards(tmp_path, caplog):
    logger = logging.getLogger("shared")
    before = (list(logger.handlers), logger.propagate, logger.level)
    with log_to(tmp_path / "log.jsonl", ["shared"], alone=True):
        logging.getLogger("shared.here").info("inside")
    assert (list(logger.handlers), logger.propagate, logger.level) == before
    assert caplog.text == ""
    assert json.loads((tmp_path / "log.jsonl").read_text())["message"] == "inside"
