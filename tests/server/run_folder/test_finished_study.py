"""A finished study's folder: what is missing, short or of another format is refused by name."""

import json

import pandas as pd
import pytest

from server.run_folder.finished_study import read_finished_study
from shared.errors import ConfigError, RunError
from tests.server.reports.study.invented_study import CLASSIFIER, make_study


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("finished") / "study", (CLASSIFIER,))


def test_it_is_read_whole(finished):
    study = read_finished_study(finished)
    assert [task.name for task in study.tasks] == [CLASSIFIER]
    assert study.held_out == study.centres == ("centre-a", "centre-b", "centre-c", "centre-d")
    assert (study.subject, study.confidence, study.seeds) == ("phantom cases", "95%", "2 seeds")
    assert study.flow["centre-d"].listed == 24
    assert len(study.models) == 4 * 2 * 5
    assert set(study.tables.summary["task"]) == {CLASSIFIER}


def test_a_missing_or_short_file_is_named(tmp_path):
    folder = make_study(tmp_path / "study", (CLASSIFIER,))
    curves = pd.read_parquet(folder / "curves.parquet")
    curves.drop(columns="score").to_parquet(folder / "curves.parquet")
    with pytest.raises(RunError, match=r"curves\.parquet lacks score"):
        read_finished_study(folder)
    curves.to_parquet(folder / "curves.parquet")
    opened = (folder / "opened.json").read_text()
    (folder / "opened.json").write_text('{"centre-a": {}}')
    with pytest.raises(RunError, match=r"opened\.json cannot be read"):
        read_finished_study(folder)
    (folder / "opened.json").write_text(opened)
    (folder / "predictions" / f"{CLASSIFIER}.parquet").unlink()
    with pytest.raises(RunError, match=r"is no finished study, as predictions/.* is missing: call `fedbreast study`"):
        read_finished_study(folder)


def test_a_study_of_an_older_or_newer_format_is_refused_in_one_line(tmp_path):
    folder = make_study(tmp_path / "study", (CLASSIFIER,))
    (folder / "format.json").unlink()
    with pytest.raises(
        ConfigError, match="study is of format 1, and this version reads format 2: open it with"
    ) as refused:
        read_finished_study(folder)
    assert "\n" not in str(refused.value)
    (folder / "format.json").write_text(json.dumps({"format": 3}))
    with pytest.raises(ConfigError, match="of format 3"):
        read_finished_study(folder)
    (folder / "format.json").write_text("{")
    with pytest.raises(ConfigError, match=r"format\.json cannot be read"):
        read_finished_study(folder)
