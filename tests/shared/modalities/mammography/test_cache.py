"""Prepared breasts: what is cut out, by Pillow and by hand; what makes an entry anew; what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from shared.cohort.preflight import open_cohort
from shared.errors import StudyError
from shared.modalities.mammography.cache import PreparedBreast, cached_breast, fingerprint_breast, whole_breast
from shared.modalities.mammography.mammography import locate
from shared.modalities.mammography.plan import SAMPLES, Extraction
from shared.modalities.mammography.roi import roi_square
from shared.modalities.mammography.settings import MammographySettings
from shared.modalities.mammography.views import read_views
from tests.shared.modalities.mammography.conftest import LESION, write_mask

SMALL = Extraction.of(MammographySettings(margin=10, roi_pixels=32, whole_pixels=(96, 64)))
BOTH = ("CC", "MLO")


def cases_of(site, needs=frozenset({"lesion"})):
    return open_cohort(site, [(locate, needs)]).cases


@pytest.mark.parametrize("side", ["left", "right"])
def test_regions_and_whole_breasts_are_what_pillow_makes_of_the_images(breasts, tmp_path, side):
    (case,) = cases_of(breasts(("P1", side, BOTH, BOTH, {"density": "b"})))
    prepared = cached_breast(case, SMALL, tmp_path / "cache", lesion=True)
    assert (prepared.views, prepared.outlined, prepared.labels.outlined) == (BOTH, BOTH, True)
    images = read_views(case).images
    mask = np.zeros((240, 180), np.bool_)
    mask[LESION] = True
    window = roi_square(mask, 10)
    for view in BOTH:
        image = Image.fromarray(images[view].pixels)
        box = (window.left, window.top, window.left + window.side, window.top + window.side)
        region = image.resize((32, 32), Image.Resampling.BILINEAR, box=box)
        np.testing.assert_allclose(prepared.regions()[view], np.asarray(region), atol=2e-2)
        share = Image.fromarray(mask.astype(np.float32)).resize((32, 32), Image.Resampling.BILINEAR, box=box)
        clear = np.abs(np.asarray(share) - 0.5) > 0.01
        np.testing.assert_array_equal(prepared.outlines("roi")[view][clear], (np.asarray(share) > 0.5)[clear])
        rows = np.flatnonzero(images[view].breast.any(axis=1))
        columns = np.flatnonzero(images[view].breast.any(axis=0))
        whole = prepared.whole()[view]
        assert whole.shape == (96, 64)
        # The chest wall stays at the left edge, and the whole breast is inside with its own proportions.
        step = max((rows[-1] - rows[0] + 1) / 96, (columns[-1] - columns[0] + 1) / 64)
        top = (rows[0] + rows[-1] + 1) / 2 - step * 48
        inner = whole[8:-8, 2:]
        y, x = np.mgrid[8:88, 2:64]
        near = images[view].pixels[
            np.clip((top + (y + 0.5) * step).astype(int), 0, 239),
            np.clip((columns[0] + (x + 0.5) * step).astype(int), 0, 179),
        ]
        assert np.corrcoef(inner.ravel(), near.ravel())[0, 1] > 0.95


def test_a_breast_keeps_its_proportions():
    image = replace_image(np.zeros((100, 50)), rows=(10, 30), columns=(0, 40))
    whole = whole_breast(image, (50, 50))
    # 20 rows and 40 columns: the columns fill the square, the rows half of it, in the middle.
    assert (whole[16:34, 2:48] > 0.99).all()
    assert (whole[:11] == 0).all()
    assert (whole[39:] == 0).all()


def replace_image(pixels, rows, columns):
    from tests.shared.modalities.mammography.test_roi import image_of

    breast = np.zeros(pixels.shape, np.bool_)
    breast[slice(*rows), slice(*columns)] = True
    return replace(image_of(breast.astype(np.float32)), breast=breast)


def test_without_a_lesion_no_outline_is_read_and_a_view_without_one_has_no_region(breasts, tmp_path):
    site = breasts(("P1", "left", BOTH, ("MLO",), {}), ("P2", "right", ("CC",), (), {}))
    one, two = cases_of(site, frozenset({"lesion", "image"}))
    assert cached_breast(one, SMALL, tmp_path / "c", lesion=True).outlined == ("MLO",)
    assert cached_breast(one, SMALL, tmp_path / "c", lesion=False).outlined == ()
    bare = cached_breast(two, SMALL, tmp_path / "c", lesion=True)
    assert (bare.views, bare.outlined, bare.labels.outlined) == (("CC",), (), False)
    assert bare.regions() == bare.outlines("roi") == {}


def test_an_entry_is_used_again_and_made_anew_where_an_outline_or_a_setting_changed(breasts, tmp_path):
    site = breasts(("P1", "left", BOTH, BOTH, {}))
    (case,) = cases_of(site)
    first = cached_breast(case, SMALL, tmp_path / "c", lesion=True)
    assert cached_breast(case, SMALL, tmp_path / "c", lesion=True).folder == first.folder
    other = Extraction.of(MammographySettings(margin=20, roi_pixels=32, whole_pixels=(96, 64)))
    assert cached_breast(case, other, tmp_path / "c", lesion=True).folder != first.folder
    write_mask(site / "masks-0" / "CC.dcm", where=(slice(100, 140), slice(30, 64)))
    assert cached_breast(case, SMALL, tmp_path / "c", lesion=True).folder != first.folder


def test_outlines_that_change_places_are_other_content(breasts, tmp_path):
    site = breasts(("P1", "left", BOTH, BOTH, {}))
    (case,) = cases_of(site)
    write_mask(site / "masks-0" / "CC.dcm", where=(slice(100, 140), slice(30, 64)))
    first = cached_breast(case, SMALL, tmp_path / "c", lesion=True)
    cc, mlo = site / "masks-0" / "CC.dcm", site / "masks-0" / "MLO.dcm"
    cc.rename(site / "kept")
    mlo.rename(cc)
    (site / "kept").rename(mlo)
    assert cached_breast(case, SMALL, tmp_path / "c", lesion=True).folder != first.folder


def test_an_outline_that_is_not_of_the_image_leaves_the_case_out(breasts, tmp_path):
    site = breasts(("P1", "left", BOTH, BOTH, {}))
    (case,) = cases_of(site)
    write_mask(site / "masks-0" / "CC.dcm", shape=(200, 180))
    with pytest.raises(StudyError) as caught:
        cached_breast(case, SMALL, tmp_path / "c", lesion=True)
    assert caught.value.reason == "mask_mismatch"


def test_the_fingerprint_counts_pixels_of_the_breast_alone(breasts, tmp_path):
    (case,) = cases_of(breasts(("P1", "left", BOTH, BOTH, {})))
    counts = fingerprint_breast(cached_breast(case, SMALL, tmp_path / "c", lesion=True))
    images = read_views(case).images
    values = np.concatenate([image.pixels[image.breast] for image in images.values()])
    assert (counts.n, counts.levels.sum()) == (1, SAMPLES)
    centres = (np.arange(100) + 0.5) / 100
    assert counts.levels @ centres / SAMPLES == pytest.approx(values.mean(), abs=0.01)


def test_a_record_finds_the_case_again_and_nothing_else(breasts, tmp_path):
    (case,) = cases_of(breasts(("P1", "left", BOTH, BOTH, {"density": "c"})))
    prepared = cached_breast(case, SMALL, tmp_path / "c", lesion=True)
    record = prepared.to_dict()
    assert PreparedBreast.from_dict(record) == prepared
    assert prepared.labels.density == "c"
    for wrong, error in (({"more": 1}, ValueError), ({"folder": str(tmp_path / "gone")}, FileNotFoundError)):
        with pytest.raises(error):
            PreparedBreast.from_dict(record | wrong)
