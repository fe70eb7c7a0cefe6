"""Rivals of mammography's networks: the same question and cases, measures of both views, a linear model that learns."""

import numpy as np
import pytest
import torch

from shared.cohort.labels import CaseLabels
from shared.cohort.preflight import open_cohort
from shared.config.run_config import parse_config
from shared.errors import ConfigError
from shared.modalities.mammography.cache import cached_breast
from shared.modalities.mammography.mammography import locate
from shared.modalities.mammography.plan import Extraction, MammographyPlan
from shared.modalities.mammography.radiomics import NAMES, radiomic_measures
from shared.modalities.mammography.settings import MammographySettings
from shared.tasks import TASKS, task_named
from shared.tasks.mammography import QUESTIONS
from shared.tasks.mammography_rivals import measure_views
from shared.tasks.task import OWN
from shared.training import train_round
from tests.shared.modalities.mammography.conftest import write_breasts

SMALL = Extraction.of(MammographySettings(margin=10, roi_pixels=32, whole_pixels=(48, 32)))
PLAN = MammographyPlan(mean=0.25, deviation=0.5, extraction=SMALL)
BOTH = ("CC", "MLO")
NAMED = [question.name for question in QUESTIONS]


def config(task, **section):
    raw = {"name": "t", "tasks": [task], "data": {"root": "d", "sites": ["a"]}}
    raw |= {"mammography": {"margin": 10, "roi_pixels": 32, "whole_pixels": [48, 32]}, task.replace("-", "_"): section}
    return parse_config(raw, "t").for_task(task)


class Breast:
    """A prepared breast with images as given."""

    folder, side = None, "left"

    def __init__(self, number=0, her2=False, **views):
        self.key, self.labels = f"d-p{number}-e-L", CaseLabels(her2=her2, outlined=True)
        self.views = self.outlined = tuple(views)
        self._images = {view: image for view, (image, _) in views.items()}
        self._outlines = {view: outline for view, (_, outline) in views.items()}

    def regions(self):
        return self._images

    def whole(self):
        return self._images

    def outlines(self, extent):
        assert extent == "roi"
        return self._outlines


def view(seed, bright=0.5):
    y, x = np.mgrid[:32, :32]
    outline = np.hypot(y - 16, x - 14) < 6
    texture = np.random.default_rng(seed).uniform(0.2, 0.3, (32, 32))
    return np.where(outline, bright, texture).astype(np.float32), outline


def normal(image):
    return (image - np.float32(0.25)) / np.float32(0.5)


@pytest.mark.parametrize("name", NAMED)
def test_each_question_has_two_rivals_on_its_cases(name):
    main = task_named(name)
    for word, short in (("cnn", "simple CNN"), ("radiomics", "radiomics")):
        rival = task_named(f"{name}-{word}")
        assert (rival.rival_of, rival.short, rival.fused) == (name, short, False)
        assert TASKS[rival.name] == "shared.tasks.mammography_rivals"
        assert (rival.scored, rival.labels) == (main.scored, main.labels)
        assert config(rival.name).needs("mammography") == config(name).needs("mammography")
        assert [metric.name for metric in rival.metrics] == [metric.name for metric in main.metrics]
        assert rival.title != main.title
        own, known = config(rival.name), CaseLabels(er=True, pr=True, her2=False, ki67_percent=5.0, malignant=True)
        for labels in (known, CaseLabels(density="b", outlined=True), CaseLabels(her2=True, er=False, outlined=True)):
            assert rival.seen(labels, own) == main.seen(labels, config(name))
            assert rival.uses(labels, own) == main.uses(labels, config(name))
        model = rival.learner.build_model(own)
        outputs = model(torch.rand(2, *rival.learner.shape(own)))
        assert outputs[0].shape == (2, max(2, len(main.scored)))


def test_the_simple_cnn_is_the_tables_and_its_start_another_than_the_networks():
    rival, main = task_named("mammography-luminal-cnn"), task_named("mammography-luminal")
    one = rival.learner.build_model(config(rival.name)).state_dict()
    two = main.learner.build_model(config(main.name, network="simple-cnn")).state_dict()
    assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in two.items()}
    assert any(not torch.equal(one[name], two[name]) for name in one)


def test_radiomics_has_no_keys_of_a_network():
    with pytest.raises(ConfigError, match=r"unknown key 'mammography_luminal_radiomics\.network'"):
        config("mammography-luminal-radiomics", network="simple-cnn")


def test_a_breasts_measures_are_the_mean_over_its_views_and_an_absent_view_is_stood_for_by_the_other():
    (cc, outline), (mlo, other) = view(0), view(1, bright=0.9)
    alone = [radiomic_measures(normal(image), mask) for image, mask in ((cc, outline), (mlo, other))]
    both = measure_views(Breast(CC=(cc, outline), MLO=(mlo, other)), PLAN, "roi")
    np.testing.assert_allclose(both, (alone[0] + alone[1]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(measure_views(Breast(MLO=(mlo, other)), PLAN, "roi"), alone[1])
    assert both.dtype == np.float32
    # Of the whole breast all that is no air is measured.
    air = np.where(np.arange(32) < 20, cc, 0).astype(np.float32)
    np.testing.assert_array_equal(
        measure_views(Breast(CC=(air, outline)), PLAN, "whole"), radiomic_measures(normal(air), air > 0)
    )


@pytest.mark.parametrize("extent", ["roi", "whole"])
def test_a_right_breast_has_the_measures_of_its_mirror_image(tmp_path, extent):
    measures = []
    for side in ("left", "right"):
        site = write_breasts(tmp_path, side, [("P1", side, BOTH, BOTH, {"her2": "3+"})])
        (case,) = open_cohort(site, [(locate, frozenset({"lesion"}))]).cases
        breast = cached_breast(case, SMALL, tmp_path / "cache", lesion=True)
        measures.append(measure_views(breast, PLAN, extent))
    np.testing.assert_allclose(measures[0], measures[1], rtol=1e-5, atol=1e-7)
    # 24 x 20 pixels in a square of 24 and twice the margin of 10.
    if extent == "roi":
        own = dict(zip(NAMES, measures[0].tolist(), strict=True))
        assert own["shape_Share"] == pytest.approx(24 * 20 / 44**2, rel=0.1)
        assert own["grey_Mean"] == pytest.approx((0.9 - 0.25) / 0.5, abs=0.02)


def test_a_linear_model_learns_what_its_measures_tell_and_answers_for_the_breast_alone():
    task = task_named("mammography-her2-radiomics")
    own = config(task.name)
    breasts = [Breast(n, n % 2 == 1, CC=view(n, 0.5 + 0.3 * (n % 2)), MLO=view(99 - n)) for n in range(12)]
    cases = task.learner.open(breasts, PLAN, own)
    assert [case.key for case in cases] == [breast.key for breast in breasts]
    model = task.learner.build_model(own)
    train_round(model, cases, own, round_number=1, site="a")
    for breast in breasts:
        told = task.evaluator.predict(model, breast, PLAN, own, None)
        assert set(told) == {OWN}
        assert (told[OWN]["her2"] > 0.5) == breast.labels.her2
