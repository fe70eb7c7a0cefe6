"""`breast-segmentation`: its network, target, loss and augmentation; the lesion's network stays what it was."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shared.cohort.labels import CaseLabels
from shared.config.run_config import parse_config
from shared.config.sections import AugmentationConfig, ModelConfig
from shared.models.res_unet import ResUNet
from shared.preprocessing.cache import pack_mask, write_entry
from shared.reproducibility import state_hash
from shared.tasks import breast_segmentation, lesion_segmentation, task_named
from shared.tasks.augmentation import augment


def settings(**sections):
    raw = {
        "name": "t",
        "data": {"root": "d", "sites": ["a"]},
        "tasks": ["breast-segmentation"],
        "model": {"channels": [8, 8], "deep_supervision": 1},
    }
    return parse_config(raw | sections, "t")


def test_the_network_has_an_output_a_structure_and_starts_at_their_usual_shares():
    model = breast_segmentation.build_model(settings())
    outputs = model(torch.zeros(2, 4, 8, 16, 16))
    assert [tuple(item.shape) for item in outputs] == [(2, 2, 8, 16, 16), (2, 2, 4, 8, 8)]
    breast, gland = (float(part.mean()) for part in torch.sigmoid(outputs[1].detach())[0])
    assert (breast, gland) == pytest.approx((0.38, 0.08), abs=0.03)
    again = breast_segmentation.build_model(settings())
    assert state_hash(model.state_dict()) == state_hash(again.state_dict())


def test_the_lesions_network_is_bit_for_bit_what_it_was_with_one_output():
    torch.manual_seed(5)
    model = ResUNet(4, ModelConfig(channels=(8, 8), deep_supervision=1, stem_stride=1))
    assert state_hash(model.state_dict()) == "714941d485ede7f133c942ffec649b93def94465e23667f5152c2158d705319a"


def test_the_loss_is_the_mean_of_the_structures_own():
    generator = torch.Generator().manual_seed(0)
    outputs = [torch.randn(2, 2, *sides, generator=generator) for sides in ((4, 8, 8), (2, 4, 4))]
    target = (torch.rand(2, 2, 4, 8, 8, generator=generator) < torch.tensor([0.6, 0.05])[:, None, None, None]).float()
    parts = [lesion_segmentation.loss([item[:, [k]] for item in outputs], target[:, [k]]) for k in (0, 1)]
    assert float(breast_segmentation.loss(outputs, target)) == pytest.approx(float(sum(parts)) / 2)
    assert float(parts[0]) != pytest.approx(float(parts[1]), rel=0.01)


@pytest.fixture
def case(tmp_path):
    """A prepared case whose image's channels are its tissues, so that a wrong window or order shows."""
    rng = np.random.default_rng(0)
    tissues = rng.integers(0, 2, (2, 8, 12, 16)).astype(np.uint8)
    folder = tmp_path / "tissues" / "x"
    write_entry(folder, {"tissues": tissues, "native": pack_mask(tissues > 0)}, {})
    return SimpleNamespace(image=tissues.astype(np.float16), tissue_folder=folder, labels=CaseLabels(tissues=True))


def test_a_sample_is_the_whole_breast_or_the_same_patch_of_image_and_masks(case):
    image, target = breast_segmentation.sample(case, settings(), np.random.default_rng(0))
    assert (image.shape, target.dtype) == ((2, 8, 12, 16), np.float32)
    np.testing.assert_array_equal(image, target)
    patches = settings(training={"mode": "patch", "patch_voxels": [4, 4, 8]})
    seen = set()
    for seed in range(20):
        image, target = breast_segmentation.sample(case, patches, np.random.default_rng(seed))
        assert image.shape == (2, 4, 4, 8)
        np.testing.assert_array_equal(image, target)
        seen.add(image.tobytes())
    assert len(seen) > 10


def test_both_structures_move_with_the_image():
    _, y, x = torch.meshgrid(*(torch.arange(n) for n in (8, 32, 32)), indexing="ij")
    breast = ((y - 14) ** 2 + (x - 15) ** 2 < 121).float()
    gland = ((y - 12) ** 2 + (x - 18) ** 2 < 25).float()
    masks = torch.stack([breast, gland])[None]
    off = dict.fromkeys(("intensity", "timing", "noise", "bias_field", "blur"), 0.0)
    config = AugmentationConfig(flip=0.5, affine=0.99, **off)
    for seed in range(5):
        image, moved = augment(masks.clone(), masks.clone(), config, torch.Generator().manual_seed(seed))
        assert moved.shape == masks.shape
        assert torch.equal(moved, (image >= 0.5).float())
        assert not torch.equal(moved, masks)


def test_fat_and_gland_may_change_places_while_air_stays_dark():
    generator = torch.Generator().manual_seed(0)
    fat, gland = 0.45, 0.9
    pre = torch.tensor([0.0] * 10 + [fat] * 40 + [gland] * 50).reshape(1, 1, 10, 10)
    found = [breast_segmentation.other_tone(pre, generator).flatten() for _ in range(200)]
    assert all(float(item[0]) == 0.0 for item in found)
    inverted = np.mean([float(item[10]) > float(item[99]) for item in found])
    assert 0.2 < inverted < 0.8
    assert all(float(item[10:].min()) > 0 and float(item.max()) <= 1.3 * gland + 1e-6 for item in found)
    # Half-way between two knots is half-way between their levels: what was even stays even.
    ramp = torch.linspace(0, 1, 100).reshape(1, 1, 10, 10)
    mapped = breast_segmentation.other_tone(ramp, generator).flatten()
    assert float(mapped.diff().diff()[:30].abs().max()) < 1e-5


def test_only_the_pre_contrast_signal_changes_its_tone_and_never_without_intensity():
    generator = torch.Generator().manual_seed(1)
    image, masks = torch.rand(2, 4, 8, 8, 8, generator=generator), torch.zeros(2, 2, 8, 8, 8)
    numbers = [name for name, field in AugmentationConfig.model_fields.items() if field.annotation is float]
    still = AugmentationConfig(**dict.fromkeys(numbers, 0.0))
    same, _ = breast_segmentation.augment(image, masks, still, torch.Generator().manual_seed(0))
    assert torch.equal(same, image)
    given = image.clone()
    changed, _ = breast_segmentation.augment(
        image, masks, still.model_copy(update={"intensity": 0.999}), torch.Generator().manual_seed(0)
    )
    assert torch.equal(image, given)
    # Beside the tone there are gains: one number a channel, which a tone is not.
    ratio = changed / image
    for one in ratio:
        assert float(one[1:].std(dim=(1, 2, 3)).max()) < 1e-3
        assert float(one[0].std()) > 0.05


def test_cases_without_masks_are_not_the_tasks_and_others_are_whatever_their_lesion():
    task, config = task_named("breast-segmentation"), settings()
    labels = [CaseLabels(), CaseLabels(tissues=True), CaseLabels(malignant=False, tissues=True)]
    assert task.counts(labels, config) == {"": 2}
    cases = [SimpleNamespace(labels=item) for item in labels]
    assert task.learner.open(cases, None, config) == cases[1:]
    lesions = task_named("lesion-segmentation")
    assert lesions.learner.open(cases, None, config) == cases[:2]


class Fixed(torch.nn.Module):
    """Answers with the logits that it was made with, mirrored for a mirrored input."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, x):
        return [torch.stack([self.logits if part[0, 0, 0, 0] == 0 else self.logits.flip(3) for part in x])]


def test_a_breast_is_its_largest_piece_and_gland_lies_within_it(monkeypatch):
    logits = torch.full((2, 8, 8, 8), -5.0)
    logits[0, 1:6, 1:6, 1:6] = 5.0
    logits[0, 7, 7, 7] = 5.0  # a speck
    logits[1, 4:8, 4:8, 4:8] = 5.0
    monkeypatch.setattr("shared.tasks.breast_segmentation.to_native", lambda probability, _: probability)
    case = SimpleNamespace(image=np.zeros((1, 8, 8, 8), np.float16), place=None)
    found = breast_segmentation.TASK.evaluator.predict(Fixed(logits), case, None, settings(), None)
    np.testing.assert_allclose(found, torch.sigmoid(logits).numpy(), rtol=1e-6)
    breast, gland = breast_segmentation.tissue_masks(found, case, settings())
    assert breast.sum() == 125
    assert gland.sum() == 8  # 4..5 of each axis
    assert not (gland & ~breast).any()


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A case on one grid whose reference is a breast of 64 voxels with a gland of 16, and a prediction of it."""
    monkeypatch.setattr("shared.tasks.breast_segmentation.to_native", lambda probability, _: probability)
    reference = np.zeros((2, 8, 8, 8), bool)
    reference[0, 2:6, 2:6, 2:6] = reference[1, 2:6, 2:4, 2:4] = True
    write_entry(tmp_path / "x", {"tissues": reference.astype(np.uint8), "native": pack_mask(reference)}, {})
    grid = SimpleNamespace(shape=(8, 8, 8), spacing=(2.0, 1.0, 5.0))
    meta = SimpleNamespace(native=grid)
    case = SimpleNamespace(place=meta, tissue_folder=tmp_path / "x", native_grid=grid)
    probability = np.where(reference, 0.9, 0.1).astype(np.float32)
    probability[1, 2:6, 2:4, 3] = 0.1  # half of the gland is missed
    return probability, case


def test_a_case_is_measured_on_the_studys_grid_with_surfaces_only_where_all_is_asked_for(measured):
    probability, case = measured
    found = breast_segmentation.measure(probability, case, settings(), full=True)
    row = found.rows[""]
    assert (row["dice_breast"], row["dice_fibroglandular"]) == (1.0, pytest.approx(2 * 8 / 24))
    assert (row["density_percent"], row["reference_density_percent"]) == (12.5, 25.0)
    assert row["nsd_breast"] == 1.0
    assert [int(mask.sum()) for mask in (*found.masks[0], *found.masks[1])] == [64, 8, 64, 16]
    few = breast_segmentation.measure(probability, case, settings(), full=False).rows[""]
    assert few == {name: value for name, value in row.items() if not name.startswith(("hd95", "nsd"))}
    task = task_named("breast-segmentation")
    assert task.sums(few) == task.sums(row)
