"""Words from outside: what is escaped, what is refused, and that it cannot get through a page, a log or a table."""

import csv
import json
import unicodedata

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from server.commands.monitor import show_snapshot
from server.deployment.provisioning.consortium_file import load_consortium
from server.monitoring.snapshot import snapshot
from server.run_folder.participation import Participation
from server.run_folder.results import Provenance, ResultRow, write_results
from server.run_folder.round_record import RoundRecord, SiteEntry
from shared.config.run_config import parse_config
from shared.errors import ConfigError, UpdateError
from shared.words import plain, plain_words, refuse_controls
from tests.server.monitoring.conftest import TASK, RunFolder, entry

CONTROLS = "\x1b]0;x\x07\x1b[2J\x7f\x85\x9b\u200b\u202a\u202e\u2028\u2066\u2069\ufeff"


def visible(text, keep="\n"):
    return not [sign for sign in text if unicodedata.category(sign)[0] == "C" and sign not in keep]


@given(st.text())
def test_what_passes_the_gate_is_printable_and_printable_text_is_unchanged(text):
    assert plain(text).isprintable()
    assert plain(plain(text)) == plain(text)
    assert not text.isprintable() or plain(text) == text


def test_a_character_is_shown_as_its_escape_and_words_are_found_at_any_depth():
    assert plain("a\x1b[31mb\u202e\u00e9") == "a\\x1b[31mb\\u202e\u00e9"
    assert plain("a\nb\x07", keep="\n") == "a\nb\\x07"
    assert plain_words({"\x07": [1, None, ("\x9b", 2.5)]}) == {"\\x07": [1, None, ("\\x9b", 2.5)]}


@pytest.mark.parametrize("sign", sorted({sign for sign in CONTROLS if not sign.isprintable()}))
def test_a_configured_word_with_such_a_character_is_refused(tmp_path, sign):
    assert refuse_controls(("a", "b c")) == ("a", "b c")
    with pytest.raises(ValueError, match="cannot be seen"):
        refuse_controls(("a", f"b{sign}"))
    for data in ({"root": f"d{sign}", "sites": ["a"]}, {"root": "d", "sites": [f"a{sign}"]}):
        with pytest.raises(ConfigError, match=r"cannot be seen|should match pattern") as caught:
            parse_config({"name": "t", "data": data}, "t")
        assert visible(str(caught.value))
    file = tmp_path / "CONSORTIUM.toml"
    consortium = {"name": "c", "contact": f"a{sign}", "server": {"address": "localhost"}, "sites": [{"name": "a"}]}
    file.write_text(tomli_w.dumps(consortium), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"contact': .*(cannot be seen|should match pattern)"):
        load_consortium(file)
    with pytest.raises(ConfigError) as caught:
        parse_config({"name": "t", "data": {"root": "d", "sites": ["a"]}, f"k{sign}": 1}, "t")
    assert visible(str(caught.value))


def test_words_of_others_reach_monitor_and_tables_without_control_characters(tmp_path, capsys):
    """A ledger written before names were refused, or by a server that is not ours."""
    name, reason = f"centre-{CONTROLS}", f"because {CONTROLS}"
    run = RunFolder(tmp_path / "runs").start()
    run.progress("train", 1, 4, reason)
    run.commit(1, {name: entry("refused", reason=reason)})
    run.write("sites.json", {"sites": {name: {"state": f"absent{CONTROLS}", "since": 1.0, "reason": reason}}})
    shown = snapshot(run.runs)
    show_snapshot(shown)
    assert visible(json.dumps(shown, ensure_ascii=False))
    printed = capsys.readouterr().out
    assert visible(printed)
    assert "centre-" in printed

    row = {"task": TASK, "arm": "a", "seed": 0, "centre": name, "role": "external", "metric": "dice", "unit": "1"}
    figures = {"value": 0.5, "ci_low": None, "ci_high": None, "n": 3, "model_hash": "h"}
    made = Provenance(name="t", created="2026-01-02T03:04:05+00:00", git="", versions={}, seeds={}, tasks={},
                      seconds=1.0, peak_memory_mb=1.0, phantom=True)  # fmt: skip
    write_results(tmp_path, [ResultRow(**row, **figures)], made)
    ledger = Participation(tmp_path, [name])
    ledger.rounds(TASK, [RoundRecord(TASK, 1, "h", 1.0, {name: SiteEntry("refused", reason)})])
    for file in ("results.csv", "participation.csv"):
        with (tmp_path / file).open(newline="", encoding="utf-8") as stream:
            (line,) = csv.DictReader(stream)
        assert all(map(visible, line.values()))
        assert plain(name) in line.values()
    assert str(UpdateError(f"answers as '{name}'")) == f"answers as '{plain(name)}'"
