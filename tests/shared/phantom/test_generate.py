"""The federation on disk: images, masks and table, determinism, resumption."""

import csv
import hashlib
import json
import shutil

import numpy as np
import pytest

from shared.dicom.masks import read_mask
from shared.errors import ConfigError
from shared.modalities.mri.study import read_study
from shared.phantom.centres import CENTRES
from shared.phantom.exam import make_exam
from shared.phantom.generate import generate_federation
from shared.phantom.marker import MARKER
from shared.phantom.settings import PhantomSettings

SETTINGS = PhantomSettings(cases_per_site=1, cases_external=1, seed=7)


def digest(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("federation")
    calls = []
    generate_federation(root, SETTINGS, on_progress=lambda done, total: calls.append((done, total)), workers=1)
    assert calls == [(done, 4) for done in range(5)]
    return root


@pytest.fixture(scope="module")
def row_of(root):
    tables = {key: (root / centre.site / "cases.csv").read_text(encoding="utf-8") for key, centre in CENTRES.items()}
    return {key: next(csv.DictReader(table.splitlines())) for key, table in tables.items()}


@pytest.mark.parametrize("key", CENTRES)
def test_images_and_masks_are_read_back_as_they_were_made(root, row_of, key):
    exam, row, site = make_exam(key, 0, SETTINGS), row_of[key], root / CENTRES[key].site
    study = read_study(site / row["path"], side=exam.side)
    np.testing.assert_allclose(study.phases, exam.phases, rtol=1e-6)
    assert study.grid.same_space(exam.grid)
    # Where nothing names the time of injection, it is the end of the pre-contrast phase.
    assert np.diff(study.times_s) == pytest.approx(np.diff(exam.times_s), abs=0.2)
    for column, mask in (
        ("mask", exam.lesion),
        ("breast_mask", exam.breast),
        ("fibroglandular_mask", exam.fibroglandular),
    ):
        np.testing.assert_array_equal(read_mask(site / row[column], study.grid), mask)


def test_table_says_what_the_exam_is(root, row_of):
    for key, row in row_of.items():
        exam = make_exam(key, 0, SETTINGS)
        assert (row["patient_id"], row["side"], row["subtype"]) == (exam.patient_id, exam.side, exam.labels.subtype)
        assert (row["phantom"], row["malignant"]) == ("1", "1")
        assert (root / CENTRES[key].site / "preview.png").stat().st_size > 10_000


def test_killed_run_goes_on_and_ends_in_the_same_bytes(root, row_of, tmp_path):
    copy = tmp_path / "federation"
    shutil.copytree(root, copy)
    (copy / MARKER).unlink()
    (copy / "centre-b" / "cases.csv").unlink()
    shutil.rmtree(copy / "centre-b" / row_of["B"]["path"])
    (copy / "centre-b" / ".making-left").mkdir()
    untouched = copy / "centre-a" / row_of["A"]["mask"]
    before = untouched.stat().st_mtime_ns
    calls = []
    generate_federation(copy, SETTINGS, on_progress=lambda *call: calls.append(call), workers=1)
    assert calls == [(3, 4), (4, 4)]
    assert untouched.stat().st_mtime_ns == before
    assert digest(copy) == digest(root)


def test_complete_federation_is_left_alone(root):
    before = digest(root)
    stamp = (root / MARKER).stat().st_mtime_ns
    calls = []
    generate_federation(root, SETTINGS, on_progress=lambda *call: calls.append(call), workers=1)
    assert calls == [(4, 4)]
    assert (root / MARKER).stat().st_mtime_ns == stamp
    assert digest(root) == before


def test_other_settings_are_refused_with_the_remedy(root):
    with pytest.raises(ConfigError, match=r"shift 0\.6 there, 1\.0 wanted.*choose another folder"):
        generate_federation(root, PhantomSettings(1, 1, shift=1.0, seed=7), workers=1)


def test_a_site_that_is_no_phantom_is_never_written_over(tmp_path):
    site = tmp_path / "centre-c"
    site.mkdir()
    (site / "cases.csv").write_text("patient_id\n")
    with pytest.raises(ConfigError, match="no phantom"):
        generate_federation(tmp_path, SETTINGS, workers=1)
    assert (site / "cases.csv").read_text() == "patient_id\n"


def test_marker_holds_the_settings(root):
    marker = json.loads((root / MARKER).read_text())
    assert marker["complete"]
    assert marker["settings"]["seed"] == 7


@pytest.mark.slow
def test_several_workers_write_the_same_bytes(root, tmp_path):
    generate_federation(tmp_path, SETTINGS, workers=2)
    assert digest(tmp_path) == digest(root)
