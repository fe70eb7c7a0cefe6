"""The subtype ensemble as a task: whose subtype, targets, the loss and the mean of its branches."""

import math

import pytest
import torch

from shared.cohort.labels import SUBTYPES, CaseLabels
from shared.tasks import subtype_ensemble
from shared.tasks.subtype_ensemble import TASK
from tests.shared.tasks.drawn_patches import CONFIG, LUMINAL_A, NO_KI67, TRIPLE, changed


def test_subtypes_come_from_the_rule_or_from_the_table():
    given = CaseLabels(er=True, pr=True, her2=False, ki67_percent=40.0, subtype="luminal_a")
    assert subtype_ensemble.subtype(given, CONFIG) == "luminal_b"
    assert subtype_ensemble.subtype(given, CONFIG.model_copy(update={"subtype_rule": "as-given"})) == "luminal_a"


def test_a_smoothed_target_adds_up_and_favours_the_subtype():
    values, stratum = subtype_ensemble.target(TRIPLE, changed("subtype-ensemble", label_smoothing=0.2))
    assert values == pytest.approx((0.05, 0.05, 0.05, 0.85))
    assert stratum == "triple_negative"


def test_the_ensembles_loss_is_the_branches_cross_entropies_by_hand():
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    target = torch.tensor([[1.0, 0, 0, 0, 0.5], [0, 1.0, 0, 0, 1.5]])
    first = math.log(math.exp(2) + 3) - 2
    second = math.log(math.exp(1) + 3)
    expected = (0.5 * first + 1.5 * second) / 2
    assert float(subtype_ensemble.loss([logits] * 4, target)) == pytest.approx(4 * expected)


def test_the_ensembles_score_is_the_mean_of_its_branches():
    outputs = [torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    for row, scores in enumerate(subtype_ensemble.scores(outputs)):
        for number, name in enumerate(SUBTYPES):
            single = [float(item.softmax(1)[row, number]) for item in outputs]
            assert scores[""][name] == pytest.approx(sum(single) / 4)
            assert scores["sagittal"][name] == pytest.approx(single[2])


def test_truths_are_one_of_four_and_none_where_the_rule_does_not_settle_it():
    expected = {"luminal_a": 1.0, "luminal_b": 0.0, "her2_enriched": 0.0, "triple_negative": 0.0}
    assert subtype_ensemble.truths(LUMINAL_A, CONFIG) == expected
    assert subtype_ensemble.truths(NO_KI67, CONFIG) == {}
    assert TASK.counts([LUMINAL_A, TRIPLE, NO_KI67, CaseLabels()], CONFIG) == {"": 2}


def test_a_subtype_of_another_rule_is_none_of_the_four():
    as_given = CONFIG.model_copy(update={"subtype_rule": "as-given"})
    other = CaseLabels(subtype="hr_positive_her2_negative")
    assert subtype_ensemble.subtype(other, as_given) == "hr_positive_her2_negative"
    assert subtype_ensemble.known_subtype(other, as_given) is None
    assert subtype_ensemble.target(other, as_given) == ((), "")
    assert TASK.explained.class_of(LUMINAL_A, CONFIG) == "luminal_a"


def test_a_file_of_weights_is_a_key_that_names_a_file():
    assert changed("subtype-ensemble", pretrained="weights.pt").keys_of_files() == ["subtype_ensemble.pretrained"]
    assert CONFIG.keys_of_files() == changed("subtype-ensemble", pretrained="hub").keys_of_files() == []


def test_the_mean_of_the_four_areas_leads():
    assert TASK.headline.name == "auc_macro"
    assert [label.name for label in TASK.scored] == list(SUBTYPES)
    assert [metric.name for metric in TASK.metrics if "card" in metric.shown] == ["auc_macro"]
