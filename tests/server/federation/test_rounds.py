"""The loop of a federation on sites without images: rounds in order, who is missing, resumes, what is told."""

from collections import Counter

import numpy as np
import pytest
from flwr.app import ConfigRecord, MetricRecord

from server.federation.rounds import Federation
from server.run_folder.journal import RunFolder
from server.run_folder.round_record import chosen_record
from server.studies.in_process_grid import InProcessGrid
from shared.config.run_config import parse_config
from shared.errors import RunError
from shared.messages.payload import flatten
from shared.messages.records import read_instruction
from shared.metrics.sums import Sums
from shared.tasks import task_named
from tests.end_to_end.tiny_sites import SUMS, TASK, site

LESIONS = task_named(TASK)


def config(sites=3, rounds=2, seed=0, **federation):
    raw = {
        "name": "tiny",
        "seed": seed,
        "data": {"root": "none", "sites": [f"site-{number}" for number in range(sites)]},
        "model": {"channels": [8, 8], "deep_supervision": 1},
        "federation": {"rounds": rounds, **federation},
    }
    return parse_config(raw, "tiny")


def federation(folder, settings, client=site, told=None, **options):
    said = [] if told is None else told
    grid = InProcessGrid(client, {}, len(settings.data.sites))
    return Federation(grid, settings, folder, lambda *item: said.append(item), **options)


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder.create(tmp_path / "one", config())
    yield folder
    folder.release()


def failing(*names, kind="train", number=None):
    """The sites, of which some answer one kind of request with an error."""

    def client(message, context):
        item = read_instruction(message)
        answer = site(message, context)
        if item.site in names and message.metadata.message_type == kind and number in {None, item.round}:
            header = dict(answer.content["header"]) | {"error": "RunError: it cannot"}
            answer.content["header"] = ConfigRecord(header)
        return answer

    return client


def test_rounds_are_averaged_committed_and_evaluated_with_the_next_one(folder):
    asked = Counter()

    def client(message, context):
        asked[message.metadata.message_type] += 1
        return site(message, context)

    told, evaluated = [], []
    run = federation(folder, config(), client, told, on_evaluated=lambda item: evaluated.append(item.round))
    run.register()
    records = run.train(LESIONS)
    assert [item.round for item in records] == [0, 1, 2]
    # Site n moves every weight by n + 1 ten-thousandths; two cases each: the mean is two.
    first, second = (flatten(folder.model(item)) for item in records[:2])
    np.testing.assert_allclose(second - first, 2e-4, atol=1e-6)
    assert evaluated == [1, 2]
    assert asked["train"] == 6
    assert asked["evaluate"] == 3  # the last model alone: the first was evaluated with the second's training
    assert records[1].validation() == SUMS + SUMS + SUMS
    assert all(not item.is_unevaluated() for item in records)
    texts = [text for *_, text in told]
    assert f"{TASK}, validation mean Dice 0.500" in texts
    assert any(text.startswith(f"{TASK}, round 2: training") for text in texts)
    assert folder.records(TASK) == records
    assert run.participation.missing() == ()


def test_of_every_third_round_and_the_last_alone_the_model_is_evaluated_and_one_of_them_is_chosen(folder):
    asked = Counter()

    def client(message, context):
        item = read_instruction(message)
        asked[message.metadata.message_type, item.round, item.evaluating] += 1
        return site(message, context)

    told = []
    settings = config(rounds=7, evaluate_every=3)
    run = federation(
        folder, settings, client, on_evaluated=lambda item: told.append((item.round, bool(item.evaluated)))
    )
    run.register()
    records = run.train(LESIONS)
    # Round 3's model is evaluated with the training of round 4, that of 6 with 7's, the last alone.
    assert {number for (kind, number, evaluating) in asked if kind == "train" and evaluating} == {4, 7}
    assert asked["evaluate", 7, False] == 3
    assert [item.round for item in records if item.evaluated] == [3, 6, 7]
    assert sorted(told) == [(number, number in {3, 6, 7}) for number in range(1, 8)]
    assert chosen_record(records).round in {3, 6, 7}
    before = dict(asked)
    again = federation(folder, settings, client)
    again.register()
    again.train(LESIONS)  # a finished run that is resumed asks nobody to train or to evaluate what is not due
    assert {key: count for key, count in asked.items() if key[0] in {"train", "evaluate"}} == {
        key: count for key, count in before.items() if key[0] in {"train", "evaluate"}
    }


def test_a_site_that_fails_is_in_the_ledger_and_out_of_the_average(folder):
    run = federation(folder, config(), failing("site-0", number=1))
    run.register()
    records = run.train(LESIONS)
    entry = records[1].sites["site-0"]
    assert (entry.status, entry.cases) == ("failed", 0)
    assert "it cannot" in entry.reason
    moved = flatten(folder.model(records[1])) - flatten(folder.model(records[0]))
    np.testing.assert_allclose(moved, 2.5e-4, atol=1e-6)
    assert all(item.status == "accepted" for item in records[2].sites.values())
    assert run.participation.missing()


def test_too_few_good_answers_end_the_run_and_the_last_round_is_kept(folder):
    run = federation(folder, config(min_sites=2, retries=0), failing("site-0", "site-1", number=2))
    run.register()
    with pytest.raises(RunError, match=r"round 2 of lesion-segmentation has 1 good answers, federation.min_sites is 2"):
        run.train(LESIONS)
    records = folder.records(TASK)
    assert [item.round for item in records] == [0, 1]
    # What was said of its model in passing is kept too.
    assert records[1].evaluated


def test_a_run_goes_on_where_it_broke_off_to_the_same_bytes(tmp_path):
    whole, broken = (RunFolder.create(tmp_path / name, config(rounds=3)) for name in ("whole", "broken"))
    first = federation(whole, config(rounds=3))
    first.register()
    expected = [item.model_hash for item in first.train(LESIONS)]
    second = federation(broken, config(rounds=3, min_sites=3, retries=0), failing("site-2", number=2))
    second.register()
    with pytest.raises(RunError, match="round 2"):
        second.train(LESIONS)
    third = federation(broken, config(rounds=3))
    third.register()
    assert [item.model_hash for item in third.train(LESIONS)] == expected
    for item in (whole, broken):
        item.release()


def test_another_seed_than_the_journals_is_refused(folder):
    run = federation(folder, config(rounds=1))
    run.register()
    run.train(LESIONS)
    other = federation(folder, config(seed=7))
    other.register()
    with pytest.raises(RunError, match=r"was drawn with seed 0, and the run's config\.toml now has 7"):
        other.train(LESIONS)


def test_a_chosen_model_is_tested_by_the_sites_that_have_test_cases(folder):
    def client(message, context):
        answer = site(message, context)
        if message.metadata.message_type == "query.prepare":
            numbers = dict(answer.content["numbers"])
            answer.content["numbers"] = MetricRecord(numbers | {"included.test": int(context.node_id == 2)})
        return answer

    run = federation(folder, config(rounds=1), client)
    run.register()
    (_, record) = run.train(LESIONS)
    sums = run.evaluate(record, folder.model(record))
    assert sums == {"site-1": SUMS}
    assert [row.site for row in run.participation.rows() if row.role == "test"] == ["site-1"]


def test_without_validation_cases_a_round_says_so(folder):
    def client(message, context):
        answer = site(message, context)
        if message.metadata.message_type == "query.prepare":
            answer.content["numbers"] = MetricRecord(dict(answer.content["numbers"]) | {"included.validation": 0})
        return answer

    told = []
    run = federation(folder, config(rounds=1), client, told)
    run.register()
    records = run.train(LESIONS)
    assert records[1].validation() == Sums()
    assert records[1].evaluated == {}
