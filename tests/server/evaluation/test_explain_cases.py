"""Which cases are explained, what is stored of them and read again, and the network before training."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from server.evaluation.explain_cases import explain_centre, explained_table, read_cases, read_table, untrained
from shared.config.run_config import parse_config
from shared.config.sections import PatchSection
from shared.errors import ConfigError, RunError
from shared.modalities.mri.lesion_patch import cut_patch
from shared.tasks import task_named
from shared.tasks.subtype_ensemble import build_model
from shared.tasks.subtype_saliency import ENSEMBLE, READERS, saliency_maps
from tests.shared.models.drawn_ensembles import with_heads
from tests.shared.tasks.invented_lesions import PLAN, case, view

CONFIG = parse_config(
    {
        "name": "tiny",
        "tasks": ["subtype-ensemble"],
        "data": {"root": "d", "sites": ["a"], "external": "x"},
        "subtype_ensemble": {
            "plane_depth": 10,
            "plane_width": 4,
            "volume_depth": 10,
            "volume_width": 4,
            "pretrained": "none",
        },
    },
    "t",
).for_task("subtype-ensemble")


def test_an_untrained_network_is_the_start_of_training_but_for_heads_that_say_something():
    start = task_named("subtype-ensemble").learner.build_model(CONFIG).state_dict()
    found = untrained(CONFIG).state_dict()
    differ = {name for name in start if not torch.equal(start[name], found[name])}
    assert differ == {name for name in start if ".head." in name}
    assert all(start[name].abs().sum() == 0 for name in differ)
    again = untrained(CONFIG).state_dict()
    assert all(torch.equal(found[name], again[name]) for name in found)


def test_making_it_moves_no_global_random_state():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    untrained(CONFIG)
    assert torch.equal(torch.rand(1), expected)


def test_the_first_cases_of_each_class_are_taken_in_order_of_their_keys():
    cases = [case(number, "luminal_a") for number in (5, 2, 9)] + [case(1, "her2_enriched"), case(0, None)]
    model = with_heads(build_model(view()))
    table = explained_table(model, cases, view(), PLAN, 2)
    assert table.columns.tolist() == ["case", "patient", "subtype", "reader", "region", "value"]
    assert table["case"].unique().tolist() == ["d-p01-e-R", "d-p02-e-R", "d-p05-e-R"]
    assert table["patient"].unique().tolist() == ["d-p01", "d-p02", "d-p05"]
    alone = explained_table(model, cases[1:2], view(), PLAN, 2)
    assert alone["value"].tolist() == table.loc[table["case"] == "d-p02-e-R", "value"].tolist()
    assert set(alone["subtype"]) == {"luminal_a"}


def test_other_tasks_are_refused():
    with pytest.raises(ConfigError, match="receptor-status"):
        explained_table(nn.Identity(), [], view("receptor-status"), PLAN, 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the explanation of three cases of two subtypes, and what went into it."""
    folder = tmp_path_factory.mktemp("made")
    cases = [case(3, "luminal_b"), case(1, "luminal_b"), case(2, "triple_negative")]
    model = with_heads(build_model(view()))
    scores = {f"score_{name}": [0.1, 0.2, 0.3] for name in ("luminal_b", "triple_negative")}
    answers = pd.DataFrame({"case": [item.key for item in cases]} | scores)
    explain_centre(folder, cases, view(), PLAN, model, answers)
    return folder, cases, model


@pytest.fixture
def stored(made, tmp_path):
    """A copy of the folder."""
    return shutil.copytree(made[0], tmp_path / "stored")


def test_what_is_stored_is_read_again(made):
    folder, cases, model = made
    task = task_named("subtype-ensemble")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*.*")}
    assert names == {
        "predictions/saliency.parquet", "pictures/saliency-luminal_b.npz", "pictures/saliency-triple_negative.npz",
    }  # fmt: skip
    tables = read_table(folder, task.explained)
    expected = explained_table(model, cases, view(), PLAN, 8)
    pd.testing.assert_frame_equal(tables["trained"].reset_index(drop=True), expected)
    assert not np.allclose(tables["untrained"]["value"], tables["trained"]["value"], equal_nan=True)
    assert len(tables["untrained"]) == 3 * len(READERS) * 4
    one, two = read_cases(folder, task, ("patch", "saliency"))
    assert (one.name, one.probability, two.name, two.probability) == ("luminal_b", 0.2, "triple_negative", 0.3)
    patch = cut_patch(cases[1].region(), cases[1].native_mask, PLAN, view().section(PatchSection).patch)
    np.testing.assert_array_equal(one.arrays["patch"], patch.astype(np.float16))
    np.testing.assert_array_equal(one.arrays["saliency"], saliency_maps(model, patch, "luminal_b")[ENSEMBLE])


def flipped(content):
    """One bit in the compressed bytes of the first array."""
    at = content.index(b".npy") + 400
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [lambda content: content[:-40], lambda _: b"", flipped, lambda _: b"no archive"],
    ids=["cut", "empty", "flipped", "other"],
)
def test_a_torn_picture_is_told_with_the_remedy(stored, spoil):
    path = stored / "pictures" / "saliency-luminal_b.npz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(RunError, match=r"pictures/saliency-luminal_b\.npz cannot be read: delete it, or run again"):
        read_cases(stored, task_named("subtype-ensemble"), ("patch", "saliency"))


@pytest.mark.parametrize(
    "arrays",
    [{"patch": np.ones(1)}, {"patch": np.ones(1), "saliency": np.array([{}]), "probability": 1.0}],
    ids=["part", "objects"],
)
def test_a_picture_of_something_else_is_told_and_nothing_is_unpickled(stored, arrays):
    path = stored / "pictures" / "saliency-luminal_b.npz"
    np.savez(path, allow_pickle=True, **arrays)
    with pytest.raises(RunError, match="delete it, or run again"):
        read_cases(stored, task_named("subtype-ensemble"), ("patch", "saliency"))


@pytest.mark.parametrize("columns", [None, ["case", "patient", "subtype"]])
def test_a_torn_table_or_one_of_something_else_is_told_with_the_remedy(stored, columns):
    path, how = stored / "predictions" / "saliency.parquet", task_named("subtype-ensemble").explained
    if columns is None:
        path.write_bytes(path.read_bytes()[:-30])
    else:
        pd.DataFrame(columns=columns).to_parquet(path)
    with pytest.raises(RunError, match=r"predictions/saliency\.parquet cannot be read: delete it, or run again"):
        read_table(stored, how)
