"""Loss and measures of a case against hand calculations; augmentation by its invariants."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shared.cohort.labels import CaseLabels
from shared.config.run_config import parse_config
from shared.config.sections import AugmentationConfig
from shared.reproducibility import state_hash
from shared.tasks import task_named
from shared.tasks.augmentation import _random_affine, augment, other_times
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

OFF = dict.fromkeys(("flip", "affine", "intensity", "timing", "noise", "bias_field", "blur"), 0.0)


def batch():
    torch.manual_seed(3)
    image = torch.rand(2, 4, 8, 16, 16)
    mask = torch.zeros(2, 1, 8, 16, 16)
    mask[:, :, 2:5, 4:10, 6:12] = 1
    return image, mask


def run(**changed):
    image, mask = batch()
    return (
        image,
        mask,
        *augment(image, mask, AugmentationConfig(**{**OFF, **changed}), torch.Generator().manual_seed(5)),
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


def test_a_coarse_level_sees_the_share_of_lesion():
    target = torch.zeros(1, 1, 2, 2, 2)
    target[0, 0, 0, 0, 0] = 1
    logit = torch.tensor(math.log((1 / 8) / (7 / 8))).reshape(1, 1, 1, 1, 1)  # p = 1/8, the share
    entropy = -(1 / 8 * math.log(1 / 8) + 7 / 8 * math.log(7 / 8))
    dice = 1 - (2 / 64 + 1) / (1 / 8 + 1 / 8 + 1)
    fine = torch.zeros_like(target)
    expected = (loss([fine], target).item() + 0.5 * (entropy + dice)) / 1.5
    assert loss([fine, logit], target).item() == pytest.approx(expected, rel=1e-5)


def test_perfect_confident_logits_cost_almost_nothing():
    _, mask = batch()
    assert loss([(mask * 2 - 1) * 20], mask).item() < 1e-3


def test_with_every_probability_zero_nothing_changes():
    image, mask, changed, target = run()
    assert torch.equal(changed, image)
    assert torch.equal(target, mask)


@pytest.mark.parametrize("name", ["intensity", "noise", "bias_field", "blur"])
def test_intensity_changes_leave_the_mask_alone_and_change_the_image(name):
    image, mask, changed, target = run(**{name: 0.999999})
    assert torch.equal(target, mask)
    assert not torch.allclose(changed, image)
    assert changed.shape == image.shape
    assert torch.isfinite(changed).all()


def test_flips_move_image_and_mask_together_and_never_front_to_back():
    seen = set()
    for seed in range(24):
        image, mask = batch()
        marked = torch.cat([mask, image], dim=1)
        changed, target = augment(
            marked, mask, AugmentationConfig(**{**OFF, "flip": 0.5}), torch.Generator().manual_seed(seed)
        )
        assert torch.equal(changed[:, :1], target)
        seen.add(tuple(float(v) for v in (target[0, 0].any(2).any(1).float() @ torch.arange(8.0)).reshape(1)))
        assert torch.equal(target[0, 0].any(2).any(0), mask[0, 0].any(2).any(0))
    assert len(seen) == 2


def test_affine_moves_image_and_mask_together():
    _, mask = batch()
    changed, target = augment(
        mask.clone(), mask, AugmentationConfig(**{**OFF, "affine": 0.999999}), torch.Generator().manual_seed(1)
    )
    assert not torch.equal(target, mask)
    assert torch.equal((changed >= 0.5).float(), target)


def test_a_rotation_keeps_lengths_in_a_box_that_is_not_square():
    config = AugmentationConfig(rotation_deg=40, scale=0.0)
    theta = _random_affine(config, (8, 30, 60), torch.Generator().manual_seed(2))
    # One voxel along x and one along y, in voxels before and after: both stay unit vectors, at right angles.
    to_unit = torch.diag(torch.tensor([2 / 60, 2 / 30, 2 / 8]))
    matrix = torch.linalg.inv(to_unit) @ theta[:, :3] @ to_unit
    assert torch.allclose(matrix @ matrix.T, torch.eye(3), atol=1e-5)
    assert abs(matrix[0, 1]) > 0.01


def test_the_same_generator_seed_gives_the_same_batch():
    settings = dict.fromkeys(OFF, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(run(**settings)[2:], run(**settings)[2:], strict=True))


def test_the_models_start_depends_on_the_runs_seed_alone():
    def start(seed):
        torch.manual_seed(torch.seed() % 2**31)
        raw = {"name": "t", "seed": seed, "data": {"root": "d", "sites": ["a"]}, "model": {"channels": [8, 8]}}
        return state_hash(build_model(parse_config(raw, "t")).state_dict())

    assert start(0) == start(0)
    assert start(0) != start(1)


def test_the_table_of_tasks_knows_the_name_configurations_use():
    assert task_named("lesion-segmentation").learner.loss is loss


def test_other_times_read_the_curve_where_they_say():
    # One voxel: pre 2, then 3, 5, 6 above it at times 1, 2, 3; channels pre, 3, 5 - 3, 6 - 3.
    image = torch.tensor([2.0, 3.0, 2.0, 3.0]).reshape(4, 1, 1, 1)
    assert torch.equal(other_times(image, 1.0), image)
    # At 1.2, 2.4 and 3.6: 3 + .2 * 2, 5 + .4, and past the end 6 + .6.
    later = other_times(image, 1.2).flatten()
    assert later.tolist() == pytest.approx([2.0, 3.4, 5.4 - 3.4, 6.6 - 3.4])
    # At .75 the agent has had (.75 - 1/6) / (1 - 1/6) = .7 of its time.
    sooner = other_times(image, 0.75).flatten()
    assert sooner.tolist() == pytest.approx([2.0, 2.1, 4.0 - 2.1, 5.25 - 2.1])
    assert torch.equal(other_times(image[:2], 1.3), image[:2])


def test_other_times_follow_the_phantoms_own_curves():
    """Against the pharmacokinetic model: closer to a later protocol's uptake than the exam was as it stood."""
    from shared.phantom.kinetics import tofts_concentration

    ktrans, kep, plasma = (
        np.array(item, np.float32) for item in ([0.05, 0.2, 0.3], [0.1, 0.5, 0.9], [0.02, 0.03, 0.04])
    )
    here, there = (
        tofts_concentration(times, ktrans, kep, plasma) for times in ((90.0, 180.0, 270.0), (117.0, 234.0, 351.0))
    )

    def channels(curve):
        return torch.from_numpy(
            np.stack([np.zeros(3, np.float32), curve[0], curve[1] - curve[0], curve[2] - curve[0]])
        )[..., None, None]

    moved = other_times(channels(here), 1.3)
    assert (moved - channels(there)).abs().sum() < 0.4 * (channels(here) - channels(there)).abs().sum()


def test_timing_changes_the_changes_and_not_what_was_before():
    image, mask, changed, target = run(timing=0.999)
    assert torch.equal(changed[:, 0], image[:, 0])
    assert not torch.equal(changed[:, 1:], image[:, 1:])
    assert torch.equal(target, mask)


def view(**sections):
    raw = {"name": "t", "data": {"root": "d", "sites": ["a"]}, "model": {"channels": [8, 8]}}
    return parse_config(raw | sections, "t").for_task("lesion-segmentation")


def measured(probability, spacing, settings, reference=None):
    """A case whose study's grid is the network's."""
    mask = np.zeros(probability.shape, bool) if reference is None else reference
    case = SimpleNamespace(meta=None, native_grid=SimpleNamespace(spacing=spacing), native_mask=mask)
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


def test_pieces_far_less_certain_than_the_most_certain_are_dropped():
    probability = np.zeros((4, 16, 16), np.float32)
    probability[:, 0:4, 0:4] = 0.96  # 64 voxels
    probability[:, 8:12, 0:4] = 0.88  # above 0.9 of it: another lesion
    probability[:, 8:14, 8:14] = 0.8  # larger, below it: gland
    probability[0, 0, 15] = 1.0  # certain but too small to count, and no measure for the others
    settings = view(inference={"min_lesion_ml": 0.03, "relative_certainty": 0.9})
    kept = kept_of(probability, (1.0, 1.0, 1.0), settings)
    assert kept.sum() == 64 + 64
    assert not kept[:, 8:14, 8:14].any()
    everything = view(inference={"min_lesion_ml": 0.03, "relative_certainty": 0.0})
    assert kept_of(probability, (1.0, 1.0, 1.0), everything).sum() == 64 + 64 + 144


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
