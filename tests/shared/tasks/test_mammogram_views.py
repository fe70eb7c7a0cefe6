"""What the training loop reads of a breast: absent views, levels, oversampling, geometry that can be worked out."""

import math

import numpy as np
import pytest
import torch

from shared.cohort.labels import CaseLabels
from shared.config.run_config import parse_config
from shared.config.sections import AugmentationConfig
from shared.errors import ConfigError
from shared.modalities.mammography.plan import Extraction, MammographyPlan
from shared.modalities.mammography.settings import MammographySettings
from shared.tasks.mammogram_views import (
    NetworkSection,
    ViewsCase,
    augment,
    mirrored,
    open_views,
    oversampled,
    read_views,
    sample,
    shape,
)

PLAN = MammographyPlan(mean=0.25, deviation=0.5, extraction=Extraction.of(MammographySettings()))
STILL = dict.fromkeys(("flip", "affine", "intensity", "timing", "noise", "bias_field", "blur", "scale"), 0.0)


class Breast:
    """A prepared breast with images as given."""

    key, folder = "d-p1-e-L", None

    def __init__(self, labels=None, whole=None, regions=None, outlines=None):
        self.labels, self._whole, self._regions = labels or CaseLabels(), whole or {}, regions or {}
        self._outlines = outlines
        self.outlined = tuple(self._regions)

    def whole(self):
        return self._whole

    def regions(self):
        return self._regions

    def outlines(self, _extent):
        return self._outlines


def config(task="mammography-luminal", **section):
    raw = {"name": "t", "tasks": [task], "data": {"root": "d", "sites": ["a"]}, task.replace("-", "_"): section}
    return parse_config(raw | {"mammography": {"roi_pixels": 64, "whole_pixels": [96, 48]}}, "t").for_task(task)


def grey(level):
    return np.full((4, 4), level, np.float32)


def test_an_absent_view_is_stood_for_by_the_other_and_levels_are_the_plans():
    both = read_views(Breast(regions={"CC": grey(0.25), "MLO": grey(0.75)}), PLAN, NetworkSection())
    np.testing.assert_array_equal(both, [[np.zeros((4, 4))], [np.ones((4, 4))]])
    alone = read_views(Breast(whole={"MLO": grey(0.75)}), PLAN, NetworkSection(extent="whole"))
    np.testing.assert_array_equal(alone, np.ones((2, 1, 4, 4)))
    assert both.dtype == np.float32


def test_the_outline_is_a_second_channel_that_moves_with_the_lesion_and_keeps_its_values():
    one, other = np.zeros((2, 4, 4), np.bool_)
    one[1, 2], other[:2] = True, True
    regions = {"CC": grey(0.25), "MLO": grey(0.75)}
    section = NetworkSection(outline=True)
    views = read_views(Breast(regions=regions, outlines={"CC": one, "MLO": other}), PLAN, section)
    np.testing.assert_array_equal(views[:, 0], [np.zeros((4, 4)), np.ones((4, 4))])
    np.testing.assert_array_equal(views[:, 1], [one, other])
    single = read_views(Breast(regions={"MLO": grey(0.75)}, outlines={"MLO": other}), PLAN, section)
    np.testing.assert_array_equal(single[:, 1], [other, other])
    grown = torch.zeros(6, 2, 2, 24, 24)
    grown[:, :, :, 4:9, 5:16] = 1.0
    moved = changed(grown, flip=0.5, affine=0.9, rotation_deg=20.0)
    torch.testing.assert_close(moved[:, :, 0], moved[:, :, 1], rtol=0, atol=0)
    assert not torch.allclose(moved, grown, atol=0.1)
    greyed = changed(grown, intensity=0.9, blur=0.9, noise=0.9)
    torch.testing.assert_close(greyed[:, :, 1], grown[:, :, 1], rtol=0, atol=1e-5)
    assert not torch.allclose(greyed[:, :, 0], grown[:, :, 0], atol=0.1)


def test_an_outline_of_a_whole_breast_cannot_be_asked_for():
    with pytest.raises(ConfigError, match='needs extent = "roi"'):
        config(extent="whole", outline=True)


def test_shapes_are_those_of_the_configuration():
    assert shape(config()) == (2, 1, 64, 64)
    assert shape(config(outline=True)) == (2, 2, 64, 64)
    assert shape(config(extent="whole")) == (2, 1, 96, 48)
    assert shape(config("mammography-density")) == (2, 1, 96, 48)


def test_mirror_images_of_both_views():
    views = np.arange(16, dtype=np.float32).reshape(2, 2, 2, 2)
    copies = mirrored(views, 4)
    np.testing.assert_array_equal(copies[0], views)
    np.testing.assert_array_equal(copies[1], views[..., ::-1])
    np.testing.assert_array_equal(copies[3], views[:, :, ::-1, ::-1])
    assert len({item.tobytes() for item in copies}) == 4


def target(labels, _config):
    return ((), "") if labels.er is None else ((float(labels.er),), str(labels.er))


def test_only_breasts_with_the_label_and_where_it_is_read_an_outline_take_part():
    cases = [
        Breast(CaseLabels(er=True), regions={"CC": grey(0.5)}, whole={"CC": grey(0.5)}),
        Breast(CaseLabels(er=True), whole={"CC": grey(0.5)}),
        Breast(regions={"CC": grey(0.5)}),
    ]
    assert [case.breast for case in open_views(cases, PLAN, config(), target)] == cases[:1]
    assert [case.breast for case in open_views(cases, PLAN, config(extent="whole"), target)] == cases[:2]
    image, truth = sample(open_views(cases, PLAN, config(), target)[0], config(), np.random.default_rng())
    np.testing.assert_array_equal(image, np.full((2, 1, 4, 4), 0.5))
    np.testing.assert_array_equal(truth, [1.0, 1.0])


def lesions(*strata):
    rest = {"breast": None, "plan": PLAN, "section": NetworkSection()}
    return [ViewsCase(str(number), None, (), stratum, CaseLabels(), **rest) for number, stratum in enumerate(strata)]


@pytest.mark.parametrize(("most", "expected"), [(1.0, 10), (1.3, 13), (1.5, 15), (2.0, 20), (5.0, 30)])
def test_a_rate_of_oversampling_repeats_its_share_of_the_rarer_class_and_never_beyond_the_commonest(most, expected):
    drawn = oversampled(lesions(*"a" * 30, *"b" * 10), most)
    counts = {name: sum(case.stratum == name for case in drawn) for name in "ab"}
    assert counts == {"a": 30, "b": expected}
    times = [sum(case.key == str(number) for case in drawn) for number in range(30, 40)]
    assert max(times) - min(times) <= 1


def test_balance_is_the_configurations():
    cases = [Breast(CaseLabels(er=number < 1), regions={"CC": grey(0.5)}) for number in range(4)]
    assert [case.weight for case in open_views(cases, PLAN, config(balance="none"), target)] == [1.0] * 4
    weighed = open_views(cases, PLAN, config(balance="weights"), target)
    assert weighed[0].weight == pytest.approx(2.0)
    assert len(open_views(cases, PLAN, config(balance="oversampling", oversampling=3.0), target)) == 6


def changed(views, **settings):
    generator = torch.Generator().manual_seed(3)
    return augment(views, torch.zeros(len(views), 2), AugmentationConfig(**STILL | settings), generator)[0]


def test_nothing_is_changed_where_nothing_is_to_be():
    views = torch.rand(3, 2, 1, 12, 20)
    torch.testing.assert_close(changed(views), views, atol=1e-5, rtol=0)


def test_flips_are_flips_of_each_view_on_its_own():
    views = torch.rand(8, 2, 1, 12, 20)
    flipped = changed(views, flip=0.5)
    seen = set()
    for before, after in zip(views.flatten(0, 2), flipped.flatten(0, 2), strict=True):
        ways = {"": before, "x": before.flip(1), "y": before.flip(0), "xy": before.flip(0, 1)}
        (way,) = [name for name, image in ways.items() if torch.allclose(image, after, atol=1e-5)]
        seen.add(way)
    assert seen == {"", "x", "y", "xy"}


def moments(image):
    y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float32) for side in image.shape), indexing="ij")
    mass = image / image.sum()
    y, x = y - (mass * y).sum(), x - (mass * x).sum()
    return (mass * x * x).sum(), (mass * y * y).sum(), (mass * x * y).sum()


def test_a_turn_in_an_oblong_image_turns_and_does_not_shear():
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(120.0), indexing="ij")
    bar = torch.exp(-(((y - 29.5) / 3) ** 2) - ((x - 59.5) / 15) ** 2)
    turned = changed(bar.repeat(6, 2, 1, 1, 1), affine=0.99, rotation_deg=20.0)
    angles = []
    for image in turned.flatten(0, 2):
        xx, yy, xy = moments(image)
        # A turn keeps the sum and the product of the axes' variances; a shear would not.
        assert float(xx + yy) == pytest.approx(4.5 + 112.5, rel=0.03)
        assert float(xx * yy - xy * xy) == pytest.approx(4.5 * 112.5, rel=0.06)
        angles.append(math.degrees(0.5 * math.atan2(2 * xy, xx - yy)))
    assert max(map(abs, angles)) < 20.5
    assert max(map(abs, angles)) > 5


def test_a_shear_moves_rows_along_x_alone():
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(120.0), indexing="ij")
    bar = torch.exp(-(((y - 29.5) / 12) ** 2) - ((x - 59.5) / 3) ** 2)
    sheared = changed(bar.repeat(6, 2, 1, 1, 1), affine=0.99, rotation_deg=0.0, shear_deg=10.0)
    slopes = []
    for image in sheared.flatten(0, 2):
        _, yy, xy = moments(image)
        assert float(yy) == pytest.approx(72.0, rel=0.03)
        slopes.append(float(xy / yy))
    assert max(map(abs, slopes)) < math.tan(math.radians(10.2))
    assert max(map(abs, slopes)) > 0.05


def test_grey_values_change_by_the_seed_alone():
    views = torch.rand(4, 2, 1, 24, 24)
    again = [changed(views, intensity=0.9, blur=0.5, noise=0.5) for _ in range(2)]
    torch.testing.assert_close(again[0], again[1], rtol=0, atol=0)
    assert not torch.allclose(again[0], views, atol=0.05)


def test_a_file_of_weights_is_named_among_the_files():
    assert NetworkSection(pretrained="a.pth").keys_of_files == ("pretrained",)
    assert NetworkSection().keys_of_files == NetworkSection(pretrained="hub").keys_of_files == ()
