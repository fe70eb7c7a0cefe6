"""The hospital's ledger: splits drawn once, sets that differ by nobody or by enough, budgets that survive."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.ledger import Ledger, settle
from shared.config.sections import SplitConfig
from shared.errors import ConfigError, RunError
from shared.policy import Policy

PATIENTS = {f"north-{number:010x}" for number in range(40)}
SHARES = SplitConfig(validation=0.2, test=0.2)


def ledger(tmp_path, now=None, **policy):
    return Ledger(tmp_path / "state" / "ledger.json", Policy(**policy), *([now] if now else []))


def told(names):
    return dict.fromkeys(names, "er=1")


@given(
    st.lists(st.dictionaries(st.integers(0, 30), st.integers(0, 1), max_size=31), min_size=1, max_size=8),
    st.integers(1, 7),
)
def test_any_two_sets_that_are_answered_about_differ_by_nobody_or_by_the_least(wanted, least):
    answered = []
    for tables in wanted:
        items = {f"{patient:02d}:{label}" for patient, label in tables.items()}
        kept = settle(items, answered, least)
        assert kept <= items
        assert not kept or len(kept) >= least
        assert settle(kept, answered, least) == kept  # what was settled is settled
        if kept:
            answered.append(kept)
    for one in answered:
        for other in answered:
            people = [{item[:2] for item in items} for items in (one, other)]
            changed = {item[:2] for item in one ^ other}
            assert not changed or len(changed) >= least
            # Of sums that do not depend on labels those who were corrected are no difference.
            assert not people[0] ^ people[1] or len(people[0] ^ people[1]) >= least


def test_a_few_new_patients_wait_and_enough_of_them_are_let_in(tmp_path):
    names = sorted(PATIENTS)
    book = ledger(tmp_path)
    assert book.admit("mri/validation", told(names[:20])) == set(names[:20])
    assert book.admit("mri/validation", told(names[:24])) == set(names[:20])
    assert book.admit("mri/validation", told(names[:25])) == set(names[:25])
    assert book.admit("mri/test", told(names[:21])) == set(names[:21])  # another set, with nothing before it


def test_where_one_patient_is_gone_or_known_anew_four_more_rest(tmp_path):
    names = sorted(PATIENTS)
    book = ledger(tmp_path)
    before = book.admit("mri/validation", told(names[:20]))
    without = book.admit("mri/validation", told(names[1:20]))
    assert without < before
    assert len(before - without) == 5
    corrected = book.admit("mri/validation", told(names[:20]) | {names[3]: "er=0"})
    assert names[3] not in corrected
    assert len(before - corrected) >= 5
    assert book.admit("mri/validation", told(names[:20])) == before  # what was answered before is answered again


def test_fewer_than_the_least_are_nobody(tmp_path):
    assert ledger(tmp_path).admit("mri/test", told(["a", "b", "c", "d"])) == set()
    assert ledger(tmp_path, least_patients=4).admit("mri/test", told(["a", "b", "c", "d"])) == {"a", "b", "c", "d"}


def test_splits_are_drawn_once_whatever_later_runs_say_of_shares(tmp_path):
    first = ledger(tmp_path).splits(PATIENTS, SHARES)
    assert sorted(first.values()).count("validation") == sorted(first.values()).count("test") == 8
    for share in (0.0, 0.025, 0.5, 0.9):
        assert ledger(tmp_path).splits(PATIENTS, SplitConfig(validation=share, test=0.05)) == first
    new = {f"north-new-{number}" for number in range(200)}
    for name in sorted(new):  # one by one, as they come
        ledger(tmp_path).splits(PATIENTS | {name}, SplitConfig(validation=0.9, test=0.0))
    later = ledger(tmp_path).splits(PATIENTS | new, SplitConfig(validation=0.9, test=0.0))
    assert {name: later[name] for name in PATIENTS} == first
    drawn = [later[name] for name in new]
    assert all(25 <= drawn.count(split) <= 55 for split in ("validation", "test"))  # 40 are expected


def test_another_role_than_the_first_needs_the_hospitals_word(tmp_path):
    ledger(tmp_path).take_role("training")
    ledger(tmp_path).take_role("training")
    with pytest.raises(ConfigError, match="took part as training centre before, and its policy"):
        ledger(tmp_path).take_role("external")
    ledger(tmp_path, both_roles=True).take_role("external")


def test_budgets_of_a_run_and_of_a_month_survive_and_the_month_passes(tmp_path):
    day = datetime(2026, 11, 1, tzinfo=UTC)
    moment = {"now": day}
    limits = {"questions_per_run": 3, "questions_per_month": 5}

    def ask(run):
        ledger(tmp_path, lambda: moment["now"], **limits).count_question(run)  # a new object each time: it is on disk

    for _ in range(3):
        ask("one")
    with pytest.raises(ConfigError, match="allows 3 questions in 31 days under one configuration, and they are spent"):
        ask("one")
    ask("two")
    ask("three")
    with pytest.raises(ConfigError, match="allows 5 questions in 31 days, and they are spent"):
        ask("four")
    moment["now"] = day + timedelta(days=31)
    for _ in range(3):
        ask("one")
    with pytest.raises(ConfigError, match="under one configuration"):
        ask("one")


def test_a_clock_that_goes_forward_and_back_clears_a_budget_once(tmp_path):
    day = datetime(2026, 11, 1, tzinfo=UTC)
    moment = {"now": day}
    book = ledger(tmp_path, lambda: moment["now"], questions_per_run=2, runs_per_month=1)

    def spend():
        for _ in range(2):
            book.count_question("one")
        book.take_plan("one", "mri", f"{moment['now']:%d}")

    spend()
    moment["now"] = day + timedelta(days=32)
    spend()
    for days in (0, 5, 40, 62):  # back, and as time goes on
        moment["now"] = day + timedelta(days=days)
        with pytest.raises(ConfigError, match="they are spent"):
            book.count_question("one")
        with pytest.raises(ConfigError, match="allows 1 preprocessing plans"):
            book.take_plan("one", "mri", "another")
    moment["now"] = day
    with pytest.raises(ConfigError, match="its ledger has seen 2026-12-03: if that clock was wrong, correct 'latest'"):
        book.count_question("one")
    moment["now"] = day + timedelta(days=63)
    spend()


def test_a_run_has_as_many_questions_as_its_configuration_needs_a_few_times_over(tmp_path):
    book = ledger(tmp_path, runs_per_month=2)
    for _ in range(6):
        book.count_question("one", needed=3)
    with pytest.raises(ConfigError, match="allows 6 questions in 31 days under one configuration"):
        book.count_question("one", needed=3)
    book.count_question("two", needed=3)


def test_few_plans_are_taken_and_a_known_one_always(tmp_path):
    book = ledger(tmp_path, runs_per_month=2, plans_per_month=3)
    for run, plan in (("one", "a"), ("one", "b"), ("one", "a"), ("two", "a"), ("two", "c"), ("three", "c")):
        book.take_plan(run, "mri", plan)
    with pytest.raises(ConfigError, match="allows 2 preprocessing plans in 31 days under one configuration: resume"):
        book.take_plan("one", "mri", "c")
    book.take_plan("one", "xray", "c")
    with pytest.raises(ConfigError, match="allows 3 preprocessing plans in 31 days: resume"):
        book.take_plan("three", "mri", "d")
    book.take_plan("one", "mri", "b")

    def full():
        raise RunError("the disk is full")

    roomy = ledger(tmp_path, plans_per_month=9)
    with pytest.raises(RunError, match="full"):
        roomy.take_plan("three", "mri", "d", full)
    roomy.take_plan("one", "mri", "a", full)  # it fills nothing
    roomy.take_plan("three", "mri", "d")  # what was refused was not taken


def test_after_another_export_of_all_images_only_who_came_waits(tmp_path):
    names, book = sorted(PATIENTS), ledger(tmp_path)
    book.admit("mri/train", told(names[:20]))
    anew = dict.fromkeys(names[:21], "other bytes")
    assert book.admit("mri/train", anew) == set(names[:20])
    one_gone = book.admit("mri/train", dict.fromkeys(names[1:20], "more bytes"))
    assert one_gone < set(names[1:20])
    assert len(one_gone) == 15  # four others rest


def test_a_set_that_is_too_small_for_its_purpose_is_not_kept(tmp_path):
    names, book = sorted(PATIENTS), ledger(tmp_path)
    assert book.admit("mri/train", told(names[:9]), needed=10) == set()
    assert book.admit("mri/train", told(names[:11]), needed=10) == set(names[:11])  # nothing was told of the nine


def test_the_ledger_names_no_patient(tmp_path):
    book = ledger(tmp_path)
    book.admit("mri/test", {f"north-{number}": "JANE DOE er=1" for number in range(6)})
    assert "JANE" not in book.path.read_text()


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"questions": 3}', b'{"questions": ["yesterday"]}', b'{"more": 1}'])
def test_nothing_is_answered_where_the_ledger_is_damaged(tmp_path, content):
    book = ledger(tmp_path)
    book.path.parent.mkdir()
    book.path.write_bytes(content)
    with pytest.raises(RunError, match=r"ledger is damaged: put state/ledger\.json back"):
        book.count_question("run")
    assert book.path.read_bytes() == content


def test_at_once_asked_they_lose_no_question(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: ledger(tmp_path).count_question(f"run-{number % 2}"), range(20)))
    entries = json.loads(ledger(tmp_path).path.read_text())
    assert sorted(about for _, about in entries["questions"]) == ["run-0"] * 10 + ["run-1"] * 10
