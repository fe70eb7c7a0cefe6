"""One invented study with its page for tests that only read it."""

import pytest

from server.reports.figures import vector_files
from server.reports.study.page import build_study_report
from server.run_folder.finished_study import read_finished_study
from tests.server.reports.study.invented_study import make_study


@pytest.fixture(scope="session")
def study_dir(tmp_path_factory):
    folder = make_study(tmp_path_factory.mktemp("study") / "leave-one-out-0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_files, "keep", lambda *_: None)  # fonts take longest; a smaller study's files are tested
        build_study_report(folder)
    return folder


@pytest.fixture(scope="session")
def page(study_dir):
    return (study_dir / "report.html").read_text()


@pytest.fixture
def study(study_dir):
    """The study, for tests that change its tables too."""
    return read_finished_study(study_dir)
