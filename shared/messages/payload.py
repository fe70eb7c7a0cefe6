"""What messages carry: weights as one flat array, sums of figures, counts under names of closed lists.

What they are wrapped in, the question and the answer, is `shared.messages.records`'.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from shared.config.run_config import RunConfig
from shared.errors import UpdateError
from shared.tasks import task_named
from shared.types import FloatArray

State = Mapping[str, torch.Tensor]
LARGEST_VALUE = 2.0**16
"""Magnitude below which a weight is averaged by the server, and computed with at a site."""
FEW = -1
"""In place of a count of cases that the site's policy does not tell."""

Record = TypeVar("Record", ArrayRecord, ConfigRecord, MetricRecord)
_FLAT = "flat"
_HEADER_BYTES = 256


def manifest_of(state: State) -> str:
    """SHA-256 over names, shapes and types in name order: both sides must mean the same array."""
    lines = [f"{name}|{tuple(value.shape)}|{value.dtype}" for name, value in sorted(state.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def flatten(state: State) -> FloatArray:
    """Concatenate every tensor of a state dict, in name order, to float32 `(n,)`.

    In name order, because a file of weights need not keep the order in which a module lists them.

    Counters of batch norm travel as floats and are rounded back: they are far below 2^24.
    """
    flat: FloatArray = torch.cat(
        [value.detach().reshape(-1).float().cpu() for _, value in sorted(state.items())]
    ).numpy()
    return flat


def unflatten(flat: FloatArray, like: State) -> dict[str, torch.Tensor]:
    """Cut a flat array into tensors of the names, shapes and types of `like`.

    `UpdateError` where the array's length is not the model's.
    """
    total = sum(value.numel() for value in like.values())
    if flat.shape != (total,):
        raise UpdateError(f"weights have shape {flat.shape}, the model has {total} values")
    state, start = {}, 0
    for name, value in sorted(like.items()):
        part = torch.from_numpy(flat[start : start + value.numel()].copy()).reshape(value.shape)
        state[name] = part.to(value.dtype) if value.dtype.is_floating_point else part.round().to(value.dtype)
        start += value.numel()
    return state


def fits(values: FloatArray) -> bool:
    """Whether these are numbers below `LARGEST_VALUE` in magnitude."""
    return bool(values.max(initial=0.0) < LARGEST_VALUE and values.min(initial=0.0) > -LARGEST_VALUE)


def record_of(content: RecordDict, name: str, kind: type[Record]) -> Record:
    """A message's record by its name and kind.

    Flower's `array_records` and the like are views that point back at the message: its weights would stay in memory
    until Python next looks for such circles, many answers later. `KeyError` where there is none of that name,
    `TypeError` where it is of another kind.
    """
    record = content[name]
    if not isinstance(record, kind):
        raise TypeError(f"record '{name}' is no {kind.__name__}")
    return record


def pack_weights(flat: FloatArray) -> ArrayRecord:
    """A flat array as the record that travels."""
    return ArrayRecord({_FLAT: Array(np.ascontiguousarray(flat, np.float32))})


def unpack_weights(record: ArrayRecord) -> FloatArray:
    """Undo `pack_weights`, distrusting the sender: read-only float32 `(n,)` in the memory of the record.

    `UpdateError` where the record is not one float32 vector, or not in NumPy's format 1.0.
    """
    if set(record) != {_FLAT}:
        raise UpdateError(f"weights must be one array named '{_FLAT}'")
    array = record[_FLAT]
    if array.stype != "numpy.ndarray" or array.dtype != "float32" or len(array.shape) != 1:
        raise UpdateError(f"weights must be one float32 vector, got {array.dtype} of {len(array.shape)} axes")
    header = io.BytesIO(array.data[:_HEADER_BYTES])
    try:
        version = np.lib.format.read_magic(header)
        shape, _, kind = np.lib.format.read_array_header_1_0(header)
    except Exception as error:  # NumPy parses the header as Python's text, which fails in many ways
        raise UpdateError("weights have no header of NumPy's format") from error
    if version != (1, 0):
        raise UpdateError(f"weights come in version {version} of NumPy's format, not in (1, 0)")
    size = len(array.data) - header.tell()
    if kind != np.float32 or shape != tuple(array.shape) or size != 4 * shape[0]:
        raise UpdateError(f"weights are said to be {array.shape[0]} float32 values, but come in {size} bytes")
    return np.frombuffer(array.data, np.float32, offset=header.tell())


def label_key(task: str, label: str) -> str:
    """Name of a count of training cases: of a task, or of those that have one of its labels."""
    return f"{task}/{label}" if label else task


def counted_classes(config: RunConfig) -> tuple[str, ...]:
    """Names under which the sites of a run count their cases by class: of the labels that its tasks learn from."""
    return tuple(name for label in config.labels for name in label.counted)


def counted_tasks(config: RunConfig) -> tuple[str, ...]:
    """Names under which they count training cases: a task, or one of its labels that own parameters (`label_key`)."""
    tasks = [task_named(name) for name in config.tasks]
    return tuple(label_key(task.name, label) for task in tasks for label in ("", *task.learner.owners.values()))


def named_counts(found: Mapping[str, Any], allowed: tuple[str, ...]) -> dict[str, int]:
    """Counts under names of a closed list: a name is a word, and words could be anything.

    `TypeError` where one is no whole number, `ValueError` where a name is not `allowed`.
    """
    counts = {name: whole_number(count) for name, count in found.items()}
    if not set(counts) <= set(allowed):
        raise ValueError("an unknown name")
    return counts


def whole_numbers(value: object) -> tuple[int, ...]:
    """A list of counts as a message holds it; `TypeError` where it is no list, or not of whole numbers."""
    if not isinstance(value, list):
        raise TypeError("not a list")
    return tuple(whole_number(item) for item in value)


def whole_number(value: object) -> int:
    """A count as a message holds it; `TypeError` where it is no whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a whole number")
    return value
