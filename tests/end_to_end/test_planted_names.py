"""A patient's name planted wherever a site's data may hold one: nothing that leaves the site has it, and no log."""

import csv
import io
import re
import shutil
import stat
from types import SimpleNamespace

import pydicom
import pytest
from flwr.app import Message
from flwr.app.metadata import Metadata

from client.app import _answering
from server.commands import cli
from shared.cohort.manifest import KNOWN
from shared.config.run_config import parse_config
from shared.messages.instruction_reply import Instruction
from shared.messages.payload import flatten, manifest_of
from shared.messages.records import read_reply, write_instruction
from shared.modalities import modality_named
from shared.runtime.audit_log import AUDIT
from shared.tasks import task_named
from tests.mri_cases import plan_by_hand

NAME = "Zwölfender"
PLANTED = re.compile("zw.{1,8}lfender", re.IGNORECASE)
TASK = "lesion-segmentation"
FREE = {"patient_id", "exam", "path", "mask", "breast_mask", "fibroglandular_mask", "manufacturer"}
"""Columns of free text, where a name is no fault of the table."""

pytestmark = pytest.mark.usefixtures("flower_task")


class Hospital:
    """A phantom site at its node, and all that is said of it to others."""

    def __init__(self, folder, cache, config):
        self.folder, self.cache, self.config = folder, cache, config
        self.replies = []

    def ask(self, action, **changes):
        values = {"site": "centre-a", "config": self.config, "task": TASK, "plans": {"mri": plan_by_hand()}} | changes
        header = Metadata(0, "1", 0, 1, "", "", 0.0, 60.0, "query")
        message = Message(write_instruction(Instruction("run", 1, **values)), metadata=header)
        node = {"data-dir": str(self.folder), "site": "centre-a"}
        answer = _answering(action)(message, SimpleNamespace(node_config=node))
        self.replies.append(repr(dict(answer.content.config_records["header"])))
        self.replies.append(repr(dict(answer.content.metric_records["numbers"])))
        return read_reply(answer, self.config, TASK)

    def table(self, change):
        """Rewrite the table: `change` is given its rows, the header first."""
        path = self.folder / "cases.csv"
        rows = list(csv.reader(io.StringIO(path.read_text())))
        text = io.StringIO(newline="")
        csv.writer(text).writerows(change(rows))
        path.write_text(text.getvalue())

    def refused(self):
        return list((self.cache / "logs").glob("refused-*.txt"))

    def who_is_who(self):
        """Who the rows are, and the names of the columns, written by `fedbreast check` for the data manager alone."""
        return list((self.cache / "checks").glob("*/*.csv"))

    def told(self):
        """Everything but the files for the data manager alone: replies, text in the cache, names, the audit log."""
        own = {*self.refused(), *self.who_is_who()}
        kept = [path for path in self.cache.rglob("*") if path not in own]
        texts = [path.read_text() for path in kept if path.is_file() and path.suffix in {".json", ".jsonl", ".txt"}]
        names = [str(path.relative_to(self.cache)) for path in self.cache.rglob("*")]
        return "\n".join([*self.replies, *names, *texts, (self.cache.parent / "audit.jsonl").read_text()])


@pytest.fixture
def hospital(phantom_root, toy_config, tmp_path, monkeypatch):
    folder = tmp_path / NAME / "centre-a"
    shutil.copytree(phantom_root / "centre-a", folder)
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    monkeypatch.setenv(AUDIT, str(tmp_path / "audit.jsonl"))
    monkeypatch.chdir(tmp_path)
    return Hospital(folder, tmp_path / "cache", parse_config(toy_config(), "toy"))


def check(folder, monkeypatch, capfd, *options):
    """What `fedbreast check` prints."""
    capfd.readouterr()
    monkeypatch.setattr("sys.argv", ["fedbreast", "check", str(folder), *map(str, options)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code, "".join(capfd.readouterr())


def set_cell(column, row=3):
    def change(rows):
        rows[row - 1][rows[0].index(column)] = NAME
        return rows

    return change


@pytest.mark.parametrize("column", [name for name in KNOWN if name not in FREE])
def test_a_name_in_any_column_stays_at_the_site(hospital, column, monkeypatch, capfd, caplog):
    monkeypatch.chdir(hospital.folder.parent)  # so that what is printed need not name the folder
    if column in {"acquisition_times", "split"}:
        hospital.table(lambda rows: [[*row, column if row is rows[0] else ""] for row in rows])
    hospital.table(set_cell(column))
    replies = [hospital.ask(action) for action in ("register", "fingerprint", "prepare", "train")]
    code, shown = check("centre-a", monkeypatch, capfd)
    for reply in replies[1:]:
        assert reply.error.startswith(f"TableError: row 3, column '{column}'")
    assert not PLANTED.search(hospital.told())
    assert not PLANTED.search(shown + caplog.text)
    (file,) = hospital.refused()
    assert code == 2
    assert str(file) in shown
    assert file.read_text() == f"row 3, column '{column}': {NAME}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_row_that_is_shifted_or_a_header_that_is_missing_shows_no_cell(hospital, caplog, capfd):
    original = (hospital.folder / "cases.csv").read_text()
    hospital.table(lambda rows: [rows[0], *([NAME, *row[:-1]] for row in rows[1:])])
    assert "row 2, column" in hospital.ask("prepare").error
    for header in ([NAME], ["patient_id", "side", NAME, NAME], [NAME, f"{NAME} id", "patient"]):
        hospital.table(lambda rows, header=header: [header, *rows[1:]])
        assert hospital.ask("prepare").error.startswith("TableError: row 1")
    (hospital.folder / "cases.csv").write_text(original)
    assert not PLANTED.search(hospital.told() + caplog.text + "".join(capfd.readouterr()))


@pytest.mark.parametrize(
    "text",
    [
        f'[site]\nname = "centre-a"\n"{NAME}" = 1\n',
        f'[site]\nname = "{NAME}"\n',
        f'[site]\nname = "centre-a"\nkind = "{NAME}"\n',
        f'[site]\nname = "centre-a"\nimages = "/{NAME}"\n',
        f'[site]\nname = "centre-a"\nimages = "{NAME}"\n',
        f'["{NAME}"]\n["{NAME}"]\n',
        f"{NAME}",
    ],
)
def test_a_name_in_the_sites_own_settings_stays_at_the_site(hospital, text, caplog, capfd):
    (hospital.folder / "site.toml").write_text(text)
    for action in ("register", "fingerprint", "prepare", "train"):
        reply = hospital.ask(action)
        assert reply.error.startswith("SiteError") or action == "register"
    assert not PLANTED.search(hospital.told() + caplog.text + "".join(capfd.readouterr()))


def test_a_folder_that_is_no_site_is_not_named(hospital, caplog, capfd):
    (hospital.folder / "cases.csv").rename(hospital.folder / f"{NAME}.csv")
    assert hospital.ask("prepare").error.startswith("SiteError")
    shutil.rmtree(hospital.folder)
    assert hospital.ask("train").error.startswith("SiteError")
    assert not PLANTED.search(hospital.told() + caplog.text + "".join(capfd.readouterr()))


def test_names_in_tags_files_and_free_columns_go_through_training_unseen(hospital, monkeypatch, caplog, capfd):
    """Folders and files of that name, damaged ones too, tags, columns of free text: the site trains and tells none."""
    hospital.table(name_everything(hospital.folder))
    hospital.ask("register")
    prints = hospital.ask("fingerprint")
    assert not prints.error
    mri = modality_named("mri")
    plans = {"mri": mri.make_plan(prints.fingerprints["mri"], hospital.config)}
    prepared = hospital.ask("prepare", plans=plans)
    assert not prepared.error
    assert sum(prepared.excluded.values()) == 3  # a slice, a mask and a path
    assert prepared.included["train"] >= 1
    state = task_named(TASK).learner.build_model(hospital.config.for_task(TASK)).state_dict()
    trained = hospital.ask("train", plans=plans, weights=flatten(state), manifest=manifest_of(state))
    assert not trained.error
    assert trained.cases >= 1
    monkeypatch.chdir(hospital.folder.parent)
    page, record = hospital.cache.parent / "check.html", hospital.cache.parent / "check.json"
    code, shown = check("centre-a", monkeypatch, capfd, "--page", page, "--json", record)
    assert code == 3
    assert "left out" in shown
    written = page.read_text() + record.read_text()
    assert "no_images" in written
    assert not PLANTED.search(written)
    for who in hospital.who_is_who():
        assert PLANTED.search(who.read_text())
        assert stat.S_IMODE(who.stat().st_mode) == 0o600
    assert not PLANTED.search(hospital.told() + shown + caplog.text)


def name_everything(folder):
    """Plant the name in all free text; damage a slice of the second case, the third's mask, the fourth's path."""

    def change(rows):
        at = {name: rows[0].index(name) for name in rows[0]}
        for number, row in enumerate(rows[1:], start=1):
            own = f"{NAME}^{number}"
            for column, part in (("path", "dicom"), ("mask", "masks")):
                old = folder / row[at[column]]
                place = folder / part / own
                if not place.exists():
                    (old if column == "path" else old.parent).rename(place)
                row[at[column]] = f"{part}/{own}" + ("" if column == "path" else f"/{old.name}")
            for column in ("breast_mask", "fibroglandular_mask"):
                source = folder / "masks" / own / row[at[column]].rpartition("/")[2]
                target = source.with_name(f"{NAME}-{source.name}")
                source.rename(target)
                row[at[column]] = str(target.relative_to(folder))
            for path in sorted((folder / "dicom" / own).rglob("*")):
                if path.is_file():
                    tag(path)
            row[at["patient_id"]], row[at["manufacturer"]] = own, NAME
        damaged = next((folder / "dicom" / f"{NAME}^2").rglob("IM*"))
        damaged.write_bytes(b"\0" * 128 + b"DICM" + NAME.encode())
        (folder / rows[3][at["mask"]]).write_bytes(NAME.encode())
        rows[4][at["path"]] = f"dicom/{NAME}^absent"
        return [[*rows[0], NAME], *([*row, NAME] for row in rows[1:])]

    return change


def tag(path):
    data = pydicom.dcmread(path)
    data.SpecificCharacterSet = "ISO_IR 192"
    for keyword in ("PatientName", "PatientID", "InstitutionName", "StudyDescription", "SeriesDescription"):
        setattr(data, keyword, NAME)
    for keyword in ("AccessionNumber", "Manufacturer", "ContrastBolusAgent", "OperatorsName", "ProtocolName"):
        setattr(data, keyword, NAME)
    data.save_as(path)
