"""What a site does with an instruction: counts that are kept, models that are its own, what a server may not ask."""

from types import SimpleNamespace

import numpy as np
import pytest

from client import local_round
from shared.cohort.labels import CaseLabels
from shared.config.run_config import parse_config
from shared.errors import UpdateError
from shared.messages.instruction_reply import Instruction
from shared.messages.payload import flatten, manifest_of
from shared.metrics.sums import Sums
from shared.site import Site
from shared.tasks import task_named

TASK = "lesion-segmentation"
CONFIG = parse_config(
    {"name": "t", "data": {"root": "d", "sites": ["north"], "external": "east"},
     "model": {"channels": [8, 8], "deep_supervision": 1}, "training": {"steps_per_round": 1}}, "t"
)  # fmt: skip


def case(number, labels=None):
    draws = np.random.default_rng(number)
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[2:5, 2:5, 2:5] = 1
    image = draws.random((4, 8, 8, 8)).astype(np.float16)
    labels = labels or CaseLabels()
    return SimpleNamespace(key=f"n-p{number}-e-L", labels=labels, mask=mask, image=image, foreground=np.argwhere(mask))


class OwnSite(Site):
    """A site whose cases are prepared already."""

    def prepared(self, _name, _plan):
        return self.kept


def own_site(tmp_path, train=3, validation=0, test=0, name="north"):
    site = OwnSite(tmp_path, name, CONFIG, "run")
    numbers = iter(range(99))
    site.kept = {split: [case(next(numbers)) for _ in range(count)] for split, count in
                 (("train", train), ("validation", validation), ("test", test))}  # fmt: skip
    return site


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))


def instruction(number=1, **changes):
    state = task_named(TASK).learner.build_model(CONFIG.for_task(TASK)).state_dict()
    values = {"weights": flatten(state), "manifest": manifest_of(state), "task": TASK, "split": "train"}
    return Instruction("run", number, {"mri": SimpleNamespace()}, **(values | changes))


def test_a_round_answers_with_weights_of_its_model_and_the_cases_that_were_used(tmp_path):
    sent = instruction()
    reply = local_round.train(own_site(tmp_path), sent)
    assert (reply.site, reply.run, reply.round, reply.cases, reply.skipped) == ("north", "run", 1, 3, 0)
    assert reply.manifest == sent.manifest
    assert reply.weights.shape == sent.weights.shape
    assert not np.array_equal(reply.weights, sent.weights)
    assert reply.labelled == {}
    assert (reply.sums, reply.evaluation_skipped) == (None, 0)
    again = local_round.train(own_site(tmp_path), sent)
    assert np.array_equal(again.weights, reply.weights)


class Lost(SimpleNamespace):
    """A case whose files are gone."""

    @property
    def mask(self):
        raise FileNotFoundError("lost")


def test_skipped_cases_are_counted_and_so_are_the_labels_of_those_that_were_used(tmp_path):
    site = own_site(tmp_path)
    site.kept["train"][1] = Lost(key="n-p1-e-L", labels=CaseLabels(), image=site.kept["train"][1].image)
    reply = local_round.train(site, instruction())
    assert (reply.cases, reply.skipped, reply.labelled) == (2, 1, {TASK: 2})


def test_the_model_is_evaluated_before_it_is_trained_where_it_is_asked_for(tmp_path, monkeypatch):
    seen = []
    zero = Sums.zero(task_named(TASK).kinds)

    def evaluated(task, model, cases, _plan, _config, *, least):
        assert least == 1
        seen.append((flatten(model.state_dict()), [item.key for item in cases]))
        return zero + Sums({"n": len(cases)}), 1

    monkeypatch.setattr(local_round, "evaluate_site", evaluated)
    sent = instruction(evaluating=True)
    reply = local_round.train(own_site(tmp_path, validation=2), sent)
    ((weights, keys),) = seen
    assert np.array_equal(weights, sent.weights)
    assert keys == ["n-p3-e-L", "n-p4-e-L"]
    assert (reply.sums.n, reply.evaluation_skipped, reply.cases) == (2, 1, 3)
    # Without validation cases there is nothing to evaluate.
    assert local_round.train(own_site(tmp_path), sent).sums is None


def test_an_evaluation_that_fails_costs_no_training(tmp_path, monkeypatch):
    def fails(*_, **_least):
        raise MemoryError

    monkeypatch.setattr(local_round, "evaluate_site", fails)
    reply = local_round.train(own_site(tmp_path, validation=2), instruction(evaluating=True))
    assert reply.sums is None
    assert reply.weights is not None


@pytest.mark.parametrize(
    ("split", "name"), [("train", "north"), ("external", "north"), ("validation", "east"), ("", "east")]
)
def test_a_split_that_a_server_may_not_ask_for_is_refused(tmp_path, split, name):
    with pytest.raises(UpdateError, match="not one a server may ask"):
        local_round.evaluate(own_site(tmp_path, name=name), instruction(split=split))


def test_an_external_centre_evaluates_all_its_cases_and_those_of_the_task_alone(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        local_round, "evaluate_site", lambda _t, _m, cases, *_, **_l: (seen.extend(cases), (Sums({"n": 1}), 0))[1]
    )
    site = own_site(tmp_path, 2, 1, 1, name="east")
    site.kept["test"][0].labels = CaseLabels(malignant=False)
    local_round.evaluate(site, instruction(split="external"))
    assert [item.key for item in seen] == ["n-p0-e-L", "n-p1-e-L", "n-p2-e-L"]
    with pytest.raises(UpdateError, match="has no part in training"):
        local_round.train(site, instruction())


@pytest.mark.parametrize("number", [0, 11])
def test_a_round_that_the_run_does_not_have_is_refused(tmp_path, number):
    assert CONFIG.federation.rounds == 10
    with pytest.raises(UpdateError, match=f"round {number} is asked for, the run has 10"):
        local_round.train(own_site(tmp_path), instruction(number))


def test_another_model_another_task_or_no_plan_is_refused(tmp_path):
    site = own_site(tmp_path)
    with pytest.raises(UpdateError, match="other names, shapes or types"):
        local_round.train(site, instruction(manifest="another"))
    with pytest.raises(UpdateError, match="other names, shapes or types"):
        local_round.train(site, instruction(weights=None))
    for value in (np.nan, -np.inf, 65536.0):
        wild = instruction()
        wild.weights[7] = value
        with pytest.raises(UpdateError, match="not numbers below 65536 in magnitude"):
            local_round.train(site, wild)
    with pytest.raises(UpdateError, match="a task that the run does not have"):
        local_round.train(site, instruction(task="receptor-status"))
    with pytest.raises(UpdateError, match="no preprocessing plan"):
        local_round.train(site, Instruction("run", 1, task=TASK))
