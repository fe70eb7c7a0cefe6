"""Who takes part: plans from merged fingerprints, prepared sites, those that cannot, and a run that goes on."""

import numpy as np
import pytest
from flwr.app import MetricRecord

from server.federation.participants import Participants, Registered
from server.run_folder.journal import RunFolder
from server.studies.in_process_grid import InProcessGrid
from shared.errors import RunError
from shared.messages.records import read_instruction
from shared.modalities import modality_named
from shared.tasks import task_named
from tests.end_to_end.tiny_sites import TASK, fingerprint, site
from tests.server.federation.test_rounds import config

ONE = fingerprint().to_dict()


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder.create(tmp_path / "one", config())
    yield folder
    folder.release()


def changed(kind, changes):
    """The sites, of which some answer one kind of request with other numbers; None takes one out."""

    def client(message, context):
        answer = site(message, context)
        own = changes.get(read_instruction(message).site, {})
        if message.metadata.message_type == kind:
            numbers = dict(answer.content["numbers"]) | own
            answer.content["numbers"] = MetricRecord(
                {key: value for key, value in numbers.items() if value is not None}
            )
        return answer

    return client


def participants(folder, client=site, settings=None):
    settings = settings or config()
    return Participants(InProcessGrid(client, {}, 3), settings, folder, lambda *_: None)


def test_registered_sites_have_a_plan_of_the_merged_fingerprint_and_their_counts(folder):
    here = participants(folder)
    here.register()
    assert [item.name for item in here.sites] == ["site-0", "site-1", "site-2"]
    assert here.lost == {}
    assert here.plans == folder.plans()
    assert here.plans["mri"].spacing_mm == pytest.approx(tuple(fingerprint_spacing()), rel=0.1)
    assert here.sites[0].counts(task_named(TASK)) == {"": 2}
    flow = folder.flow()
    assert flow["site-1"]["included"] == {"train": 2, "validation": 1, "test": 0}
    assert flow["site-1"]["role"] == "training"


@pytest.mark.parametrize("kind", ["query.fingerprint", "query.prepare"])
def test_a_claim_above_what_was_agreed_at_provisioning_is_refused(folder, kind):
    folder.write_most_cases({"site-0": 2, "site-1": 1, "elsewhere": 1})
    if kind == "query.prepare":
        # As of a resumed run, whose sites are not asked for fingerprints again.
        modality = modality_named("mri")
        folder.write_plans({"mri": modality.make_plan(fingerprint(), config())})
    here = participants(folder)
    here.register()
    assert [item.name for item in here.sites] == ["site-0", "site-2"]
    reason = "claims 2 training cases, at most 1 were agreed in the consortium's file"
    assert here.lost["site-1"].reason == reason


def test_a_fingerprint_of_a_hundred_thousand_cases_does_not_choose_the_plan_alone(folder):
    claimed = 100_000
    numbers = {f"fingerprint.mri.{name}": [claimed * x for x in values] for name, values in ONE.items()}
    spacing = np.roll(np.reshape(numbers["fingerprint.mri.spacing"], (3, -1)), -250, axis=1)  # far finer
    numbers["fingerprint.mri.spacing"] = spacing.ravel().tolist()
    here = participants(folder, changed("query.fingerprint", {"site-1": numbers}))
    here.register()
    assert here.plans["mri"].spacing_mm == pytest.approx(fingerprint_spacing(), rel=0.1)
    assert "prepared 2 training cases, but its fingerprint counts 100000" in here.lost["site-1"].reason


def fingerprint_spacing():
    assert fingerprint().n == 1
    return (2.0, 2.0, 2.0)


def test_counts_of_labels_that_own_parameters_are_zero_where_a_site_has_none():
    item = Registered("a", {}, {"receptor-status": 5, "receptor-status/er": 4})
    assert item.counts(task_named("receptor-status")) == {"": 5, "er": 4, "pr": 0, "her2": 0}
    assert item.counts(task_named(TASK)) == {"": 0}


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("query.prepare", {"included.train": 0}, "no training case is left"),
        ("query.prepare", {"included.train": -1}, "'included.train': input should be greater than or equal to 0"),
        ("query.prepare", {"labelled.JANE DOE": 3}, "not the agreed form"),
        ("query.prepare", {"included.validation": None}, "does not count its cases of each split"),
        ("query.prepare", {f"labelled.{TASK}": 3}, "counts more labelled cases than its 2 training cases"),
        ("query.prepare", {f"labelled.{TASK}": 2**29}, "input should be less than or equal to 1048576"),
        ("query.prepare", {"included.train": 1}, "prepared 1 training cases, but its fingerprint counts 2"),
        ("query.prepare", {"included.train": 3}, "prepared 3 training cases, but its fingerprint counts 2"),
        ("query.prepare", {"included.train": 2**20}, "takes at most 349525 of each"),
        ("query.fingerprint", {"round": 3}, "a replay"),
    ],
)
def test_a_site_that_cannot_take_part_is_lost_with_its_reason_and_the_others_go_on(folder, kind, change, reason):
    here = participants(folder, changed(kind, {"site-1": change}))
    here.register()
    assert [item.name for item in here.sites] == ["site-0", "site-2"]
    assert reason in here.lost["site-1"].reason
    assert "JANE" not in here.lost["site-1"].reason


def test_too_few_sites_end_the_run_with_everybodys_reason(folder):
    lost = {"site-0": {"included.train": 0}, "site-1": {"included.train": 0}}
    here = participants(folder, changed("query.prepare", lost), config(min_sites=2))
    with pytest.raises(RunError, match=r"1 of 3 sites can take part, federation.min_sites is 2 \(site-0: no training"):
        here.register()


def test_a_run_that_goes_on_keeps_its_plan_and_a_site_with_other_cases_is_not_taken(folder):
    first = participants(folder)
    first.register()
    again = participants(folder, changed("query.prepare", {"site-2": {"included.train": 9}}))
    again.register()
    assert again.plans == first.plans
    assert "its cases changed since the run began" in again.lost["site-2"].reason


def test_more_left_out_than_a_site_allows_is_told(folder, caplog):
    here = participants(folder, changed("query.prepare", {"site-0": {"over_policy": 1}}))
    here.register()
    assert folder.flow()["site-0"]["over_policy"] is True
    assert "over_policy" not in folder.flow()["site-1"]
    assert "site-0: more cases are left out than the site's policy allows" in caplog.text


def test_a_centre_that_trains_is_no_external_one(folder):
    here = participants(folder)
    here.register()
    assert not here.external()


def test_a_case_that_was_fingerprinted_and_could_not_be_prepared_is_counted_with_its_reason(folder):
    one_left_out = {"included.train": 1, f"labelled.{TASK}": 1, "excluded.empty_mask": 1}
    here = participants(folder, changed("query.prepare", {"site-1": one_left_out}))
    here.register()
    assert here.lost == {}
