"""What travels between server and sites: this file alone knows the records' names.

A message holds one flat array of float32 weights, numbers, and words of our own making (the run's name, the plan, an
error of `shared.errors`). It never holds a path, an identifier or text from data.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from shared.cohort.labels import SUBTYPES
from shared.config import RunConfig, parse_config
from shared.config_sections import SEGMENTATIONS, TaskName
from shared.errors import EXCLUSION_REASONS, FedBreastError, UpdateError
from shared.metrics.classification import KI67, LABELS, ClassificationSums
from shared.metrics.counts import SegmentationSums
from shared.preprocessing.fingerprint import SiteFingerprint
from shared.preprocessing.plan import Plan
from shared.types import SPLITS, FloatArray

State = Mapping[str, torch.Tensor]

REGISTER = "query.register"
FINGERPRINT = "query.fingerprint"
PREPARE = "query.prepare"
TRAIN = "train"
EVALUATE = "evaluate"

Sums = SegmentationSums | ClassificationSums
CLASS_NAMES = tuple(
    f"{label}/{value}"
    for label, values in (
        ("subtype", (*SUBTYPES, "missing")),
        *((name, ("positive", "negative", "missing")) for name in ("er", "pr", "her2", "malignant")),
        ("ki67_percent", ("known", "missing")),
    )
    for value in values
)
"""Names under which a site counts its cases by class."""
LABELLED_NAMES = tuple(
    f"{task}{label}" for task in get_args(TaskName) for label in ("", *(f"/{name}" for name in (*LABELS, KI67)))
)
"""Names under which a site counts training cases: a task, or one of its labels (`label_key`)."""
FEW = -1
"""In place of a count of cases that the site's policy does not tell."""

_WEIGHTS, _HEADER, _NUMBERS, _FLAT = "weights", "header", "numbers", "flat"
_A_PATH = re.compile(r"(?:^|[\s'\"(=:])(?:[A-Za-z]:)?[/\\]\S")
_LONGEST_ERROR = 400


@dataclass(frozen=True, slots=True)
class Instruction:
    """What the server asks of a site.

    Attributes
    ----------
    run
        Name of the run: an answer to another run is refused.
    round
        Number of the round; 0 before the first.
    plan
        The preprocessing plan, once there is one.
    split
        Which cases to evaluate.
    weights
        The global model as one flat float32 array.
    manifest
        Hash of the names, shapes and types the flat array stands for.
    site
        Name of the site that is meant: a simulated node may hold several.
    config
        The run's configuration. It travels, so that a resumed run is the same run at both ends.
    task
        What is trained or evaluated.

    """

    run: str
    round: int
    plan: Plan | None = None
    split: str = "validation"
    weights: FloatArray | None = None
    manifest: str = ""
    site: str = ""
    config: RunConfig | None = None
    task: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a site answers; fields that a kind of message does not use keep their defaults.

    `labelled` counts the training cases of each task (`task` or `task/label`), `classes` the cases of each label's
    classes over all splits. `sites` answers a registration: the indices in `data.sites` of the sites whose data the
    node holds. `over_policy` says that more cases were left out than the site's own policy allows.
    """

    site: str
    run: str
    round: int
    manifest: str = ""
    weights: FloatArray | None = None
    cases: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    fingerprint: SiteFingerprint | None = None
    sums: Sums | None = None
    labelled: Mapping[str, int] | None = None
    classes: Mapping[str, int] | None = None
    included: Mapping[str, int] | None = None
    excluded: Mapping[str, int] | None = None
    over_policy: bool = False
    sites: tuple[int, ...] = ()
    error: str = ""


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

    Raises
    ------
    UpdateError
        The array's length is not the model's.

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


def write_instructions(instruction: Instruction, sites: Sequence[str]) -> dict[str, RecordDict]:
    """Pack the same instruction for several sites; the weights are packed once, whoever gets them."""
    weights = _pack(instruction.weights) if instruction.weights is not None else None
    packed = {name: write_instruction(replace(instruction, site=name, weights=None)) for name in sites}
    for records in packed.values():
        if weights is not None:
            records[_WEIGHTS] = weights
    return packed


def write_instruction(instruction: Instruction) -> RecordDict:
    """Pack an instruction."""
    header = ConfigRecord(
        {
            "run": instruction.run,
            "round": instruction.round,
            "split": instruction.split,
            "manifest": instruction.manifest,
            "plan": instruction.plan.model_dump_json() if instruction.plan else "",
            "site": instruction.site,
            "config": instruction.config.model_dump_json() if instruction.config else "",
            "task": instruction.task,
        },
    )
    records = RecordDict({_HEADER: header})
    if instruction.weights is not None:
        records[_WEIGHTS] = _pack(instruction.weights)
    return records


def read_instruction(message: Message) -> Instruction:
    """Unpack an instruction, at a site.

    Raises
    ------
    ConfigError
        The configuration is not one that this site's code knows.

    """
    header = message.content.config_records[_HEADER]
    plan, config = str(header["plan"]), str(header["config"])
    return Instruction(
        run=str(header["run"]),
        round=int(str(header["round"])),
        plan=Plan.model_validate_json(plan) if plan else None,
        split=str(header["split"]),
        weights=_unpack(message.content) if _WEIGHTS in message.content else None,
        manifest=str(header["manifest"]),
        site=str(header["site"]),
        config=parse_config(json.loads(config), "the run's configuration") if config else None,
        task=str(header["task"]),
    )


def write_reply(reply: Reply) -> RecordDict:
    """Pack an answer."""
    header = ConfigRecord(
        {"site": reply.site, "run": reply.run, "manifest": reply.manifest, "error": reply.error},
    )
    numbers: dict[str, int | float | list[int] | list[float]] = {
        "round": reply.round,
        "cases": reply.cases,
        "loss": reply.loss,
        "seconds": reply.seconds,
        "over_policy": int(reply.over_policy),
        "sites": list(reply.sites),
    }
    if reply.fingerprint is not None:
        numbers |= {f"fingerprint.{name}": values for name, values in reply.fingerprint.to_dict().items()}
    if reply.sums is not None:
        numbers |= {f"sums.{name}": value for name, value in reply.sums.to_dict().items()}
    numbers |= {f"labelled.{name}": count for name, count in (reply.labelled or {}).items()}
    numbers |= {f"classes.{name}": count for name, count in (reply.classes or {}).items()}
    numbers |= {f"included.{name}": count for name, count in (reply.included or {}).items()}
    numbers |= {f"excluded.{name}": count for name, count in (reply.excluded or {}).items()}
    records = RecordDict({_HEADER: header, _NUMBERS: MetricRecord(numbers)})
    if reply.weights is not None:
        records[_WEIGHTS] = _pack(reply.weights)
    return records


def read_reply(message: Message, post_phases: int, task: str) -> Reply:
    """Unpack and check the form of an answer about a task, on the server; its meaning is `server.gate`'s concern.

    Raises
    ------
    UpdateError
        The answer is an error, or a record is missing or of another form than `write_reply` gives it.

    """
    if message.has_error():
        # The reason is another process's text: it may quote data and stays where it is.
        raise UpdateError(f"the site's process failed (Flower error {message.error.code})")
    try:
        header, numbers = message.content.config_records[_HEADER], message.content.metric_records[_NUMBERS]
        sums = _group(numbers, "sums.")
        histogram = _group(numbers, "fingerprint.")
        return Reply(
            site=str(header["site"]),
            run=str(header["run"]),
            manifest=str(header["manifest"]),
            error=str(header["error"]),
            round=_whole(numbers["round"]),
            cases=_whole(numbers["cases"]),
            loss=float(numbers["loss"]),  # type: ignore[arg-type]  # a list fails here, as it should
            seconds=float(numbers["seconds"]),  # type: ignore[arg-type]  # the same
            weights=_unpack(message.content) if _WEIGHTS in message.content else None,
            fingerprint=SiteFingerprint.from_dict(histogram, post_phases) if histogram else None,
            sums=sums_of(task).from_dict(sums) if sums else None,
            labelled=_counts(numbers, "labelled.", LABELLED_NAMES),
            classes=_counts(numbers, "classes.", CLASS_NAMES),
            included=_counts(numbers, "included.", SPLITS),
            excluded=_counts(numbers, "excluded.", EXCLUSION_REASONS),
            over_policy=bool(_whole(numbers["over_policy"])),
            sites=tuple(_whole(index) for index in _list(numbers["sites"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UpdateError(f"the answer has not the agreed form ({type(error).__name__})") from error


def safe_error(error: Exception) -> str:
    """What a site may say of a failure: our own messages hold no data; of any other error only the class.

    A message of ours that names a path is kept back all the same: hospitals name folders as they please.
    """
    if not isinstance(error, FedBreastError):
        return type(error).__name__
    if _A_PATH.search(str(error)):
        return f"{type(error).__name__}: its message names a path, see the site's own log"
    return f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]


def count_splits(splits: Mapping[str, int]) -> dict[str, int]:
    """Counts for every split, also the empty ones, so that messages always have the same form."""
    return {name: splits.get(name, 0) for name in SPLITS}


def sums_of(task: str) -> type[Sums]:
    """The sums that a task's evaluation sends."""
    return SegmentationSums if task in SEGMENTATIONS else ClassificationSums


def label_key(task: str, label: str) -> str:
    """Name of a count of training cases: of a task, or of those that have one of its labels."""
    return f"{task}/{label}" if label else task


def _pack(flat: FloatArray) -> ArrayRecord:
    return ArrayRecord({_FLAT: Array(np.ascontiguousarray(flat, np.float32))})


def _unpack(content: RecordDict) -> FloatArray:
    record = content.array_records[_WEIGHTS]
    if set(record) != {_FLAT}:
        raise UpdateError(f"weights must be one array named '{_FLAT}'")
    array = record[_FLAT]
    # Before its bytes are read: Flower reads them with pickles refused, but a type is cheaper to refuse than to read.
    if array.stype != "numpy.ndarray" or array.dtype != "float32" or len(array.shape) != 1:
        raise UpdateError(f"weights must be one float32 vector, got {array.dtype} of {len(array.shape)} axes")
    flat: FloatArray = array.numpy()
    if flat.dtype != np.float32 or flat.shape != tuple(array.shape):
        raise UpdateError("weights are not what their header says")
    return flat


def _group(numbers: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in numbers.items() if name.startswith(prefix)}


def _counts(numbers: Mapping[str, Any], prefix: str, allowed: tuple[str, ...]) -> dict[str, int]:
    """Counts under names of a closed list: a name is a word, and words could be anything."""
    counts = {name: _whole(count) for name, count in _group(numbers, prefix).items()}
    if not set(counts) <= set(allowed):
        raise ValueError("an unknown name")
    return counts


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a whole number")
    return value
