"""Loss and measures of a case against hand calculations."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage

from shared.cohort.labels import CaseLabels
from shared.config.run_config import parse_config
from shared.reproducibility import state_hash
from shared.tasks import task_named
from shared.tasks.lesion_segmentation import (
    TASK,
    build_model,
    candidates,
    dice_loss,
    loss,
    measure,
    patch_window,
    takes,
)


def test_dice_loss_of_one_half_probability_by_hand():
    # 4 voxels at p=.5, one is lesion: 1 - (2*.5+1)/(2+1+1)
    target = torch.tensor([1.0, 0, 0, 0]).reshape(1, 1, 1, 2, 2)
    assert dice_loss(torch.zeros(1, 1, 1, 2, 2), target).item() == pytest.approx(0.5)


def test_loss_weighs_levels_by_halves():
    target = torch.zeros(1, 1, 2, 2, 2)
    fine, coarse = torch.zeros(1, 1, 2, 2, 2), torch.zeros(1, 1, 1, 1, 1)
    # Dice term 1 - 1/(sum p + 1): fine sum p = 4, coarse sum p = .5; cross-entropy ln 2 at both.
    levels = [1 - 1 / 5 + math.log(2), 1 - 1 / 1.5 + math.log(2)]
    assert loss([fine, coarse], target).item() == pytest.approx((levels[0] + 0.5 * levels[1]) / 1.5)


def test_perfect_confident_logits_cost_almost_nothing():
    mask = torch.zeros(2, 1, 8, 16, 16)
    mask[:, :, 2:5, 4:10, 6:12] = 1
    assert loss([(mask * 2 - 1) * 20], mask).item() < 1e-3


def test_a_coarse_level_sees_the_share_of_lesion():
    target = torch.zeros(1, 1, 2, 2, 2)
    target[0, 0, 0, 0, 0] = 1
    logit = torch.tensor(math.log((1 / 8) / (7 / 8))).reshape(1, 1, 1, 1, 1)  # p = 1/8, the share
    entropy = -(1 / 8 * math.log(1 / 8) + 7 / 8 * math.log(7 / 8))
    dice = 1 - (2 / 64 + 1) / (1 / 8 + 1 / 8 + 1)
    fine = torch.zeros_like(target)
    expected = (loss([fine], target).item() + 0.5 * (entropy + dice)) / 1.5
    assert loss([fine, logit], target).item() == pytest.approx(expected, rel=1e-5)


def test_the_models_start_depends_on_the_runs_seed_alone():
    def start(seed):
        torch.manual_seed(torch.seed() % 2**31)
        raw = {"name": "t", "seed": seed, "data": {"root": "d", "sites": ["a"]}, "model": {"channels": [8, 8]}}
        return state_hash(build_model(parse_config(raw, "t")).state_dict())

    assert start(0) == start(0)
    assert start(0) != start(1)


def test_the_table_of_tasks_knows_the_name_configurations_use():
    assert task_named("lesion-segmentation").learner.loss is loss


def view(**sections):
    raw = {"name": "t", "data": {"root": "d", "sites": ["a"]}, "model": {"channels": [8, 8]}}
    return parse_config(raw | sections, "t").for_task("lesion-segmentation")


def measured(probability, spacing, settings, reference=None):
    """A case whose study's grid is the network's."""
    mask = np.zeros(probability.shape, bool) if reference is None else reference
    place = SimpleNamespace(window=tuple(slice(0, side) for side in probability.shape))
    case = SimpleNamespace(place=place, native_grid=SimpleNamespace(spacing=spacing), native_mask=mask)
    return measure(probability[None], case, settings, full=True)


@pytest.fixture(autouse=True)
def _one_grid(monkeypatch):
    monkeypatch.setattr("shared.tasks.lesion_segmentation.to_native", lambda probability, _: probability)


def kept_of(probability, spacing, settings):
    return measured(probability, spacing, settings).masks[0][0]


def test_small_predictions_are_dropped_by_millilitres_not_voxels():
    probability = np.zeros((4, 8, 8), np.float32)
    probability[0, 0, 0:2] = 1.0
    probability[2:4, 4:8, 4:8] = 1.0
    settings = view(inference={"min_lesion_ml": 0.03})
    assert kept_of(probability, (1.0, 1.0, 1.0), settings).sum() == 32
    assert kept_of(probability, (4.0, 2.0, 2.0), settings).sum() == 34
    assert kept_of(probability * 0, (1.0, 1.0, 1.0), settings).sum() == 0


def test_pieces_far_less_certain_than_the_largest_are_dropped():
    probability = np.zeros((4, 16, 16), np.float32)
    probability[:, 0:5, 0:4] = 0.9  # 80 voxels, the largest
    probability[:, 8:12, 0:4] = 0.82  # above 0.9 of it: another lesion
    probability[:, 8:12, 8:12] = 0.8  # below it: gland
    settings = view(inference={"min_lesion_ml": 0.03, "relative_certainty": 0.9})
    kept = kept_of(probability, (1.0, 1.0, 1.0), settings)
    assert kept.sum() == 80 + 64
    assert not kept[:, 8:12, 8:12].any()
    everything = view(inference={"min_lesion_ml": 0.03, "relative_certainty": 0.0})
    assert kept_of(probability, (1.0, 1.0, 1.0), everything).sum() == 80 + 64 + 64


@pytest.mark.parametrize("speck", [0.95, 0.96, 1.0])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_a_certain_speck_never_drops_the_tumour(speck, share):
    reference = np.zeros((12, 32, 32), bool)
    reference[:, 2:24, 2:24] = True  # 5.8 ml
    probability = np.where(reference, 0.86, 0.0).astype(np.float32)
    probability[0:4, 28:31, 28:31] = speck  # 0.036 ml
    settings = view(inference={"min_lesion_ml": 0.03, "relative_certainty": share})
    found = measured(probability, (1.0, 1.0, 1.0), settings, reference)
    assert found.masks[0][0][reference].all()
    assert found.rows[""]["dice"] > 0.99
    assert found.rows[""]["failed"] == 0.0


def test_the_largest_is_so_by_volume_whatever_its_number_and_the_first_of_equals():
    probability = np.zeros((4, 16, 16), np.float32)
    probability[:, 0:4, 0:4] = 0.99  # numbered first
    probability[:, 8:14, 8:14] = 0.6
    settings = view(inference={"relative_certainty": 0.9})
    assert kept_of(probability, (1.0, 1.0, 1.0), settings).sum() == 64 + 144
    probability[:, 8:14, 8:14] = 0.0
    probability[:, 8:12, 8:12] = 0.6  # as large as the first
    assert kept_of(probability, (1.0, 1.0, 1.0), settings).sum() == 64


def test_candidates_are_numbered_with_their_mean_probability():
    probability = np.zeros((4, 16, 16), np.float32)
    probability[:, 0:4, 0:4] = 0.75
    probability[:, 8:12, 0:4] = np.linspace(0.5, 1.0, 4)[:, None, None]
    probability[0, 0, 15] = 1.0
    pieces, certainty = candidates(probability, (1.0, 1.0, 1.0), view())
    assert certainty == pytest.approx([0.75, 0.75], abs=1e-6)
    assert np.bincount(pieces.ravel()).tolist() == [4 * 256 - 128, 64, 64]
    none, nothing = candidates(probability * 0, (1.0, 1.0, 1.0), view())
    assert (int(none.max()), len(nothing)) == (0, 0)


def test_a_row_has_the_masks_figures_and_every_detection():
    reference = np.zeros((4, 16, 16), bool)
    reference[:, 0:4, 0:4] = reference[:, 12:16, 12:16] = True
    probability = np.zeros((4, 16, 16), np.float32)
    probability[:, 0:4, 0:4] = 0.96
    probability[:, 8:12, 0:4] = 0.6  # too uncertain for the mask, and still a detection
    found = measured(probability, (1.0, 1.0, 1.0), view(), reference)
    row = found.rows[""]
    assert (row["dice"], row["ppv"], row["sensitivity"], row["specificity"]) == (2 * 64 / 192, 1.0, 0.5, 1.0)
    assert (row["lesions_tp"], row["lesions_fp"], row["lesions_fn"], row["failed"]) == (1, 0, 1, 0.0)
    assert (row["detected_18"], row["false_positives_04"], row["reference_lesions"]) == (1, 1, 2)
    assert sum(row[f"{part}_{index:02d}"] for part in ("detected", "false_positives") for index in range(20)) == 2
    assert (found.masks[0].shape, int(found.masks[0].sum()), int(found.masks[1].sum())) == ((1, 4, 16, 16), 64, 128)
    sums = TASK.sums(row)
    assert {name: TASK.metric(name).of(sums) for name in ("froc_0.40", "froc_1.00", "lesion_f1")} == {
        "froc_0.40": 0.5, "froc_1.00": 0.5, "lesion_f1": 2 / 3,
    }  # fmt: skip


def test_nothing_predicted_is_a_failure_and_no_distance():
    reference = np.zeros((4, 16, 16), bool)
    reference[:, 0:4, 0:4] = True
    row = measured(np.zeros((4, 16, 16), np.float32), (1.0, 1.0, 1.0), view(), reference).rows[""]
    assert (row["dice"], row["failed"], row["hd95_mm"], row["ppv"]) == (0.0, 1.0, None, None)
    sums = TASK.sums(row)
    assert [TASK.metric(name).of(sums) for name in ("failures", "froc_1.00", "hd95")] == [1.0, 0.0, None]


def test_cancers_and_what_nobody_called_benign_take_part():
    assert takes(CaseLabels())
    assert takes(CaseLabels(malignant=True))
    assert not takes(CaseLabels(malignant=False))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_patches_lie_inside_and_follow_the_lesion(share):
    settings = view(training={"mode": "patch", "patch_voxels": [4, 8, 8], "foreground_share": share})
    draws = np.random.default_rng(0)
    mask = np.zeros((12, 32, 32), np.uint8)
    mask[5:9, 20:24, 3:7] = 1
    sample = SimpleNamespace(mask=mask, foreground=np.argwhere(mask).astype(np.int32))
    hits = 0
    for _ in range(60):
        window = patch_window(sample, settings, draws)
        patch = sample.mask[window]
        assert patch.shape == (4, 8, 8)
        hits += bool(patch.any())
    assert (hits == 60) if share == 1.0 else (hits < 50)


def test_what_lies_in_the_breast_box_is_measured_there_with_the_figures_of_the_whole_exam():
    """Also where the reference was drawn beyond the box; to the bit."""
    draws = np.random.default_rng(0)
    shape, spacing = (20, 30, 40), (2.0, 0.7, 0.9)
    whole = tuple(slice(0, side) for side in shape)
    box = (slice(3, 15), slice(4, 28), slice(5, 25))
    settings = view(inference={"min_lesion_ml": 0.001})
    probability = np.zeros(shape, np.float32)
    probability[box] = ndimage.gaussian_filter(draws.random((12, 24, 20)), 1.0) > 0.51
    for place in (slice(6, 12), slice(10, 20)):  # within the box, and reaching out of it
        drawn = np.zeros(shape, bool)
        drawn[place, 8:16, 8:20] = True
        one, other = (
            measure(
                probability[None],
                SimpleNamespace(
                    place=SimpleNamespace(window=window),
                    native_grid=SimpleNamespace(spacing=spacing),
                    native_mask=drawn,
                ),
                settings,
                full=True,
            )
            for window in (box, whole)
        )
        assert one.rows == other.rows
        assert all(np.array_equal(a, b) for a, b in zip(one.masks, other.masks, strict=True))
        assert one.masks[0][0].any()
