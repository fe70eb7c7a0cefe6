"""A server that asks a hospital by configurations, weights and plans of its own choice, in real messages."""

import csv
from types import SimpleNamespace

import pytest
import tomli_w
from flwr.app import Message
from flwr.app.metadata import Metadata

from client.app import _answering
from client.policy import hospital_of
from shared.config.run_config import parse_config
from shared.messages.instruction_reply import Instruction
from shared.messages.payload import flatten, manifest_of
from shared.messages.records import read_reply, write_instruction
from shared.modalities import MODALITIES, modality_named
from shared.runtime.audit_log import AUDIT
from shared.tasks import TASKS, task_named
from tests.shared.modalities.test_toy_modality import FOLDER, MODALITY, TASK, write_view


class Attacker:
    """A server that may send what it likes to the node of one hospital with `patients` rows, half of them positive."""

    def __init__(self, folder, images, patients):
        self.data = folder / "north"
        self.data.mkdir()
        site = {"name": "north", "pseudonym_key": "ab" * 16, "images": str(images)}
        (self.data / "site.toml").write_text(tomli_w.dumps({"site": site}))
        self.write([(f"p{number:02d}", number % 2) for number in range(patients)])

    def write(self, patients, pr=()):
        """The hospital's table from now on: ER of each patient, and a positive PR of some."""
        self.patients = patients
        fixed = {"exam": "", "side": "left", "modality": "MG", "mask": ""}
        own = {name: {"er": er, "pr": "positive" if name in pr else ""} for name, er in patients}
        rows = [{"patient_id": name, **fixed, "path": name, **own[name]} for name, _ in patients]
        with (self.data / "cases.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def config(self, external=None, **sections):
        """A configuration of the server's choice."""
        sites = ["south"] if external == "north" else ["north"]
        data = {"root": "none", "sites": sites, **({"external": external} if external else {})}
        fixed = {"name": "attack", "tasks": [TASK], "data": data, "toy_xray": {"side": 5}}
        return parse_config({**fixed, **sections}, "t")

    @property
    def node(self):
        """The hospital's node."""
        return {"data-dir": str(self.data), "site": "north"}

    def site(self, **sections):
        """The hospital's own view: what no server has."""
        return hospital_of(self.node).site(self.data, "north", self.config(**sections), "own")

    def ask(self, action, split="validation", weights=None, external=None, run="attack", level=1200.0, **sections):
        """The hospital's answer to a question with a configuration, weights and a plan of the server's choice."""
        config = self.config(external, **sections)
        view, task = config.for_task(TASK), task_named(TASK)
        state = task.learner.build_model(view).state_dict()
        plan = modality_named(MODALITY).plan(side=5, level=level)
        number = 0 if action == "evaluate" else 1
        flat = flatten(state) if weights is None else weights
        instruction = Instruction(run, number, {MODALITY: plan}, split, flat, manifest_of(state), "north", config, TASK)
        message = Message(write_instruction(instruction), metadata=Metadata(0, "1", 0, 1, "", "", 0.0, 60.0, "query"))
        node = SimpleNamespace(node_config=self.node)
        return read_reply(_answering(action)(message, node), config, TASK)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two views of each patient."""
    folder = tmp_path_factory.mktemp("images")
    for name in (*(f"p{number:02d}" for number in range(60)), "late"):
        for view in (1, 2):
            write_view(folder / name / f"{view}.dcm", {"patient_id": name, "er": 0}, view)
    return folder


@pytest.fixture
def attacker(tmp_path, monkeypatch, images):
    monkeypatch.setitem(MODALITIES, MODALITY, f"{FOLDER}.toy_xray")
    monkeypatch.setitem(TASKS, TASK, f"{FOLDER}.toy_task")
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(AUDIT, str(tmp_path / "audit.jsonl"))
    return lambda patients=60: Attacker(tmp_path, images, patients)
