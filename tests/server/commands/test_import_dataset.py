"""`fedbreast import` with a made importer in the table: what it writes is what `check` reads."""

import csv
import sys
from types import ModuleType

import pytest
from typer.testing import CliRunner

from server.commands.cli import app
from shared.cohort import importers
from shared.cohort.importers import ImportedRow, Importer
from tests.calling import told


@pytest.fixture
def made(monkeypatch, tmp_path):
    def read(root):
        with (root / "list.csv").open(newline="") as stream:
            for line in csv.DictReader(stream):
                yield ImportedRow(line["site"], {"patient_id": line["id"], "side": "left", "path": line["id"]})

    module = ModuleType("made_importer")
    module.IMPORTER = Importer("made", "Made set", "CC0", "https://example.org", "list.csv", read)
    monkeypatch.setitem(sys.modules, "made_importer", module)
    monkeypatch.setitem(importers.IMPORTERS, "made", "made_importer")
    (tmp_path / "set" / "p1").mkdir(parents=True)
    (tmp_path / "set" / "list.csv").write_text("id,site\np1,A\n")
    return tmp_path


def output(*arguments):
    result = CliRunner().invoke(app, ["import", *arguments])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_the_list_names_dataset_licence_and_source(made):
    text = output("--list")
    assert all(word in text for word in ("made", "Made set", "CC0", "example.org"))
    assert all(word in text for word in ("cbis-ddsm", "CC BY 3.0", "cmmd", "CC BY 4.0"))


def test_sites_are_written_and_the_next_step_is_told(made):
    text = output("made", str(made / "set"), "--out", str(made / "sites"))
    assert (made / "sites" / "a" / "cases.csv").is_file()
    assert f"next: fedbreast check {made / 'sites' / 'a'}" in text
    assert "then:" not in text  # no configuration of this set is shipped


def test_a_shipped_configuration_is_named_and_where_its_sites_are(made, monkeypatch):
    monkeypatch.setenv("FEDBREAST_ROOT", str(made))
    (made / "configs").mkdir()
    (made / "configs" / "made.toml").write_text('name = "made"\n[data]\nroot = "sites"\nsites = ["a"]\n')
    text = output("made", str(made / "set"), "--out", str(made / "sites"))
    assert text.endswith("then: fedbreast run configs/made.toml")
    text = output("made", str(made / "set"), "--out", str(made / "elsewhere"))
    assert text.endswith(f'configs/made.toml, of a copy with data.root = "{made / "elsewhere"}"')


def test_without_a_folder_the_remedy_is_told(made, monkeypatch, capsys):
    code, text = told(monkeypatch, capsys, "import", "made")
    assert (code, "fedbreast import NAME PATH" in text) == (2, True)


def test_an_unknown_importer_is_refused_with_those_there_are(made, monkeypatch, capsys):
    code, text = told(monkeypatch, capsys, "import", "mama", made)
    assert (code, "there are: cbis-ddsm, cmmd, made" in text) == (2, True)
