"""A round's record: sums of its sites, who is still to evaluate it, and journals of versions before and after."""

import json
from functools import reduce
from operator import add

import pytest

from server.run_folder.round_record import (
    RoundRecord,
    SiteEntry,
    chosen_record,
    read_record,
    read_records,
    record_bytes,
)
from shared.errors import RunError
from shared.metrics.sums import Moments, Sums
from shared.tasks import task_named

TASK = "lesion-segmentation"
LESIONS, RECEPTORS = task_named("lesion-segmentation"), task_named("receptor-status")


def entry(dice=None, cases=1, status="accepted", **options):
    flat = Sums({"n": cases, "dice": Moments(cases, dice * cases, dice**2 * cases)}).to_flat() if dice else None
    return SiteEntry(status, validation=flat, **options)


def written(tmp_path, raw, name="round-001.json"):
    file = tmp_path / "journal" / TASK / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(raw))
    return file


def test_a_record_reads_back_as_it_was_and_rounds_come_in_order(tmp_path):
    records = [
        RoundRecord(TASK, 0, "start", 0.0, seed=7),
        RoundRecord(TASK, 2, "h2", 1.5, {"a": entry(0.5, skipped=1), "b": entry(status="absent", reason="late")}),
        RoundRecord(TASK, 10, "h10", 2.0, {"a": entry(0.6)}, {"a": SiteEntry("accepted", cases=1, attempts=2)}, 7),
    ]
    for record in reversed(records):
        written(tmp_path, json.loads(record_bytes(record)), f"round-{record.round:03d}.json")
    assert read_records(tmp_path, TASK) == records
    assert read_records(tmp_path, "receptor-status") == []


def test_the_validation_dice_pools_cases_not_sites():
    record = RoundRecord(TASK, 1, "h", 0.0, {"a": entry(0.8, 3), "b": entry(0.4, 1), "c": entry(status="absent")})
    assert record.validation().moments("dice").mean == pytest.approx(2.8 / 4)
    assert record.sums("a").n == 3
    assert record.sums("c") == Sums()
    assert RoundRecord(TASK, 1, "h", 0.0).validation() == Sums()


def test_a_round_is_evaluated_when_everybody_who_was_asked_answered():
    def unevaluated(number=1, **evaluated):
        return RoundRecord(TASK, number, "h", 0.0, {"a": entry()}, evaluated).is_unevaluated()

    assert unevaluated()
    assert unevaluated(a=entry(), b=entry(status="absent"))
    assert not unevaluated(a=entry(), b=entry())
    assert not unevaluated(number=0)  # the start is nobody's model yet


OLD = {
    "task": TASK,
    "round": 1,
    "model_hash": "h",
    "seconds": 1.0,
    "sites": {
        "a": {
            "status": "accepted", "reason": "", "cases": 24, "seconds": 3.0, "loss": 0.4, "attempts": 1, "skipped": 0,
            "validation": {
                "n": 2.0, "failures": 1.0, "dice.n": 2.0, "dice.total": 1.2, "dice.squares": 0.8,
                "hd95_mm.n": 1.0, "hd95_mm.total": 3.0, "hd95_mm.squares": 9.0, "voxels_tp": 900.0, "lesions_tp": 2.0,
                "lesions_fp": 0.0, "lesions_fn": 1.0,
            },
        },
        "b": {"status": "absent", "reason": "late", "unheard_of": 3},
    },
    "judged": {"a": {"status": "accepted", "cases": 2}},
    "strategy": "fedavg",
}  # fmt: skip


def test_a_journal_of_before_is_read_with_the_ledger_that_it_calls_judged(tmp_path):
    record = read_record(written(tmp_path, OLD))
    assert record.evaluated["a"].cases == 2
    assert not record.is_unevaluated()
    assert record.seed is None
    sums = record.sums("a")
    # What both versions know is read, the rest passed over; what this one has beyond is zero.
    assert (sums.n, sums.moments("dice").mean, sums.count("lesions_fn")) == (2, 0.6, 1)
    assert sums.moments("specificity").n == sums.count("voxels_tp") == 0
    assert record.sites["b"].reason == "late"
    again = json.loads(record_bytes(record))
    assert "judged" not in again
    assert again["evaluated"]["a"]["cases"] == 2


def test_a_classifiers_journal_of_before_chooses_by_the_same_histograms(tmp_path):
    flat = {f"er.{side}.{index:02d}": float(index in places) for side, places in
            (("positives", (18, 12)), ("negatives", (2, 14))) for index in range(20)}  # fmt: skip
    flat |= {"n": 4.0, "er.loss.n": 4.0, "er.loss.total": 2.0, "er.loss.squares": 1.5}
    raw = OLD | {"task": "receptor-status", "sites": {"a": {"status": "accepted", "validation": flat}}}
    record = read_record(written(tmp_path, raw))
    from shared.tasks import task_named

    assert task_named("receptor-status").choice.of(record.validation()) == 0.75


@pytest.mark.parametrize(
    "change",
    [
        {"sites": {"a": {"status": "accepted", "validation": {"n": -1.0}}}},
        {"sites": {"a": {"status": "accepted", "validation": {"n": 1.0, "dice.n": 1.0}}}},
        {"sites": {"a": {"status": "happy"}}},
        {"round": "first"},
    ],
    ids=["negative count", "half a part", "status", "round"],
)
def test_a_damaged_record_names_itself(tmp_path, change):
    with pytest.raises(RunError, match=r"journal/lesion-segmentation/round-001\.json cannot be read"):
        read_record(written(tmp_path, OLD | change))


def test_a_record_that_is_no_json_or_is_not_there_names_itself(tmp_path):
    file = written(tmp_path, OLD)
    file.write_text('{"task": ')
    with pytest.raises(RunError, match=r"round-001\.json cannot be read"):
        read_record(file)
    file.unlink()
    with pytest.raises(RunError, match=r"round-001\.json cannot be read"):
        read_record(file)


def record(number, task=LESIONS, **sites):
    entries = {site: SiteEntry("accepted", validation=sums.to_flat()) for site, sums in sites.items()}
    return RoundRecord(task.name, number, f"h{number}", 1.0, entries)


def outlined(dice, cases=1):
    return Sums({"n": cases, "dice": Moments(cases, dice * cases, dice**2 * cases)})


def scored(*pairs, label="er"):
    return reduce(add, (RECEPTORS.sums({f"truth_{label}": float(t), f"score_{label}": s}) for t, s in pairs))


def test_the_round_is_chosen_by_the_cases_of_all_sites_together_and_the_start_is_none():
    start = RoundRecord(LESIONS.name, 0, "h0", 0.0)
    # Means of sites would choose the first round: 0.65 against 0.6.
    records = [start, record(1, a=outlined(0.9), b=outlined(0.4, 3)), record(2, a=outlined(0.7), b=outlined(0.5, 3))]
    assert chosen_record(records).round == 2
    with pytest.raises(RunError, match="no round was committed"):
        chosen_record([start])


def test_a_round_that_a_site_did_not_evaluate_is_not_chosen():
    assert chosen_record([record(1, a=outlined(0.5), b=outlined(0.5)), record(2, a=outlined(0.9))]).round == 1


def test_thresholds_are_those_of_all_sites_cases_and_none_where_a_class_is_missing():
    chosen = record(
        1, RECEPTORS, a=scored((0, 0.16), (1, 0.81)), b=scored((0, 0.19), (1, 0.97)) + scored((1, 0.9), label="pr")
    )
    assert chosen.thresholds() == {"er": 0.5, "pr": None, "her2": None}
    # Each site alone has other gaps: together the highest negative and the lowest positive part them.
    shifted = record(1, RECEPTORS, a=scored((0, 0.56), (1, 0.97)), b=scored((0, 0.1), (1, 0.66)))
    assert shifted.thresholds()["er"] == 0.6


def test_a_task_without_scores_freezes_nothing():
    assert record(1, a=outlined(0.5)).thresholds() == {}
