"""The ledger of who took part, and the one answer to whether all did."""

import csv

from server.run_folder.participation import Participation, missing, round_rows, sentence
from server.run_folder.results import ResultRow
from server.run_folder.round_record import NO_LABEL, RoundRecord, SiteEntry

TASK = "lesion-segmentation"
SITES = ("a", "b")


def record(number, task=TASK, evaluated=None, **sites):
    good = {site: SiteEntry("accepted", "", 5, 1.5, 0.3) for site in SITES}
    return RoundRecord(task, number, f"hash-{number}", 1.0, good | sites, evaluated or {})


def told(*records):
    return missing([row for item in records for row in round_rows(item, SITES)])


def test_a_run_with_every_site_in_every_round_misses_nothing():
    evaluated = {"a": SiteEntry("accepted", "", 1)}
    assert told(record(1, evaluated=evaluated), record(2)) == ()
    assert sentence(()) == ""


def test_rounds_that_a_site_missed_for_one_reason_are_told_together():
    late = SiteEntry("absent", "no answer before the deadline")
    parts = told(record(1, b=late), record(2), record(3, b=late), record(4, b=SiteEntry("refused", "not finite")))
    assert parts == (
        "b was absent in rounds 1, 3 (no answer before the deadline)",
        "b was refused in round 4 (not finite)",
    )
    assert sentence(parts).startswith("finished, but not with every site: b was absent in rounds 1, 3 (no answer")


def test_a_site_without_the_tasks_labels_is_not_missing():
    assert told(record(1, b=SiteEntry("absent", NO_LABEL))) == ()
    # One that the ledger does not know is.
    assert told(RoundRecord(TASK, 1, "h", 1.0, {"a": SiteEntry("accepted")}))


def test_a_skipped_case_and_a_missing_validation_are_told_with_their_task():
    evaluated = {"a": SiteEntry("failed", "died"), "b": SiteEntry("accepted", "", 3, skipped=2)}
    parts = told(
        record(1, a=SiteEntry("accepted", "", 4, skipped=1)),
        record(1, task="receptor-status", evaluated=evaluated),
    )
    assert parts == (
        "a skipped 1 case in round 1 of lesion-segmentation",
        "a did not validate round 1 of receptor-status (died)",
        "b skipped 2 cases validating round 1 of receptor-status",
    )


def test_a_site_absent_from_training_is_not_missed_twice():
    entry = SiteEntry("absent", "its connection is lost")
    assert len(told(record(1, b=entry, evaluated={"b": entry}))) == 1


def test_who_is_away_when_a_model_is_evaluated_with_the_next_training_is_not_missed_twice():
    away = SiteEntry("absent", "no answer before the deadline")
    assert told(record(1, evaluated={"a": SiteEntry("accepted"), "b": away}), record(2, b=away)) == (
        "b was absent in round 2 (no answer before the deadline)",
    )
    assert told(record(1, evaluated={"b": away}), record(2)) == (
        "b did not validate round 1 (no answer before the deadline)",
    )


def test_a_site_without_the_tasks_labels_is_missed_where_it_should_have_evaluated():
    parts = told(record(1, b=SiteEntry("absent", NO_LABEL), evaluated={"b": SiteEntry("failed", "died")}))
    assert parts == ("b did not validate round 1 (died)",)


def test_the_file_names_the_cases_behind_every_model(tmp_path):
    kept = Participation(tmp_path, SITES)
    start = RoundRecord(TASK, 0, "hash-0", 0.0)
    kept.rounds(TASK, [start, record(1, b=SiteEntry("absent", "late, very late", attempts=2))])
    kept.rounds(TASK, [start, record(1), record(2, evaluated={"a": SiteEntry("accepted", "", 1, skipped=1)})])
    kept.tested(record(2), {"b": SiteEntry("accepted", "", 7)})
    common = {"task": TASK, "arm": "federated", "seed": 0, "centre": "x", "role": "external", "unit": "1",
              "value": 0.5, "ci_low": None, "ci_high": None}  # fmt: skip
    kept.external(
        [
            ResultRow(metric="hd95", n=8, model_hash="hash-2", **common),
            ResultRow(metric="dice", n=9, model_hash="hash-2", **common),
            ResultRow(metric="dice", n=9, model_hash="an oracle's", **common),
        ]
    )
    kept.write()
    with (tmp_path / "participation.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["round"], row["site"], row["role"], row["cases"], row["skipped"]) for row in rows] == [
        ("1", "a", "train", "5", "0"),
        ("1", "b", "train", "5", "0"),
        ("2", "a", "train", "5", "0"),
        ("2", "b", "train", "5", "0"),
        ("2", "a", "validation", "1", "1"),
        ("2", "b", "test", "7", "0"),
        ("2", "x", "external", "9", "0"),
    ]
    assert {row["model_hash"] for row in rows if row["round"] == "2"} == {"hash-2"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
