"""Benign index lesions: their pictures, their rows, and that nothing changes where there are none."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt

from shared.cohort.preflight import open_cohort
from shared.errors import ConfigError
from shared.phantom import exam as exam_room
from shared.phantom import generate, marker
from shared.phantom.benign import BenignLabels, draw_benign_labels, draw_benign_latents
from shared.phantom.biology import Labels, auc, draw_labels, draw_latents
from shared.phantom.centres import CENTRES, protocol_at
from shared.phantom.exam import PhantomSettings, make_exam, patient_streams
from shared.phantom.kinetics import ToftsTable
from shared.phantom.mr_signal import spoiled_gradient_echo

MIXED = PhantomSettings(cases_per_site=1, cases_external=2, cases_benign=40, seed=5)
SMALL = PhantomSettings(cases_per_site=1, cases_external=1, cases_benign=2, seed=7)
DRAWS = 400


def population(key="A"):
    return exam_room.population_at(CENTRES[key], MIXED.shift)


def first(kind, count, diameter_mm=0.0):
    """The first benign exams of a kind at centre A, drawn without their pictures until they fit."""
    found = []
    for index in range(1, 41):
        biology = patient_streams(MIXED, CENTRES["A"], index)[0]
        labels = draw_benign_labels(biology, population())
        if labels.kind == kind and draw_benign_latents(biology, kind, 0.0).diameter_mm >= diameter_mm:
            found.append(make_exam("A", index, MIXED))
        if len(found) == count:
            return found
    raise AssertionError("too few such patients")


def relative(exam, where, late, early):
    """Change of the mean between two phases, per cent of the earlier."""
    return 100.0 * (exam.phases[late][where].mean() / exam.phases[early][where].mean() - 1.0)


@pytest.fixture(scope="module")
def cancers_and_benign():
    rng = np.random.default_rng(11)
    cancers = [
        draw_latents(rng, draw_labels(rng, population()).subtype, MIXED.separation, population().ln_diameter)
        for _ in range(DRAWS)
    ]
    kinds = [draw_benign_labels(rng, population()).kind for _ in range(DRAWS)]
    return cancers, [draw_benign_latents(rng, kind, 0.0) for kind in kinds]


def test_a_fibroadenomas_curve_rises_early_and_goes_on_rising():
    exams = first("fibroadenoma", 4)
    assert all(relative(exam, exam.lesion, 1, 0) > 50.0 for exam in exams)
    late = [relative(exam, exam.lesion, 3, 1) for exam in exams]
    assert np.mean(late) > 5.0
    assert min(late) > -5.0


def test_a_cyst_is_flat_inside_and_enhances_at_its_wall():
    for exam in first("cyst", 3, diameter_mm=17.0):
        inside = distance_transform_edt(exam.lesion, exam.grid.spacing) > 5.0  # mm: past wall and partial volume
        assert inside.sum() >= 10
        wall = exam.lesion & ~binary_erosion(exam.lesion)
        assert all(abs(relative(exam, inside, phase, 0)) < 8.0 for phase in (1, 2, 3))
        assert relative(exam, wall, 1, 0) > 25.0


def test_hardly_any_fibroadenoma_washes_out(cancers_and_benign):
    latents = [item for item in cancers_and_benign[1] if item.kind == "fibroadenoma"]
    protocol = protocol_at(CENTRES["A"], MIXED.shift)
    maps = (np.array([getattr(item, name) for item in latents], np.float32) for name in ("ktrans", "kep", "plasma"))
    signal = spoiled_gradient_echo(1500.0, 0.9, ToftsTable(protocol.post_times_s).concentration(*maps), protocol)
    late = 100.0 * (signal[2] / signal[0] - 1.0)
    assert np.median(late) > 5.0
    assert np.quantile(late, 0.02) > -10.0  # BI-RADS: wash-out is a fall of more than 10%


def test_three_quarters_are_fibroadenomas_of_8_to_30_mm(cancers_and_benign):
    benign = cancers_and_benign[1]
    sizes = [item.diameter_mm for item in benign]
    assert np.mean([item.kind == "fibroadenoma" for item in benign]) == pytest.approx(0.75, abs=0.07)
    assert 8.0 <= min(sizes) < 9.0
    assert max(sizes) == 30.0


@pytest.mark.parametrize("trait", ["diameter_mm", "ktrans", "kep", "irregularity"])
def test_no_single_trait_tells_benign_from_malignant(cancers_and_benign, trait):
    cancers, benign = cancers_and_benign
    values = np.array([getattr(item, trait) for item in (*cancers, *benign)])
    area = auc(values, np.arange(len(values)) < DRAWS)
    assert 0.55 < max(area, 1.0 - area) < 0.92


@pytest.mark.parametrize("key", CENTRES)
def test_the_smallest_lesion_has_a_mask_within_its_breast(key, monkeypatch):
    real = exam_room.draw_benign_latents
    monkeypatch.setattr(exam_room, "draw_benign_latents", lambda *draw: replace(real(*draw), diameter_mm=8.0))
    exam = make_exam(key, 2, MIXED)
    assert isinstance(exam.labels, BenignLabels)
    assert exam.lesion.sum() >= 10
    assert not (exam.lesion & ~exam.breast).any()


def test_the_index_alone_decides_who_is_benign_and_cancers_stay_as_they_were():
    assert [MIXED.is_benign("A", index) for index in range(3)] == [False, True, True]
    assert [MIXED.is_benign("D", index) for index in range(3)] == [False, False, True]
    cancer, benign = make_exam("B", 1, PhantomSettings(seed=5)), make_exam("B", 1, MIXED)
    assert isinstance(cancer.labels, Labels)
    assert isinstance(benign.labels, BenignLabels)
    assert not np.array_equal(cancer.phases[:, :2, :2], benign.phases[:, :2, :2])  # air: noise of another stream
    assert make_exam("B", 0, MIXED).phases.tobytes() == make_exam("B", 0, PhantomSettings(seed=5)).phases.tobytes()


def test_without_benign_patients_an_exam_is_what_it_was_before_there_could_be_any():
    # Read off the generator before benign lesions; a grey level may flip where another processor rounds otherwise.
    exam = make_exam("C", 1, PhantomSettings(seed=3))
    means = exam.phases.reshape(4, -1).astype(float).mean(axis=1)
    assert means == pytest.approx([92.587, 106.363, 108.364, 107.964], abs=0.002)
    voxels = [exam.phases[at] for at in ((0, 20, 40, 30), (1, 25, 45, 60), (2, 30, 35, 110), (3, 40, 50, 130))]
    assert voxels == pytest.approx([329.339, 118.749, 181.049, 313.837], abs=0.6)
    counts = [exam.lesion.sum(), exam.breast.sum(), exam.fibroglandular.sum()]
    assert counts == pytest.approx([1349, 45903, 24850], abs=3)
    assert (exam.side, exam.labels.subtype, exam.labels.age) == ("right", "triple_negative", 41)


@pytest.fixture
def one_centre(monkeypatch):
    for room in (generate, marker):
        monkeypatch.setattr(room, "CENTRES", {"A": CENTRES["A"]})


def rows_of(root):
    return list(csv.DictReader((root / "centre-a" / "cases.csv").read_text(encoding="utf-8").splitlines()))


def test_rows_of_benign_patients_come_last_and_their_receptors_are_blank(one_centre, tmp_path):
    calls = []
    generate.generate_federation(tmp_path, SMALL, on_progress=lambda *call: calls.append(call), workers=1)
    assert calls == [(done, 3) for done in range(4)]
    rows = rows_of(tmp_path)
    assert [row["malignant"] for row in rows] == ["1", "0", "0"]
    blank = ("er", "pr", "her2", "her2_fish", "ki67_percent", "subtype")
    assert all(not row[name] for row in rows[1:] for name in blank)
    assert all(row[name] for row in rows for name in ("age", "density", "side", "mask", "lesion_diameter_mm"))
    cohort = open_cohort(tmp_path / "centre-a")
    assert not cohort.exclusions
    for index, case in enumerate(cohort.cases):
        exam = make_exam("A", index, SMALL)
        assert case.row.malignant == (index == 0)
        assert case.load_mask(case.load_study().grid).sum() == exam.lesion.sum() > 0

    # A run that was killed before its last patient goes on there.
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.dcm")}
    (tmp_path / "centre-a" / ".phantom" / "0002.json").unlink()
    (tmp_path / "phantom.json").unlink()
    calls.clear()
    generate.generate_federation(tmp_path, SMALL, on_progress=lambda *call: calls.append(call), workers=1)
    assert calls == [(2, 3), (3, 3)]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.dcm")} == before
    assert rows_of(tmp_path) == rows


def test_a_marker_from_before_benign_patients_is_known_and_written_the_same(one_centre, tmp_path):
    old = {"cases_per_site": 2, "cases_external": 2, "shift": 0.6, "separation": 0.75, "seed": 0}
    text = json.dumps({"version": 1, "settings": old, "complete": True}, indent=1)
    (tmp_path / "phantom.json").write_text(text)
    (tmp_path / "centre-a").mkdir()
    (tmp_path / "centre-a" / "cases.csv").write_text("patient_id\n")
    plain = PhantomSettings(cases_per_site=2, cases_external=2)
    assert marker.is_complete(tmp_path, plain)
    marker.write_marker(tmp_path, plain, complete=True)
    assert (tmp_path / "phantom.json").read_text() == text
    with pytest.raises(ConfigError, match="cases_benign 0 there, 3 wanted"):
        marker.is_complete(tmp_path, replace(plain, cases_benign=3))
    marker.write_marker(tmp_path, replace(plain, cases_benign=3), complete=True)
    with pytest.raises(ConfigError, match="cases_benign 3 there, 0 wanted"):
        marker.is_complete(tmp_path, plain)


def test_identity_of_a_cancer_is_what_it_was_and_a_benign_patients_is_another():
    assert marker.patient_identity(MIXED, "A", 0) == "1|5|0.6|0.75|A|0"
    assert marker.patient_identity(replace(MIXED, cases_benign=0), "A", 1) == "1|5|0.6|0.75|A|1"
    assert marker.patient_identity(MIXED, "A", 1) != "1|5|0.6|0.75|A|1"
