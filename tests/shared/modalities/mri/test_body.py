"""Body against air: Otsu's threshold against an exhaustive search, the mask against a known body."""

import numpy as np
import pytest

from shared.errors import StudyError
from shared.modalities.mri.body import find_body, otsu

SPACING = (4.0, 3.0, 3.0)


def body_of_ellipsoids():
    """A chest with fat in front of a dark lung, bool `(z, y, x)`, and its tissues' levels."""
    z, y, x = np.mgrid[0:20, 0:40, 0:60]
    body = y >= 14 + ((x - 30) / 9.0) ** 2
    level = np.where(body, 60.0, 0.0)
    level[(y > 30) & body] = 3.0  # lung
    level[(np.abs(x - 20) < 5) & (np.abs(y - 22) < 4) & (z > 5)] = 200.0  # gland
    return body, level


def noisy(level, sigma, seed=0):
    rng = np.random.default_rng(seed)
    return np.hypot(level + sigma * rng.standard_normal(level.shape), sigma * rng.standard_normal(level.shape)).astype(
        np.float32
    )


def test_the_body_is_everything_behind_its_front():
    body, level = body_of_ellipsoids()
    mask = find_body(noisy(level, 2.0), SPACING)
    assert (mask == body).mean() > 0.97
    assert mask[:, 36].all()  # the lung is dark, and inside


def test_suppressed_fat_is_no_air():
    body, level = body_of_ellipsoids()
    level[level == 60.0] = 14.0
    level[level == 3.0] = 1.0
    assert (find_body(noisy(level, 1.0), SPACING) == body).mean() > 0.97


def test_shading_and_gain_make_no_difference():
    body, level = body_of_ellipsoids()
    shading = np.exp(np.linspace(-0.8, 0.8, 60))[None, None, :]
    first, second = (find_body(noisy(factor * level * shading, factor * 2.0), SPACING) for factor in (1.0, 13.0))
    assert (first == second).mean() > 0.999
    assert (first == body).mean() > 0.97


def test_corners_filled_with_zeros_are_no_class_of_their_own():
    body, level = body_of_ellipsoids()
    volume = noisy(level, 2.0)
    volume[:, :6, :10] = 0.0
    assert (find_body(volume, SPACING) == body).mean() > 0.97


@pytest.mark.parametrize(
    ("volume", "why"),
    [
        (np.zeros((10, 20, 20)), "empty"),
        (np.full((10, 20, 20), np.nan), "empty"),
        (noisy(np.zeros((10, 30, 30)), 5.0), "no tissue stands out"),
    ],
)
def test_nothing_but_air_is_refused(volume, why):
    with pytest.raises(StudyError, match=why) as caught:
        find_body(volume.astype(np.float32), SPACING)
    assert caught.value.reason == "no_breast_found"


def test_a_speck_is_no_body():
    volume = noisy(np.zeros((20, 40, 40)), 2.0)
    volume[9:12, 18:22, 18:22] += 400.0
    with pytest.raises(StudyError, match="fills"):
        find_body(volume, (1.0, 1.0, 1.0))


def test_otsu_is_the_best_of_all_thresholds():
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(0.0, 1.0, 4000), rng.normal(6.0, 1.5, 2000)])
    threshold, share = otsu(values)

    def between(cut):
        low, high = values[values <= cut], values[values > cut]
        return len(low) * len(high) / len(values) ** 2 * (low.mean() - high.mean()) ** 2

    best = max(between(cut) for cut in np.linspace(values.min() + 0.1, values.max() - 0.1, 2000))
    assert between(threshold) == pytest.approx(best, rel=1e-3)
    assert share == pytest.approx(best / values.var(), rel=5e-3)


def test_otsus_share_of_known_distributions():
    rng = np.random.default_rng(2)
    assert otsu(rng.standard_normal(200_000))[1] == pytest.approx(2 / np.pi, abs=0.01)  # 0.64
    assert otsu(rng.random(200_000))[1] == pytest.approx(0.75, abs=0.01)
    threshold, share = otsu(np.repeat([1.0, 5.0], 1000))
    assert threshold == pytest.approx(3.0, abs=0.05)  # the middle of the gap
    assert share == pytest.approx(1.0, abs=0.01)  # centres of 256 bins
    assert otsu(np.full(10, 2.0))[1] == 0.0
