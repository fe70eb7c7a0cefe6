"""One site's answer with a field at its extremes: it costs that site the round, and never the run (H4, H6, H16).

What may be so is averaged, and moves the average by no more than the bound of docs/threat-model.md.
"""

import json
import math
from itertools import count

import numpy as np
import pytest
from flwr.app import ConfigRecord, MetricRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from server.federation.rounds import Federation
from server.run_folder.journal import RunFolder
from server.studies.in_process_grid import InProcessGrid
from shared.messages.payload import flatten, pack_weights
from shared.metrics.sums import MOST_CASES
from shared.modalities.mri.fingerprint import FIXED, SAMPLES
from shared.tasks import task_named
from shared.training import reach
from tests.end_to_end.tiny_sites import SUMS, TASK, fingerprint, site
from tests.server.federation.test_rounds import config

MISSING = "missing"
LONG = "x" * (1 << 24)
NUMBERS = (0, -1, 2**29, 2**63 - 1, 1.7e308, math.nan, math.inf, -math.inf, [], [0], [2**63 - 1], 0.5, MISSING)
WORDS = ("", LONG, "\x1b[2J", "\u202e", 0, [], b"\xff", MISSING)
KINDS = ("query.register", "query.fingerprint", "query.prepare", "train", "evaluate")
ONE = (
    "round", "cases", "skipped", "loss", "seconds", "over_policy", "evaluation_skipped", "evaluation_seconds", "sites",
)  # fmt: skip
HEADER = tuple(f"header.{field}" for field in ("site", "run", "manifest", "error"))
TOLD = ("phantom", "cases", "disk_mb", "memory_mb", f"labelled.{TASK}")
PREPARED = ("included.train", "included.validation", "included.test", f"labelled.{TASK}", "excluded.empty_mask")
PRINTED = tuple(f"fingerprint.mri.{name}" for name in fingerprint().to_dict())
FIGURES = tuple(f"sums.{name}" for name in SUMS.to_flat())
FIGURES_MISSED, ANSWERS_MISSED = "figures missed", "answers missed"
FIELDS = [
    *((kind, field) for kind in KINDS for field in ONE),
    *(("query.register", f"versions.{name}") for name in ("python", "torch", "numpy")),
    *(("query.register", f"facts.1.{name}") for name in TOLD),
    *(("query.fingerprint", field) for field in PRINTED),
    *(("query.prepare", field) for field in PREPARED),
    *(("evaluate", field) for field in FIGURES),
]
CASES = [(kind, field, value) for kind, field in FIELDS for value in NUMBERS]
CASES += [(kind, field, word) for kind in KINDS for field in HEADER for word in WORDS]
CONFIG = config(rounds=1, retries=0, join_timeout_s=1.0)
_numbers = count()


def whole(value, least=0, most=MOST_CASES):
    return type(value) is int and least <= value <= most


def real(value, least, most):
    return type(value) in {int, float} and least <= value <= most


def inside(kind, field, value):
    """Whether a site could honestly answer this: True, False, or None where either may be or it changes the cases."""
    group, _, name = field.rpartition(".")
    asked_before = kind.startswith("query.")
    if group == "header":
        unused = kind == "query.register" or (name == "manifest" and kind != "train")
        return value == "" if name == "error" else unused and isinstance(value, str) and value != MISSING
    if group == "fingerprint.mri":
        # What another number of cases, or a bin of one case more, contradicts, is refused.
        honest = value == 0 and fingerprint().to_dict()[name][0] == 0
        most = 2 * SAMPLES * FIXED * {"total": 24, "square": 24**2}.get(name, 0)
        return honest if most == 0 else whole(value, -most if name == "total" else 0, most)
    if group.startswith("sums"):
        return None if real(value, 0, 1) else False
    if group == "labelled":
        return None if value in (0, MISSING) else whole(value, 0, 2)
    rules = {
        "facts.1": lambda: whole(value, *{"phantom": (0, 1), "cases": (-1, MOST_CASES)}.get(name, (0, 2**40))),
        "facts.1.labelled": lambda: value == MISSING or whole(value, -1),
        "versions": lambda: False,
        "included": lambda: name != "train" and whole(value, 0, 2),
        "excluded": lambda: value == MISSING or whole(value),
        "sites": lambda: kind != "query.register" and type(value) is list and all(whole(item) for item in value),
        "round": lambda: asked_before and whole(value, 0, 10_000 if kind == "query.register" else 0),
        "cases": lambda: kind != "train" and whole(value),
        "skipped": lambda: whole(value, 0, MOST_CASES if asked_before else 0),
        "loss": lambda: real(value, -1e9, 1e9),
        "seconds": lambda: real(value, 0, 1e7),
        "evaluation_seconds": lambda: real(value, 0, 1e7),
        "over_policy": lambda: whole(value, 0, 1),
        "evaluation_skipped": lambda: whole(value, -MOST_CASES),  # a wrong one is asked for again, alone
    }
    return rules[group or name]()


def changed(numbers, field, value):
    """Numbers of a message with one field changed; of a list that is a fingerprint's, its first number."""
    if value == MISSING:
        numbers.pop(field, None)
    elif field.startswith("fingerprint.") and not isinstance(value, list):
        numbers[field] = [value, *numbers[field][1:]]
        if not all(type(item) is type(value) for item in numbers[field]):
            numbers[field] = [float(item) for item in numbers[field]]
    else:
        numbers[field] = value
    return numbers


def spoilt(kind, field, value):
    """The sites, of which `site-1` answers one kind of request with a field at an extreme."""

    def client(message, context):
        answer = site(message, context)
        asked = message.metadata.message_type
        if context.node_id != 2 or (asked != kind and not (field.startswith("sums.") and asked == "train")):
            return answer
        if field.startswith("header."):
            header = changed(dict(answer.content["header"]), field.removeprefix("header."), value)
            answer.content["header"] = ConfigRecord(header)
        elif not field.startswith("sums.") or "sums.n" in answer.content["numbers"]:
            answer.content["numbers"] = MetricRecord(changed(dict(answer.content["numbers"]), field, value))
        return answer

    return client


def missing(kind):
    """The sites, of which `site-1` misses every request of a kind.

    `FIGURES_MISSED`: every evaluation, also in passing. `ANSWERS_MISSED`: every answer that holds an evaluation.
    """

    def client(message, context):
        answer = site(message, context)
        asked, numbers = message.metadata.message_type, dict(answer.content["numbers"])
        told = "sums.n" in numbers
        if context.node_id != 2:
            return answer
        if kind == FIGURES_MISSED and asked == "train":
            numbers = {name: item for name, item in numbers.items() if not name.startswith("sums.")}
            answer.content["numbers"] = MetricRecord(numbers)
        elif asked == kind or (told and kind in {FIGURES_MISSED, ANSWERS_MISSED}):
            header = dict(answer.content["header"]) | {"error": "RunError: it cannot"}
            answer.content["header"] = ConfigRecord(header)
        return answer

    return client


def outcome(root, client):
    """Hashes of the models, and each round's validation, of a run that ended; its files are JSON, and it resumes."""
    path = root / f"run-{next(_numbers)}"
    chosen = config(rounds=2, retries=0, join_timeout_s=1.0)
    folder = RunFolder.create(path, chosen)
    try:
        federation = Federation(InProcessGrid(client, {}, 3), chosen, folder, lambda *_: None)
        federation.register()
        federation.train(task_named(TASK))
    finally:
        folder.release()
    for file in path.rglob("*.json"):
        json.loads(file.read_text(), parse_constant=lambda word: pytest.fail(f"{word} in a file of the run"))
        assert file.stat().st_size < 100_000
    again, _ = RunFolder.resume(path)
    again.release()
    records = again.records(TASK)
    return [item.model_hash for item in records], [item.validation().to_flat() for item in records]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("extremes")


@pytest.fixture(scope="module")
def expected(root):
    """What comes of the run without a fault, and of those in which `site-1` misses a kind of request."""
    missed = (*KINDS, FIGURES_MISSED, ANSWERS_MISSED)
    return {"": outcome(root, site)} | {kind: outcome(root, missing(kind)) for kind in missed}


def check(root, expected, kind, field, value):
    got, fair = outcome(root, spoilt(kind, field, value)), inside(kind, field, value)
    figures = field.startswith("sums.")
    missed = [expected[name] for name in ((FIGURES_MISSED, ANSWERS_MISSED) if figures else (kind,))]
    if fair is False:
        assert got in missed
    elif fair:
        assert got[0] == expected[""][0]
    else:
        assert got[0] in [item[0] for item in (expected[""], *missed)]


@given(case=st.sampled_from(CASES))
@settings(max_examples=25)  # the slow test below takes all of them
def test_an_answer_out_of_bounds_leaves_the_bytes_of_a_run_that_the_site_missed(root, expected, case):
    check(root, expected, *case)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_field_at_every_extreme(root, expected, kind):
    for case in CASES:
        if case[0] == kind:
            check(root, expected, *case)


def moved(far, signs):
    """The sites, of which `site-1` moves every parameter by `far` times its reach, or sends a number that is none."""

    def client(message, context):
        answer = site(message, context)
        if context.node_id != 2 or message.metadata.message_type != "train":
            return answer
        sent = message.content["weights"]["flat"].numpy()
        step, share = reach(CONFIG.for_task(TASK), message.content["header"]["round"])
        pattern = np.random.default_rng(signs).choice([-1.0, 1.0], len(sent))
        weights = (sent + far * pattern * (step + share * np.abs(sent))).astype(np.float32)
        answer.content["weights"] = pack_weights(weights)
        return answer

    return client


def averages(root, client):
    """The model at the start and after the first round, float64, and what became of `site-1` in it."""
    folder = RunFolder.create(root / f"run-{next(_numbers)}", CONFIG)
    try:
        federation = Federation(InProcessGrid(client, {}, 3), CONFIG, folder, lambda *_: None)
        federation.register()
        start, first = federation.train(task_named(TASK))
        models = [flatten(folder.model(record)).astype(np.float64) for record in (start, first)]
    finally:
        folder.release()
    return *models, first.sites["site-1"].status


@pytest.fixture(scope="module")
def without(root):
    """The averages of a run in which `site-1` misses the round."""
    return averages(root, missing("train"))


@given(
    far=st.one_of(st.floats(1e-3, 3), st.sampled_from([0.999, 1.001, 1e6, 1e30, math.nan, math.inf])),
    signs=st.integers(0, 3),
)
@settings(max_examples=20)
def test_one_of_three_sites_moves_the_average_by_no_more_than_its_share_of_twice_the_reach(root, without, far, signs):
    start, average, status = averages(root, moved(far, signs))
    step, share = reach(CONFIG.for_task(TASK), 1)
    bound = step + share * np.abs(start)
    assert (np.abs(average - start) <= bound).all()
    assert (np.abs(average - without[1]) <= 2 / 3 * bound).all()  # 2 of 6 cases, and both lie within the reach
    if status == "refused":
        assert not far < 0.9999
        assert np.array_equal(average, without[1])
    else:
        assert status == "accepted"
        assert far <= 1.0001
        if far > 0.5:
            assert (np.abs(average - without[1]) > bound / 20).any()


def test_a_site_that_sends_the_model_as_it_came_counts_as_one_that_missed_the_round(root, without):
    _, average, status = averages(root, moved(0.0, 0))
    assert status == "refused"
    assert np.array_equal(average, without[1])
