"""A round's record: sums of its sites, who is still to evaluate it, and journals of versions before and after."""

import json

import pytest

from server.run_folder.round_record import RoundRecord, SiteEntry, read_record, read_records, record_bytes, record_path
from shared.errors import RunError
from shared.metrics.sums import Moments, Sums

TASK = "lesion-segmentation"


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
        path = record_path(tmp_path, record)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(record_bytes(record))
    assert read_records(tmp_path, TASK) == records
    assert record_path(tmp_path, records[2]).name == "round-010.json"
    assert read_records(tmp_path, "receptor-status") == []


def test_the_validation_dice_pools_cases_not_sites():
    record = RoundRecord(TASK, 1, "h", 0.0, {"a": entry(0.8, 3), "b": entry(0.4, 1), "c": entry(status="absent")})
    assert record.validation().moments("dice").mean == pytest.approx(2.8 / 4)
    assert record.sums("a").n == 3
    assert record.sums("c") == Sums()
    assert RoundRecord(TASK, 1, "h", 0.0).validation() == Sums()


def test_a_round_with_an_absent_site_is_not_complete():
    assert RoundRecord(TASK, 1, "h", 0.0, {"a": entry(), "b": entry()}).is_complete()
    assert not RoundRecord(TASK, 1, "h", 0.0, {"a": entry(), "b": entry(status="absent")}).is_complete()


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
