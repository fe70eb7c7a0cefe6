"""The external centre at a node of its own: asked once for all its cases, figures from its sums, nothing of a case."""

import pytest
from flwr.app import ConfigRecord, MetricRecord

from server.evaluation.case_tables import TrainedModels
from server.evaluation.remote_external_validation import validate_at_node
from server.federation.rounds import Federation
from server.run_folder.external_access import read_opened
from server.run_folder.journal import RunFolder
from server.studies.in_process_grid import InProcessGrid
from shared.config.run_config import parse_config
from shared.errors import RunError
from shared.messages.records import read_instruction
from shared.tasks import task_named
from tests.end_to_end.tiny_sites import TASK, site

LESIONS = task_named(TASK)
CONFIG = parse_config(
    {"name": "tiny", "seed": 4, "data": {"root": "none", "sites": ["a", "b"], "external": "x"},
     "model": {"channels": [8, 8], "deep_supervision": 1}, "federation": {"rounds": 1, "retries": 0}}, "tiny"
)  # fmt: skip


class Run:
    """A trained federation of two sites, and a third node that is the external centre, whose answers may be changed."""

    def __init__(self, tmp_path):
        self.seen, self.numbers, self.error = [], {}, ""
        self.folder = RunFolder.create(tmp_path / "one", CONFIG)
        self.federation = Federation(InProcessGrid(self.client, {}, 3), CONFIG, self.folder, lambda *_: None)
        self.federation.register()
        self.records = self.federation.train(LESIONS)
        self.told = []

    def client(self, message, context):
        item = read_instruction(message)
        answer = site(message, context)
        if item.site == "x":
            self.seen.append((message.metadata.message_type, item.split))
            numbers = dict(answer.content["numbers"])
            answer.content["numbers"] = MetricRecord(
                numbers | {key: self.numbers[key] for key in self.numbers if key in numbers}
            )
            answer.content["header"] = ConfigRecord(dict(answer.content["header"]) | {"error": self.error})
        return answer

    def validate(self):
        final = self.records[-1]
        models = {"other": self.folder.model(self.records[0]), final.model_hash: self.folder.model(final)}
        return validate_at_node(
            self.federation.participants, {TASK: TrainedModels(models, final.model_hash)},
            lambda *moment: self.told.append(moment),
        )  # fmt: skip


@pytest.fixture
def run(tmp_path):
    made = Run(tmp_path)
    assert made.federation.participants.external()
    made.seen.clear()
    yield made
    made.folder.release()


def test_every_model_is_evaluated_by_sums_over_all_the_centres_cases(run):
    rows = run.validate()
    assert run.seen == [("query.prepare", "validation"), ("evaluate", "external"), ("evaluate", "external")]
    found = {(row.model_hash, row.metric): row for row in rows}
    dice = found[run.records[-1].model_hash, "dice"]
    assert (dice.value, dice.ci_low, dice.n, dice.arm, dice.role, dice.centre, dice.seed) == (
        0.5, None, 1, "federated", "external", "x", 4,
    )  # fmt: skip
    assert ("other", "dice") in found
    assert run.told == [(0, 2), (1, 2), (2, 2)]
    assert run.folder.flow()["x"] == {"role": "external", "included": {"external": 3}, "excluded": {}}
    assert read_opened(run.folder.path).at_node


def test_a_centre_without_a_usable_case_ends_with_its_reason(run):
    run.numbers = {"included.train": 0, "included.validation": 0}
    with pytest.raises(RunError, match=r"external centre 'x' did not .*no case is usable"):
        run.validate()


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"sums.n": 99}, "99 cases, 0 skipped, of 3 registered"),
        ({"sums.dice.total": 9.0, "sums.dice.squares": 81.0}, "'dice' cannot be 9.0 over 1 cases"),
    ],
)
def test_figures_that_cannot_be_are_refused(run, numbers, words):
    run.numbers = numbers
    with pytest.raises(RunError, match=words):
        run.validate()


def test_a_centre_that_fails_may_be_asked_again_for_the_same_models(run):
    run.error = "RunError: it cannot"
    with pytest.raises(RunError, match="it cannot"):
        run.validate()
    run.error = ""
    assert run.validate()
