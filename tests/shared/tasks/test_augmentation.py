"""Augmentation by its invariants: image and mask move together, one seed gives one batch, times follow the curve."""

import numpy as np
import pytest
import torch

from shared.config.sections import AugmentationConfig
from shared.tasks.augmentation import _random_affine, augment, change_intensity, gamma_curve, other_times

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


def test_a_turn_about_all_axes_keeps_lengths_and_angles_and_leaves_none_of_them_fixed():
    config = AugmentationConfig(rotation_deg=40, rotation_axes="all", scale=0.0)
    theta = _random_affine(config, (8, 30, 60), torch.Generator().manual_seed(2))
    to_unit = torch.diag(torch.tensor([2 / 60, 2 / 30, 2 / 8]))
    matrix = torch.linalg.inv(to_unit) @ theta[:, :3] @ to_unit
    assert torch.allclose(matrix @ matrix.T, torch.eye(3), atol=1e-5)
    assert torch.det(matrix) == pytest.approx(1.0, abs=1e-5)
    assert (matrix.diag() < 0.999).all()
    # Angles lie within the bound: none of three turns of 40 degrees goes further than 120.
    limited = AugmentationConfig(rotation_deg=0.0, rotation_axes="all", scale=0.0)
    still = _random_affine(limited, (8, 30, 60), torch.Generator().manual_seed(2))
    assert torch.allclose(still[:, :3], torch.eye(3), atol=1e-6)


def test_what_is_off_draws_nothing_so_that_results_of_before_stay():
    stream, alone = torch.Generator().manual_seed(4), torch.Generator().manual_seed(4)
    image, _ = batch()
    assert torch.equal(change_intensity(image[0], AugmentationConfig(**OFF), stream), image[0])
    for _ in ("timing", "intensity", "bias_field", "blur", "noise"):  # those of before: a draw each
        torch.rand((), generator=alone)
    assert torch.equal(torch.rand(4, generator=stream), torch.rand(4, generator=alone))


def test_a_gamma_curve_keeps_zero_the_largest_and_the_signs_by_hand():
    part = torch.tensor([-4.0, -1.0, 0.0, 1.0, 4.0]).reshape(1, 5, 1, 1)
    assert gamma_curve(part, 0.5).flatten().tolist() == pytest.approx([-4.0, -2.0, 0.0, 2.0, 4.0])
    assert torch.equal(gamma_curve(torch.zeros(2, 3, 1, 1), 1.3), torch.zeros(2, 3, 1, 1))


def test_gamma_is_one_curve_for_all_changes_so_that_equal_changes_stay_equal():
    image, mask, changed, target = run(gamma=0.999)
    assert not torch.equal(changed[:, 0], image[:, 0])
    image[:, 2] = image[:, 1]
    again, _ = augment(image, mask, AugmentationConfig(**{**OFF, "gamma": 0.999}), torch.Generator().manual_seed(1))
    assert torch.equal(again[:, 1], again[:, 2])
    assert torch.equal(target, mask)


def test_contrast_is_changed_about_the_mean_and_within_the_range():
    image, mask, changed, target = run(contrast=0.999)
    assert not torch.equal(changed, image)
    flat, moved = image.flatten(2), changed.flatten(2)
    assert (moved.amin(2) >= flat.amin(2) - 1e-6).all()
    assert (moved.amax(2) <= flat.amax(2) + 1e-6).all()
    # What lies in the middle of the range is stretched straight: its order stays.
    order = flat.argsort(dim=2)
    assert (moved.gather(2, order).diff(dim=2) >= -1e-6).all()
    assert torch.equal(target, mask)


def test_the_same_generator_seed_gives_the_same_batch():
    settings = dict.fromkeys(OFF, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(run(**settings)[2:], run(**settings)[2:], strict=True))


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
