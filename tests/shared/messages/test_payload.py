"""What messages carry: weights as one flat array, counts under names of closed lists."""

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord

from shared.config.run_config import parse_config
from shared.errors import UpdateError
from shared.messages.payload import (
    counted_classes,
    counted_tasks,
    flatten,
    label_key,
    manifest_of,
    named_counts,
    pack_weights,
    unflatten,
    unpack_weights,
    whole_number,
    whole_numbers,
)

STATE = {"conv.weight": torch.randn(3, 2, 1, generator=torch.Generator().manual_seed(0)), "count": torch.tensor(7)}


def test_a_state_dict_survives_flattening_with_its_types():
    back = unflatten(flatten(STATE), STATE)
    assert {k: (v.dtype, v.shape) for k, v in back.items()} == {k: (v.dtype, v.shape) for k, v in STATE.items()}
    assert all(torch.equal(back[name], value) for name, value in STATE.items())


def test_the_order_of_a_state_dict_does_not_matter():
    turned = dict(reversed(STATE.items()))
    assert manifest_of(turned) == manifest_of(STATE)
    assert np.array_equal(flatten(turned), flatten(STATE))


def test_a_flat_array_of_another_length_is_refused():
    with pytest.raises(UpdateError, match="the model has 7 values"):
        unflatten(np.ones(1, np.float32), STATE)


def test_the_manifest_sees_names_shapes_and_types():
    variants = [
        {"a": torch.zeros(2, 3), "b": torch.zeros(1)},
        {"a": torch.zeros(3, 2), "b": torch.zeros(1)},
        {"a": torch.zeros(2, 3), "c": torch.zeros(1)},
        {"a": torch.zeros(2, 3), "b": torch.zeros(1, dtype=torch.int64)},
    ]
    assert len({manifest_of(item) for item in variants}) == len(variants)


def config(*tasks):
    return parse_config({"name": "t", "tasks": tasks, "data": {"root": "d", "sites": ["a"]}}, "t")


def test_weights_survive_packing():
    flat = np.random.default_rng(0).normal(size=7).astype(np.float32)
    found = unpack_weights(pack_weights(flat))
    assert np.array_equal(found, flat)
    assert not found.flags.writeable


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"


def four(header, version=b"\x01\x00", values=4):
    text = header.encode().ljust(117) + b"\n"
    data = b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + bytes(4 * values)
    return ArrayRecord({"flat": Array(dtype="float32", shape=(4,), stype="numpy.ndarray", data=data)})


def test_four_zeros_by_hand_are_read():
    assert unpack_weights(four(GOOD)).tolist() == [0.0] * 4


@pytest.mark.parametrize(
    "record",
    [
        four(GOOD, version=b"\x02\x00"),
        four(GOOD, version=b"\x09\x09"),
        four(GOOD, values=3),
        four(GOOD, values=5),
        four(GOOD.replace("<f4", ">f4")),
        four(GOOD.replace("<f4", "|O")),
        four(GOOD.replace("(4,)", "(2, 2)")),
        four(GOOD.replace("(4,)", "(9999999999,)")),
        four(GOOD.replace("'fortran_order'", "[1]")),  # TypeError in NumPy
        four(GOOD.replace("}", "")),  # TokenError
        four(GOOD.replace("4,", "04,")),
        four(""),
    ],
)
def test_weights_that_are_not_what_they_say_are_refused(record):
    with pytest.raises(UpdateError, match="weights"):
        unpack_weights(record)


def test_sites_count_cases_by_class_of_the_labels_that_the_runs_tasks_learn_from():
    assert counted_classes(config("lesion-segmentation")) == ()
    assert counted_classes(config("lesion-malignancy")) == (
        "malignant/positive", "malignant/negative", "malignant/missing",
    )  # fmt: skip
    both = counted_classes(config("subtype-ensemble", "receptor-ki67-multitask"))
    assert len(both) == len(set(both))
    assert {"subtype/luminal_a", "subtype/missing", "er/positive", "ki67_percent/known"} <= set(both)


def test_sites_count_training_cases_by_task_and_by_label_that_owns_parameters():
    found = counted_tasks(config("lesion-segmentation", "receptor-status"))
    assert set(found) == {
        "lesion-segmentation",
        "receptor-status",
        *(f"receptor-status/{n}" for n in ("er", "pr", "her2")),
    }
    assert label_key("receptor-status", "er") == "receptor-status/er"
    assert label_key("receptor-status", "") == "receptor-status"


def test_counts_are_whole_numbers_under_names_of_a_closed_list():
    assert named_counts({"train": 3, "test": -1}, ("train", "test")) == {"train": 3, "test": -1}
    with pytest.raises(ValueError, match="unknown name") as caught:
        named_counts({"JANE DOE": 3}, ("train",))
    assert "JANE" not in str(caught.value)
    for value in (1.0, True, "3", None):
        with pytest.raises(TypeError, match="not a whole number"):
            whole_number(value)
    assert whole_numbers([1, 2]) == (1, 2)
    for value in ((1, 2), 3, [1.5], ["1"]):
        with pytest.raises(TypeError, match="not"):
            whole_numbers(value)
