"""The command line: what is refused, how it is said, and that help needs nothing heavy."""

import csv
import errno
import getpass
import os
import platform
import pwd
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.commands import cli
from server.run_folder.journal import RunFolder
from shared.config.run_config import parse_config
from shared.errors import StudyError
from shared.modalities import modality_named
from shared.phantom.generate import PhantomSettings, make_patient, write_site
from shared.tasks import TASKS
from tests.calling import told
from tests.server.commands.conftest import TOY

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("command", ["", "demo", "run", "phantom", "check", "report", "study"])
def test_help_shows_an_example_and_loads_nothing_heavy(command):
    code = (
        "import sys; from server.commands.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'monai', 'SimpleITK', 'pandas', 'matplotlib', 'flwr', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    arguments = [*([command] if command else []), "--help"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (f"fedbreast {command}" if command else "phantom") in done.stdout


def test_help_tells_what_a_positional_argument_is():
    """Under click 8.5 typer 0.20 printed the argument's name and nothing else."""
    shown = CliRunner(env={"COLUMNS": "120"}).invoke(cli.app, ["run", "--help"]).output
    (line,) = [line for line in shown.splitlines() if "[CONFIG]" in line and "Usage" not in line]
    assert "The run's TOML file" in line


def test_the_version_is_the_packages(call):
    from importlib.metadata import version

    code, out, _ = call("--version")
    assert (code, out.strip()) == (0, f"fedbreast {version('fedbreast')}")
    assert call("version")[:2] == (code, out)


def test_the_long_version_has_the_hash_that_hospitals_approve_and_the_libraries(call, monkeypatch):
    from importlib.metadata import version

    from shared.runtime.app_bundle import open_bundle

    monkeypatch.setenv("FEDBREAST_ROOT", str(ROOT))
    code, out, _ = call("version", "--verbose")
    first, content, *others = out.splitlines()
    assert (code, first) == (0, f"fedbreast {version('fedbreast')}")
    assert content == f"content hash {open_bundle(ROOT).sha256} of {ROOT}"
    assert {f"torch {version('torch')}", f"flwr {version('flwr')}", f"python {platform.python_version()}"} <= set(
        others
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (TOY + "[training]\nlearning_rat = 0.1\n", ["training.learning_rat", "training.learning_rate"]),  # scenario 66
        (TOY.replace("centre-d", "centre-a"), ["data", "centre-a", "cannot evaluate"]),  # scenario 69
        (TOY.replace('root = "sites"\n', ""), ["'data.root' is missing"]),
        (TOY + "[federation\n", ["toy.toml", "TOML"]),
        (TOY, ["'sites' does not exist", "[data.phantom]"]),
    ],
    ids=["66-unknown-key", "69-external-trains", "missing-key", "no-toml", "no-data"],
)
def test_a_configuration_that_cannot_be_meant_is_refused_in_one_line(call, tmp_path, change, words):
    (tmp_path / "toy.toml").write_text(change)
    code, out, err = call("run", "toy.toml")
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not [word for word in words if word not in err]
    assert not (tmp_path / "runs").exists()


def test_a_configuration_that_is_not_there_names_those_that_are(call):
    code, _, err = call("run", "tyo.toml")
    assert code == 2
    assert "found there: toy.toml" in err


def test_a_run_to_resume_that_is_not_there_names_those_that_are(call, tmp_path):
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "config.toml").write_text(TOY)
    code, _, err = call("run", "--resume", "frist")
    assert code == 2
    assert "no run 'frist' to resume; there are: first" in err
    assert not (tmp_path / "runs" / "frist").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "toy.toml", "--name", "first"], "already holds a run"),
        (["run", "toy.toml", "--name", "../away"], "without slashes"),
        (["run", "toy.toml", "--resume", "first"], "give it alone"),
        (["run", "--resume", "first", "--seed", "1"], "give it alone"),
        (["study", "toy.toml", "--seeds", "1;2"], "whole numbers with commas"),
        (["study", "toy.toml", "--held-out", "centre-x"], "study.held_out names centre-x"),
        (["study", "toy.toml", "--arms", "local,best"], "Input should be 'local', 'federated'"),
        (["study", "toy.toml"], "data.root 'sites' does not exist below"),
        (["run", "toy.toml", "--held-out", "centre-x"], "no centre 'centre-x' to hold out"),
        (["report", "runs/none"], "there is no run folder"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(call, tmp_path, arguments, words):
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "config.toml").write_text(TOY)
    code, _, err = call(*arguments)
    assert code == 2
    assert words in err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["first"]  # and nothing was begun


def test_a_report_of_an_unfinished_run_fails_with_the_reason(call, tmp_path):
    RunFolder.create(tmp_path / "runs" / "first", parse_config(tomllib.loads(TOY), "toy")).release()
    code, _, err = call("report", "runs/first")
    assert code == 1
    assert err.startswith("error: ")


def test_the_demo_runs_the_quick_recipe_and_makes_phantoms_anew_only_over_phantoms(call, tmp_path, launched):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quick.toml").write_text(TOY.replace("toy", "quick") + "[data.phantom]\n")
    (tmp_path / "sites" / "scan.dcm").write_text("")
    code, _, err = call("demo", "--fresh")
    assert code == 2
    assert "holds no phantom and is left alone" in err
    assert (tmp_path / "sites" / "scan.dcm").exists()
    (tmp_path / "sites" / "phantom.json").write_text("{}")
    (tmp_path / "sites" / "centre-a" / ".phantom").mkdir(parents=True)
    code, _, err = call("demo", "--fresh")  # the phantom goes, and what else lies there stays
    assert code == 2
    assert "holds files that are no phantom" in err
    assert sorted(path.name for path in (tmp_path / "sites").iterdir()) == ["centre-b", "centre-d", "scan.dcm"]
    shutil.rmtree(tmp_path / "sites")
    code, _, _ = call("demo")
    assert not code
    assert launched[0][0] == tmp_path / "configs" / "quick.toml"


def test_phantoms_are_written_as_asked(call, tmp_path, monkeypatch):
    from shared.phantom import generate

    asked = []

    def pretend(root, settings, on_progress):
        on_progress(1, 2)
        asked.append((root, settings))

    monkeypatch.setattr(generate, "generate_federation", pretend)
    code, _, _ = call("phantom", "out", "--cases-per-site", "3", "--seed", "9", "--shift", "0")
    assert not code
    wanted = PhantomSettings(cases_per_site=3, cases_external=120, shift=0.0, separation=0.75, seed=9)
    assert asked == [(Path("out"), wanted)]


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom")
    settings = PhantomSettings(cases_per_site=2, cases_external=2)
    for index in range(2):
        make_patient(root, "A", index, settings)
    write_site(root, "A", settings)
    return root


def test_check_reads_every_case_and_exits_3_above_the_limit(call, sites, monkeypatch, tmp_path):
    site = sites / "centre-a"
    code, out, _ = call("check", site)
    assert not code
    assert "centre-a (PHANTOM): 2 cases, 2 usable, 0 left out" in out
    assert "usable" in out
    identifiers = [line.split(",")[0] for line in (site / "cases.csv").read_text().splitlines()[1:]]

    modality = modality_named("mri")

    def broken(case, seen):
        if case.row.row == 3:
            raise StudyError("missing_slices", "a gap of 4 mm")
        modality.check(case, seen)

    monkeypatch.setattr("shared.modalities.mri.mri.MODALITY", replace(modality, check=broken))
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "another"))  # the cases are known otherwise
    code, out, err = call("check", site)
    assert code == 3
    assert "1 of 2 left out" in err
    assert "left out: missing_slices, 1 (rows 3)" in out
    assert "There is a gap between slices. Export the whole exam again." in out
    assert "a gap of 4 mm" in out
    assert not [item for item in identifiers if item in out]

    assert call("check", site, "--max-excluded-share", "0.5")[0] == 0
    code, _, err = call("check", site, "--max-excluded-share", "0.4")
    assert code == 3
    assert "1 of 2 left out: more than the limit of 40%" in err


def test_check_names_the_rows_whose_tissue_masks_cannot_be_read_and_keeps_the_cases(call, sites):
    table = sites / "centre-a" / "cases.csv"
    text = table.read_text()
    code, out, _ = call("check", sites / "centre-a")
    assert not code
    assert "breast-segmentation" not in out
    head, first, *others = text.splitlines(keepends=True)
    table.write_text("".join([head, first.replace("/fibroglandular.nii.gz", "/elsewhere.nii.gz"), *others]))
    code, out, _ = call("check", sites / "centre-a")
    table.write_text(text)
    assert not code
    assert "left out of tasks that need masks of tissues; other tasks use the case. (rows 2)" in out
    assert "no_mask" in out
    assert "elsewhere" not in out


@pytest.mark.parametrize(
    ("cells", "words", "usable"),
    [
        ({"side": {"left": "right", "right": "left"}.get}, "left out: no_breast_found", 1),
        (
            {"mask": lambda _: ""},
            "Without a lesion's mask: left out of tasks that outline or read lesions. (rows 2)",
            2,
        ),
        ({"mask": lambda _: "", "breast_mask": lambda _: ""}, "left out: no_mask", 1),
        ({"modality": lambda _: "MG"}, "left out: no_images", 1),  # its folder holds no mammogram
    ],
)
def test_check_says_of_a_row_what_a_run_does_with_it(call, sites, cells, words, usable):
    table = sites / "centre-a" / "cases.csv"
    text = table.read_text()
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = [*rows[0], *(name for name in cells if name not in rows[0])]
    rows[0] |= {name: change(rows[0].get(name)) for name, change in cells.items()}
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    code, out, _ = call("check", sites / "centre-a")
    table.write_text(text)
    assert code == (0 if usable == 2 else 3)
    assert words in out
    assert f"2 cases, {usable} usable" in out


def test_check_of_a_site_without_a_usable_case_ends_with_4(call, sites):
    table = sites / "centre-a" / "cases.csv"
    text = table.read_text()
    table.write_text(text.replace("/lesion", "/elsewhere"))
    code, _, err = call("check", sites / "centre-a")
    table.write_text(text)
    assert code == 4
    assert "no case is usable: a run would leave this site out" in err


def test_check_of_a_folder_that_is_no_site_says_which_was_meant(call, sites, tmp_path):
    code, _, err = call("check", sites)
    assert code == 2
    assert "1 site folders (centre-a)" in err
    code, _, err = call("check", tmp_path / "nowhere")
    assert code == 2
    assert "does not exist" in err


def test_h12_what_a_command_writes_is_its_users_alone(tmp_path, monkeypatch):
    def command():
        (tmp_path / "pictures").mkdir()
        (tmp_path / "pictures" / "case.png").write_bytes(b"")

    monkeypatch.setattr(cli, "app", command)
    before = os.umask(0o022)
    try:
        cli.main()
    finally:
        os.umask(before)
    assert (tmp_path / "pictures").stat().st_mode & 0o077 == 0
    assert (tmp_path / "pictures" / "case.png").stat().st_mode & 0o077 == 0


def test_a_place_that_cannot_be_written_is_told_in_one_line(call, monkeypatch):
    def refused():
        raise PermissionError(errno.EACCES, "Permission denied", "/sys/x")

    monkeypatch.setattr(cli, "app", refused)
    code, _, err = call()
    assert code == 1
    assert err.strip() == (
        "error: /sys/x: Permission denied; name another place, or change what this user may do there"
    )


def test_check_reads_the_label_columns_of_every_task_as_a_run_does(call, tmp_path, phantom_root, monkeypatch):
    monkeypatch.setitem(TASKS, "lesion-grade", "tests.end_to_end.toy_grade")
    shutil.copytree(phantom_root / "centre-a", tmp_path / "site", symlinks=True)
    table = tmp_path / "site" / "cases.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{head},Grade3", f"{rows[0]},hig", *(f"{row},yes" for row in rows[1:])]) + "\n")
    code, _, err = call("check", tmp_path / "site")
    assert code == 2
    assert "row 2, column 'grade3'" in err
    assert "hig" not in err.replace("higher", "")


def test_an_account_without_a_name_is_given_one_for_the_libraries_that_ask(monkeypatch, capsys):
    """In a container the account often has no line in /etc/passwd, and HOME and LOGNAME are unset or meaningless."""

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(KeyError):
        getpass.getuser()
    told(monkeypatch, capsys, "report", "nowhere")
    assert getpass.getuser() == f"uid-{os.getuid()}"
