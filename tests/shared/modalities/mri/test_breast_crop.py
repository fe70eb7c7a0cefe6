from dataclasses import replace

import numpy as np
import pytest

from shared.errors import StudyError
from shared.modalities.mri.body import find_body, otsu
from shared.modalities.mri.breast_crop import find_breast, find_midline
from shared.modalities.mri.dce_study import DceStudy
from shared.phantom.generate import PhantomSettings, make_exam
from shared.types import Grid


def edges_mm(study, window):
    """Outer edges of a window in patient coordinates, `(z, y, x)` pairs."""
    grid = study.grid
    return [
        (first + (part.start - 0.5) * step, first + (part.stop - 0.5) * step)
        for first, step, part in zip(grid.origin[::-1], grid.spacing, window, strict=True)
    ]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("bilateral", [True, False])
@pytest.mark.parametrize("fat", [40.0, 7.0], ids=["fat", "suppressed-fat"])
def test_the_box_holds_the_right_breast_and_its_lesion(make_study, side, bilateral, fat):
    study, lesion = make_study(side, bilateral=bilateral, fat=fat)
    box = find_breast(study, side)
    assert box.bilateral is bilateral
    assert lesion[box.window].sum() == lesion.sum()
    z, y, x = edges_mm(study, box.window)
    lateral, medial = (x[1], x[0]) if side == "left" else (-x[0], -x[1])
    # The breast spans |z| < 48, -60 < y, 20 < |x| < 116; behind it the chest's front lies between y = 0 and 28. A
    # lesion on the pectoral muscle there must be held too.
    assert z[0] <= -48 <= 48 <= z[1]
    assert -75 <= y[0] <= -60
    assert 34 <= y[1] <= 55
    assert -12 <= medial <= 20
    assert 110 <= lateral <= 136
    assert box.breast.shape == tuple(part.stop - part.start for part in box.window)
    assert box.breast[lesion[box.window]].mean() > 0.9


@pytest.mark.parametrize("offset", [-12.0, 0.0, 9.0])
def test_the_valley_at_the_sternum_divides_the_breasts(make_study, offset):
    study, _ = make_study(offset_mm=offset)
    front = np.argmax(find_body(study.phases.mean(0), study.grid.spacing), axis=1) * study.grid.spacing[1]
    # The field moves with the body here: the sternum stays in its middle, 135 mm from the edge.
    x = (np.arange(front.shape[1]) + 0.5) * study.grid.spacing[2]
    assert find_midline(front.astype(float), x) == pytest.approx(135.0, abs=4.0)
    # Cut unevenly, it no longer is.
    assert find_midline(front[:, 8:].astype(float), x[8:]) == pytest.approx(135.0, abs=4.0)


def test_without_a_valley_the_middle_of_the_body_divides():
    x = np.arange(0.5, 100.0)
    height = np.full((20, 100), 80.0)
    height[:, 10:70] = 30.0
    assert find_midline(height, x) == pytest.approx(40.0, abs=1.0)


def test_mirroring_the_patient_mirrors_the_box(make_study):
    study, _ = make_study("left")
    mirrored = DceStudy(np.ascontiguousarray(study.phases[..., ::-1]), study.times_s, study.grid)
    left, right = find_breast(study, "left"), find_breast(mirrored, "right")
    width = study.grid.shape[2]
    assert left.window[:2] == right.window[:2]
    assert (left.window[2].start, left.window[2].stop) == pytest.approx(
        (width - right.window[2].stop, width - right.window[2].start), abs=1
    )


def test_a_finer_grid_gives_the_same_box_in_mm(make_study):
    coarse, _ = make_study("right")
    fine, lesion = make_study("right", spacing=(2.0, 1.0, 1.0))
    box = find_breast(fine, "right")
    assert lesion[box.window].sum() == lesion.sum()
    for ours, theirs in zip(
        edges_mm(fine, box.window), edges_mm(coarse, find_breast(coarse, "right").window), strict=True
    ):
        assert ours == pytest.approx(theirs, abs=6.5)


def test_strong_shading_does_not_lose_the_breast(make_study):
    study, lesion = make_study("left")
    ramp = np.exp(np.linspace(1.3, -1.3, study.grid.shape[1]))[:, None].astype(np.float32)
    box = find_breast(DceStudy(study.phases * ramp, study.times_s, study.grid), "left")
    assert lesion[box.window].sum() == lesion.sum()


@pytest.mark.parametrize("bilateral", [True, False])
@pytest.mark.parametrize("cut", [6, 10], ids=["36mm", "20mm"])
def test_a_field_that_cuts_through_the_breast_still_gives_its_depth(make_study, bilateral, cut):
    study, lesion = make_study("right", bilateral=bilateral, lesion_at=(0.0, -4.0, 90.0))
    tight = slice(cut, 30 - cut)  # |z| < 36 or 20 mm, the breast reaches to 48
    grid = replace(
        study.grid,
        shape=(30 - 2 * cut, *study.grid.shape[1:]),
        origin=(*study.grid.origin[:2], study.grid.origin[2] + 4.0 * cut),
    )
    box = find_breast(DceStudy(study.phases[:, tight], study.times_s, grid), "right")
    assert lesion[tight][box.window].sum() == lesion.sum()
    assert 30 <= edges_mm(replace(study, grid=grid), box.window)[1][1] <= 55


def test_corners_filled_with_zeros_by_the_scanner_do_not_pass_noise_for_body(make_study):
    study, lesion = make_study("left")
    phases = np.hypot(study.phases, 8.0).astype(np.float32)  # the noise floor of a magnitude image
    phases[:, :5] = 0.0
    phases[:, :, :6] = 0.0
    box, before = find_breast(DceStudy(phases, study.times_s, study.grid), "left"), find_breast(study, "left")
    assert lesion[box.window].sum() == lesion.sum()
    assert box.window[1:] == before.window[1:]


@pytest.mark.parametrize(
    ("phases", "reason"),
    [
        (np.zeros((2, 12, 20, 90), np.float32), "empty"),
        (np.ones((2, 12, 20, 90), np.float32), "stands out"),
    ],
)
def test_a_volume_without_tissue_is_refused(phases, reason):
    study = DceStudy(phases, (-1.0, 90.0), Grid(phases.shape[1:], (4.0, 3.0, 3.0)))
    with pytest.raises(StudyError, match=reason) as caught:
        find_breast(study, "left")
    assert caught.value.reason == "no_breast_found"


def test_otsus_threshold_and_share_by_hand():
    threshold, share = otsu(np.array([0.0] * 30 + [10.0] * 10))
    assert 0.0 < threshold < 10.0
    assert share == pytest.approx(1.0, abs=0.01)  # less the bins
    # An even spread: classes a half apart, 1/16 of variance between them over 1/12 in all.
    threshold, share = otsu(np.linspace(0.0, 1.0, 20001))
    assert (threshold, share) == pytest.approx((0.5, 0.75), abs=0.01)
    # Two of three even classes, apart by 1 and 8: the large gap divides, and the lower class divides again.
    values = np.repeat([0.0, 1.0, 9.0], 100)
    assert 1.0 < otsu(values)[0] < 9.0
    assert 0.0 < otsu(values[:200])[0] < 1.0


def test_noise_is_no_breast():
    noise = np.abs(np.random.default_rng(0).normal(size=(2, 30, 40, 90))).astype(np.float32)
    with pytest.raises(StudyError, match="no_breast_found"):
        find_breast(DceStudy(noise, (-1.0, 90.0), Grid((30, 40, 90), (4.0, 3.0, 3.0))), "right")


def test_after_mastectomy_that_side_is_refused_and_the_other_one_found(make_study):
    study, lesion = make_study("left", missing=("right",))
    assert lesion[find_breast(study, "left").window].sum() == lesion.sum()
    with pytest.raises(StudyError, match="no_breast_found"):
        find_breast(study, "right")


@pytest.mark.parametrize("centre", ["A", "B", "C", "D"])
@pytest.mark.parametrize("shift", [0.6, 1.5])
def test_phantoms_of_every_centre_are_cropped_with_the_whole_lesion(centre, shift):
    exam = make_exam(centre, 3, PhantomSettings(shift=shift, seed=5))
    box = find_breast(exam.study, exam.side)
    assert exam.lesion[box.window].sum() == exam.lesion.sum()
    assert exam.breast[box.window].sum() >= 0.97 * exam.breast.sum()
    rough = np.zeros(exam.grid.shape, bool)
    rough[box.window] = box.breast
    assert 2 * (rough & exam.breast).sum() / (rough.sum() + exam.breast.sum()) > 0.85
