"""The command line: what is refused, how it is said, and that help needs nothing heavy."""

import io
import json
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from server.commands import cli, display
from server.run_folder.results import Provenance, ResultRow, TrainedTask, write_results
from shared.errors import StudyError
from shared.modalities import modality_named
from shared.phantom.generate import VERSION, PhantomSettings, make_patient, write_site
from shared.runtime import terminal

ROOT = Path(__file__).resolve().parents[3]
TOY = """name = "toy"
[data]
root = "sites"
sites = ["centre-a", "centre-b"]
external = "centre-d"
"""


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Call the command line in an empty project; returns exit code, output and errors."""
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    monkeypatch.setenv("FEDBREAST_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    (tmp_path / "toy.toml").write_text(TOY)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fedbreast", *map(str, arguments)])
        monkeypatch.setattr(terminal, "console", Console(file=sys.stdout, width=120))
        monkeypatch.setattr(terminal, "errors", Console(file=sys.stderr, soft_wrap=True))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run


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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (TOY + "[training]\nlearning_rat = 0.1\n", ["training.learning_rat", "training.learning_rate"]),  # scenario 66
        (TOY.replace("centre-d", "centre-a"), ["data", "centre-a", "cannot judge"]),  # scenario 69
        (TOY.replace('root = "sites"\n', ""), ["'data.root' is missing"]),
        (TOY + "[federation\n", ["toy.toml", "TOML"]),
        (TOY, ["sites does not exist", "[data.phantom]"]),
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


def test_a_report_of_an_unfinished_run_fails_with_the_reason(call, tmp_path):
    (tmp_path / "runs" / "first").mkdir(parents=True)
    code, _, err = call("report", "runs/first")
    assert code == 1
    assert err.startswith("error: ")


@pytest.fixture
def launched(call, tmp_path, monkeypatch):
    """A `run_flower` that writes results; returns what it was called with."""
    calls = []

    def pretend(path, *, run_name, resume="", overrides=None, watch=None):
        from shared.runtime.progress import Progress

        calls.append((path, run_name, resume, dict(overrides or {})))
        watch(Progress("train", 1, 2, "round 2: training", 0.0))
        folder = tmp_path / "runs" / run_name
        folder.mkdir(parents=True, exist_ok=True)
        if calls[-1][3].get("seed") == 666:
            (folder / "config.toml").write_text(TOY)
            raise KeyboardInterrupt
        common = {"task": "lesion-segmentation", "seed": 0, "unit": "1", "n": 9, "ci_low": 0.5, "ci_high": 0.7}
        rows = [
            ResultRow(arm="federated", centre=centre, role=role, metric="dice", value=value, model_hash=model, **common)
            for centre, role, value, model in (
                ("centre-a", "test", 0.11, "best"),
                ("centre-d", "external", 0.625, "best"),
                ("centre-d", "external", 0.33, "final"),
            )
        ]
        provenance = Provenance(
            name=run_name, created=datetime.now(UTC), git="", versions={}, seeds={}, seconds=1.0, peak_memory_mb=1.0,
            tasks={"lesion-segmentation": TrainedTask(best="best", final="final", best_round=4, rounds=4)},
            phantom=True,
            missing=("centre-b was absent in round 3 (late)",) if calls[-1][3].get("seed") == 222 else (),
        )  # fmt: skip
        write_results(folder, rows, provenance)
        flow = {"role": "training", "included": {"train": 2}, "over_policy": calls[-1][3].get("seed") == 333}
        (folder / "cases.json").write_text(json.dumps({"centre-b": flow}))

    import server.deployment.simulation

    monkeypatch.setattr(server.deployment.simulation, "run_flower", pretend)
    (tmp_path / "sites").mkdir()
    return calls


def test_a_run_ends_in_the_external_figures_of_the_best_model(call, tmp_path, launched):
    code, out, _ = call("run", "toy.toml", "--name", "first", "--seed", "4", "--rounds", "2")
    assert not code
    assert launched == [(Path("toy.toml"), "first", "", {"seed": 4, "rounds": 2})]
    assert "training 1/2 round 2: training" in out
    assert "PHANTOM DATA" in out
    assert "round 4" in out
    assert "0.625" in out
    assert "0.5 to 0.7" in out
    assert "0.33" not in out
    assert "0.11" not in out
    assert str(tmp_path / "runs" / "first" / "report.html") in out


def test_a_run_without_a_name_gets_one_and_a_resumed_one_keeps_all(call, tmp_path, launched):
    call("run", "toy.toml")
    assert launched[0][1].startswith("toy-2")
    (tmp_path / "runs" / "first").mkdir()
    (tmp_path / "runs" / "first" / "config.toml").write_text(TOY)
    call("run", "--resume", "first")
    assert launched[1] == (tmp_path / "runs" / "first" / "config.toml", "first", "first", {})


def test_a_run_with_more_left_out_than_a_site_allows_ends_with_3_after_its_figures(call, launched):
    code, out, err = call("run", "toy.toml", "--name", "first", "--seed", "333")
    assert code == 3
    assert "report: " in out
    assert "more cases were left out than centre-b allows" in err


def test_a_run_without_a_site_ends_with_3_and_says_which(call, launched):
    code, out, err = call("run", "toy.toml", "--name", "first", "--seed", "222")
    assert code == 3
    assert "report: " in out
    assert err.strip() == "finished, but not with every site: centre-b was absent in round 3 (late)"


def test_phantoms_of_other_settings_are_refused_before_anything_starts(call, tmp_path, launched):
    (tmp_path / "toy.toml").write_text(TOY + "[data.phantom]\nshift = 0.6\n")
    marker = {"version": VERSION, "settings": asdict(PhantomSettings(shift=1.0)), "complete": True}
    (tmp_path / "sites" / "phantom.json").write_text(json.dumps(marker))
    code, _, err = call("run", "toy.toml")
    assert code == 2
    assert "shift 1.0 there, 0.6 wanted" in err
    assert not launched


def test_a_stopped_run_says_how_to_go_on(call, launched):
    code, _, err = call("run", "toy.toml", "--name", "first", "--seed", "666")
    assert code == 130
    assert err.strip() == "stopped; resume with: fedbreast run --resume first"


def test_the_demo_runs_the_quick_recipe_and_makes_phantoms_anew_only_over_phantoms(call, tmp_path, launched):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quick.toml").write_text(TOY.replace("toy", "quick") + "[data.phantom]\n")
    (tmp_path / "sites" / "scan.dcm").write_text("")
    code, _, err = call("demo", "--fresh")
    assert code == 2
    assert "holds no phantom and is left alone" in err
    assert (tmp_path / "sites" / "scan.dcm").exists()
    (tmp_path / "sites" / "phantom.json").write_text("{}")
    code, _, _ = call("demo", "--fresh")
    assert not code
    assert not (tmp_path / "sites").exists()
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


def test_check_reads_every_case_and_exits_3_above_the_sites_limit(call, sites, monkeypatch):
    site = sites / "centre-a"
    code, out, _ = call("check", site)
    assert not code
    assert "centre-a: 2 cases" in out
    assert "PHANTOM" in out
    assert "usable" in out
    identifiers = [line.split(",")[0] for line in (site / "cases.csv").read_text().splitlines()[1:]]

    modality = modality_named("mri")

    def broken(case):
        if case.row.row == 3:
            raise StudyError("missing_slices", f"of {case.row.patient_id}")
        return modality.check(case)

    monkeypatch.setattr("shared.modalities.mri.mri.MODALITY", replace(modality, check=broken))
    code, out, _ = call("check", site)
    assert not code
    assert "left out: missing_slices" in out
    assert not [item for item in identifiers if item in out]

    text = (site / "site.toml").read_text()
    (site / "site.toml").write_text(text.replace("max_excluded_share = 1.0", "max_excluded_share = 0.4"))
    code, _, err = call("check", site)
    assert code == 3
    assert "1 of 2 left out: more than the site's limit of 40%" in err
    (site / "site.toml").write_text(text)


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
    assert "left out of breast-segmentation alone: 1; other tasks use them" in out
    assert "no_mask" in out
    assert "elsewhere" not in out


def test_check_of_a_folder_that_is_no_site_says_which_was_meant(call, sites, tmp_path):
    code, _, err = call("check", sites)
    assert code == 2
    assert "1 site folders (centre-a)" in err
    code, _, err = call("check", tmp_path / "nowhere")
    assert code == 2
    assert "does not exist" in err


def test_on_a_terminal_a_phase_has_one_bar_which_is_full_once_the_next_began(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=screen, force_terminal=True, width=120))
    with display.bars() as bars:
        shown = display.PhaseBars(bars)
        for moment in (("prepare", 1, 3, "centre-a"), ("train", 0, 2, "round 1"), ("train", 1, 2, "round 2: training")):
            shown.report(*moment)
        state = [(task.description, task.completed, task.total) for task in bars.tasks]
        assert state == [("preparing cases", 3, 3), ("training", 1, 2)]
        assert bars.tasks[1].stop_time is None
        shown.report("failed", 0, 0, "no sites")
        assert (bars.tasks[1].completed, bars.tasks[1].stop_time is None) == (1, False)
    assert "round 2: training" in screen.getvalue()
