"""The classifiers as tasks: targets, who owns which parameter, what a missing label may move, scores."""

import math

import numpy as np
import pytest
import torch

from shared.cohort.labels import SUBTYPES, CaseLabels
from shared.config.run_config import parse_config
from shared.models.lesion_measures import lesion_measures, measure_count
from shared.models.measured_heads import MEASURED_GAIN, MeasuredHeads
from shared.models.radiomics import CLIP
from shared.tasks import receptors, subtype_ensemble, subtype_radiomics, task_named
from shared.tasks.patches import PatchCase
from shared.training import train_round

SMALL = {"patch": {"voxels": [16, 16, 16]}, "training": {"batch_size": 4, "steps_per_round": 3, "weight_decay": 0.5}}
CONFIG = parse_config(
    {
        "name": "t",
        "data": {"root": "d", "sites": ["a"]},
        "preprocessing": {"post_phases": 2},
        "subtype_ensemble": SMALL
        | {"plane_depth": 10, "plane_width": 4, "volume_depth": 10, "volume_width": 4, "pretrained": "none"},
        "receptor_status": SMALL,
        "receptor_ki67_multitask": SMALL,
        "lesion_malignancy": SMALL,
    },
    "t",
)
LUMINAL_A = CaseLabels(er=True, pr=True, her2=False, ki67_percent=8.0, subtype="luminal_a", malignant=True)
TRIPLE = CaseLabels(er=False, pr=False, her2=False, ki67_percent=60.0, subtype="triple_negative", malignant=True)
NO_KI67 = CaseLabels(er=True, pr=True, her2=False, malignant=True)


def patch(seed, radius=5.0):
    draws = np.random.default_rng(seed)
    z, y, x = np.ogrid[-7.5:8.5, -7.5:8.5, -7.5:8.5]
    distance = np.clip(radius + draws.uniform(-2, 2) - np.sqrt(z**2 + y**2 + x**2), -20, 20)
    image = draws.normal(0.5, 0.2, (3, 16, 16, 16))
    image[1] += 2.0 * (distance > 0)
    return np.concatenate([image, distance[None]]).astype(np.float32)


def opened(task, labels, count=6):
    view = CONFIG.for_task(task)
    target = {
        "subtype-ensemble": subtype_ensemble.target,
        "receptor-status": receptors.target,
        "receptor-ki67-multitask": receptors.target_with_ki67,
    }[task]
    cases = []
    for number in range(count):
        own = labels[number % len(labels)]
        values, stratum = target(own, view)
        case = PatchCase(f"c{number}", None, values, stratum, own)
        case.__dict__["patch"] = patch(number)
        cases.append(case)
    return cases


@pytest.mark.parametrize("task", ["receptor-status", "receptor-ki67-multitask"])
@pytest.mark.parametrize("missing", ["pr", "her2", "ki67_percent"])
def test_training_without_a_label_never_moves_what_answers_for_it(task, missing):
    if task == "receptor-status" and missing == "ki67_percent":
        pytest.skip("this task has no Ki-67")
    view, used = CONFIG.for_task(task), task_named(task)
    labels = [
        CaseLabels(**{name: getattr(item, name) for name in ("er", "pr", "her2", "ki67_percent")} | {missing: None})
        for item in (LUMINAL_A, TRIPLE)
    ]
    model = used.build_model(view)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_round(model, opened(task, labels), view, round_number=1, site="a")
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    owned = {name for name in before if used.owner(name) == missing}
    assert owned
    assert not moved & owned
    assert any(used.owner(name) == "er" for name in moved)


@pytest.mark.parametrize("task", ["receptor-status", "receptor-ki67-multitask"])
def test_every_label_owns_its_head_and_with_a_label_it_moves(task):
    view, used = CONFIG.for_task(task), task_named(task)
    model = used.build_model(view)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_round(model, opened(task, [LUMINAL_A, TRIPLE]), view, round_number=1, site="a")
    for label in set(used.owners.values()):
        owned = [name for name in before if used.owner(name) == label and "weight" in name]
        assert any(not torch.equal(model.state_dict()[name], before[name]) for name in owned), label


def test_receptor_networks_share_nothing_and_the_multitask_network_shares_its_body():
    status, spatial = task_named("receptor-status"), task_named("receptor-ki67-multitask")
    names = status.build_model(CONFIG.for_task("receptor-status")).state_dict()
    assert {status.owner(name) for name in names} == {"er", "pr", "her2"}
    names = spatial.build_model(CONFIG.for_task("receptor-ki67-multitask")).state_dict()
    assert {spatial.owner(name) for name in names} == {"", "er", "pr", "her2", "ki67_percent"}


def test_uncertainty_weights_belong_to_their_marker_and_are_trained():
    section = CONFIG.receptor_ki67_multitask.model_copy(update={"uncertainty_weights": True})
    view = CONFIG.model_copy(update={"receptor_ki67_multitask": section}).for_task("receptor-ki67-multitask")
    task = task_named("receptor-ki67-multitask")
    model = task.build_model(view)
    names = [name for name in model.state_dict() if "log_variance" in name]
    assert {task.owner(name) for name in names} == {"er", "pr", "her2", "ki67_percent"}
    train_round(model, opened("receptor-ki67-multitask", [LUMINAL_A, TRIPLE]), view, round_number=1, site="a")
    assert all(float(model.state_dict()[name].abs()) > 0 for name in names)


def test_cases_are_counted_by_task_and_label():
    labels = [LUMINAL_A, TRIPLE, NO_KI67, CaseLabels()]
    spatial, subtype = task_named("receptor-ki67-multitask"), task_named("subtype-ensemble")
    assert spatial.counts(labels, CONFIG) == {"": 3, "er": 3, "pr": 3, "her2": 3, "ki67_percent": 2}
    # St. Gallen cannot tell luminal A from B without Ki-67.
    assert subtype.counts(labels, CONFIG) == {"": 2}
    benign = CaseLabels(malignant=False)
    assert task_named("lesion-segmentation").counts([*labels, benign], CONFIG) == {"": 4}
    assert task_named("lesion-malignancy").counts([*labels, benign], CONFIG) == {"": 4}


def test_subtypes_come_from_the_rule_or_from_the_table():
    given = CaseLabels(er=True, pr=True, her2=False, ki67_percent=40.0, subtype="luminal_a")
    assert subtype_ensemble.subtype(given, CONFIG) == "luminal_b"
    assert subtype_ensemble.subtype(given, CONFIG.model_copy(update={"subtype_rule": "as-given"})) == "luminal_a"


def test_a_smoothed_target_adds_up_and_favours_the_subtype():
    section = CONFIG.subtype_ensemble.model_copy(update={"label_smoothing": 0.2})
    values, stratum = subtype_ensemble.target(TRIPLE, CONFIG.model_copy(update={"subtype_ensemble": section}))
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


def test_ki67_is_answered_in_percent_within_its_range():
    outputs = [torch.zeros(2, 1)] * 3 + [torch.tensor([[3.5], [-1.0]])]
    assert [item[""]["ki67_percent"] for item in receptors.scores(outputs)] == [35.0, 0.0]
    assert receptors.scores(outputs)[0][""]["er"] == 0.5


@pytest.mark.parametrize("task", ["lesion-malignancy", "subtype-ensemble"])
def test_gains_of_the_scanner_change_no_answer_of_what_reads_relative_channels(task):
    torch.manual_seed(0)
    model = task_named(task).build_model(CONFIG.for_task(task)).eval()
    for name, item in model.named_parameters():
        if "measured.linear" in name or ".head." in name:  # an ensemble's heads and all linear terms start at zero
            torch.nn.init.normal_(item)
    x = torch.from_numpy(np.stack([patch(0), patch(1)]))
    louder = x.clone()
    louder[:, 0] *= -7.0
    with torch.no_grad():
        before = model(x)
        assert all(torch.equal(here, there) for here, there in zip(model(louder), before, strict=True))
        louder[:, 1:-1] *= 1.7
        for here, there in zip(model(louder), before, strict=True):
            torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-3)
        louder[:, 2:-1] += 0.5
        assert all((here - there).abs().max() > 0.01 for here, there in zip(model(louder), before, strict=True))


def test_linear_terms_read_what_is_measured_in_the_volume():
    class Silent(torch.nn.Module):
        def forward(self, x):
            return [torch.zeros(len(x), 1)]

    model = MeasuredHeads(Silent(), 3, ("er",)).eval()
    x = torch.from_numpy(np.stack([patch(0), patch(1)]))
    measures = lesion_measures(x)
    with torch.no_grad():
        for column in range(measure_count(3)):
            model.measured["er"].linear.weight.zero_()[0, column] = 1.0
            expected = MEASURED_GAIN * measures[:, column].clamp(-CLIP, CLIP)  # mean 0 and variance 1 at the start
            torch.testing.assert_close(model(x)[0][:, 0], expected, rtol=1e-4, atol=1e-4)


def test_linear_terms_are_added_to_the_labels_outputs_alone():
    class Network(torch.nn.Module):
        def forward(self, x):
            return [torch.ones(len(x), 1), torch.full((len(x), 1), 2.0), torch.tensor(7.0)]

    model = MeasuredHeads(Network(), 3, ("er", "pr")).eval()
    with torch.no_grad():
        model.measured["pr"].linear.bias.fill_(0.5)
    er, pr, rest = model(torch.from_numpy(np.stack([patch(0), patch(1)])))
    assert er.flatten().tolist() == [1.0, 1.0]
    assert pr.flatten().tolist() == pytest.approx([2.0 + 0.5 * MEASURED_GAIN] * 2)
    assert float(rest) == 7.0


def test_radiomics_learns_what_its_features_tell():
    pytest.importorskip("radiomics", reason="the optional extra `radiomics` is not installed")
    view = parse_config(CONFIG.model_dump(mode="json", exclude_none=True) | {"tasks": ["subtype-radiomics"]}, "t")
    view = view.for_task("subtype-radiomics")
    task = task_named("subtype-radiomics")
    cases = []
    for number in range(16):
        labels = TRIPLE if number % 2 else LUMINAL_A
        lesion = PatchCase(f"c{number}", None, subtype_radiomics._target(labels, view)[0], labels.subtype, labels)
        lesion.__dict__["patch"] = patch(number, radius=7.0 if number % 2 else 2.2)
        cases.append(subtype_radiomics.FeatureCase(lesion, subtype_radiomics.read(lesion.patch, view)))
    model = task.build_model(view)
    for number in range(1, 6):
        train_round(model, cases, view, round_number=number, site="a")
    model.eval()
    found = task.scores(model(torch.from_numpy(np.stack([case.features for case in cases]))))
    large = [item[""]["triple_negative"] > item[""]["luminal_a"] for item in found]
    assert large == [bool(number % 2) for number in range(16)]
