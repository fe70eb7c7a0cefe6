"""The records in which a question and its answer travel: this file alone knows their names, and checks their form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from pydantic import ValidationError

from shared.config.run_config import RunConfig, parse_config
from shared.errors import EXCLUSION_REASONS, UpdateError
from shared.messages.instruction_reply import (
    LONGEST_REASON,
    LONGEST_WORD,
    Instruction,
    Reply,
    SiteFacts,
    check_bounds,
)
from shared.messages.payload import (
    counted_classes,
    counted_tasks,
    named_counts,
    pack_weights,
    record_of,
    unpack_weights,
    whole_numbers,
)
from shared.messages.versions import read_versions
from shared.metrics.sums import Sums
from shared.modalities import modality_named
from shared.modalities.modality import Fingerprint, Plan
from shared.runtime.flower_internals import flower_internal
from shared.tasks import task_named
from shared.types import SPLITS, FloatArray
from shared.words import plain

_FAILURES = {
    "INVALID_FAB": "this hospital has not approved the app: its data officer may look at it and approve it",
    "NODE_UNAVAILABLE": "its connection was lost while it was at work",
    "MESSAGE_UNAVAILABLE": "its upload broke off",
}

_WEIGHTS, _HEADER, _NUMBERS = "weights", "header", "numbers"
_FACTS = tuple(item.name for item in fields(SiteFacts) if item.name != "labelled")


def write_instructions(instruction: Instruction, sites: Sequence[str]) -> dict[str, RecordDict]:
    """Pack the same instruction for several sites; the weights are packed once, whoever gets them."""
    weights = pack_weights(instruction.weights) if instruction.weights is not None else None
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
            "plans": json.dumps({name: plan.model_dump(mode="json") for name, plan in instruction.plans.items()}),
            "site": instruction.site,
            "config": instruction.config.model_dump_json() if instruction.config else "",
            "task": instruction.task,
            "evaluating": instruction.evaluating,
        },
    )
    records = RecordDict({_HEADER: header})
    if instruction.weights is not None:
        records[_WEIGHTS] = pack_weights(instruction.weights)
    return records


def read_instruction(message: Message) -> Instruction:
    """Unpack an instruction, at a site.

    `ConfigError` where the configuration is not one that this site's code knows, or a plan's modality is none;
    `UpdateError` where a plan's numbers are out of its bounds.
    """
    header = record_of(message.content, _HEADER, ConfigRecord)
    plans, config = json.loads(str(header["plans"])), str(header["config"])
    return Instruction(
        run=plain(str(header["run"])),
        round=int(str(header["round"])),
        plans={name: _plan(name, plan) for name, plan in plans.items()},
        split=plain(str(header["split"])),
        weights=_weights(message),
        manifest=plain(str(header["manifest"])),
        site=plain(str(header["site"])),
        config=parse_config(json.loads(config), "the run's configuration") if config else None,
        task=plain(str(header["task"])),
        evaluating=bool(header["evaluating"]),
    )


def write_reply(reply: Reply) -> RecordDict:
    """Pack an answer."""
    header = ConfigRecord(
        {"site": reply.site, "run": reply.run, "manifest": reply.manifest, "error": reply.error},
    )
    numbers: dict[str, int | float | list[int] | list[float]] = {
        "round": reply.round,
        "cases": reply.cases,
        "skipped": reply.skipped,
        "loss": reply.loss,
        "seconds": reply.seconds,
        "over_policy": int(reply.over_policy),
        "evaluation_skipped": reply.evaluation_skipped,
        "evaluation_seconds": reply.evaluation_seconds,
        "sites": list(reply.sites),
    }
    for modality, fingerprint in reply.fingerprints.items():
        numbers |= {f"fingerprint.{modality}.{name}": values for name, values in fingerprint.to_dict().items()}
    if reply.sums is not None:
        numbers |= {f"sums.{name}": value for name, value in reply.sums.to_flat().items()}
    numbers |= {f"versions.{name}": list(parts) for name, parts in (reply.versions or {}).items()}
    for index, told in reply.facts.items():
        numbers |= {f"facts.{index}.{name}": int(getattr(told, name)) for name in _FACTS}
        numbers |= {f"facts.{index}.labelled.{name}": count for name, count in told.labelled.items()}
    for group in ("labelled", "classes", "included", "excluded"):
        numbers |= {f"{group}.{name}": count for name, count in (getattr(reply, group) or {}).items()}
    records = RecordDict({_HEADER: header, _NUMBERS: MetricRecord(numbers)})
    if reply.weights is not None:
        records[_WEIGHTS] = pack_weights(reply.weights)
    return records


def read_reply(message: Message, config: RunConfig, task: str) -> Reply:
    """Unpack and check the form of an answer about a task, on the server; `update_checks` sees to its meaning.

    `UpdateError` where the answer is an error, a record is missing or of another form than `write_reply` gives it, or a
    number is out of the bounds that `Reply` declares.
    """
    if message.has_error():
        # The reason is another process's text: it may quote data and stays where it is.
        raise UpdateError(_failure(message.error.code))
    try:
        header = record_of(message.content, _HEADER, ConfigRecord)
        numbers: Mapping[str, Any] = record_of(message.content, _NUMBERS, MetricRecord)
        sums = _group(numbers, "sums.")
        reply = Reply(
            site=_word(header["site"], LONGEST_WORD),
            run=_word(header["run"], LONGEST_WORD),
            manifest=_word(header["manifest"], LONGEST_WORD),
            error=_word(header["error"], LONGEST_REASON),
            round=numbers["round"],
            cases=numbers["cases"],
            skipped=numbers["skipped"],
            loss=numbers["loss"],
            seconds=numbers["seconds"],
            weights=_weights(message),
            fingerprints=_fingerprints(_group(numbers, "fingerprint."), config),
            sums=Sums.from_flat(sums, task_named(task).kinds) if sums else None,
            labelled=named_counts(_group(numbers, "labelled."), counted_tasks(config)),
            classes=named_counts(_group(numbers, "classes."), counted_classes(config)),
            included=named_counts(_group(numbers, "included."), SPLITS),
            excluded=named_counts(_group(numbers, "excluded."), EXCLUSION_REASONS),
            over_policy={0: False, 1: True}[numbers["over_policy"]],
            evaluation_skipped=numbers["evaluation_skipped"],
            evaluation_seconds=numbers["evaluation_seconds"],
            sites=whole_numbers(numbers["sites"]),
            facts=_facts(_group(numbers, "facts."), config),
            versions=read_versions(_group(numbers, "versions.")),
        )
        return check_bounds(reply)
    except UpdateError:
        raise
    except Exception as error:  # whatever a site sends, only its own answer is lost
        raise UpdateError(f"the answer has not the agreed form ({type(error).__name__})") from error


def _plan(name: str, plan: Any) -> Plan:
    try:
        return modality_named(name).plan.model_validate(plan)
    except ValidationError as error:
        raise UpdateError("the server's preprocessing plan is not within its bounds") from error


def _fingerprints(numbers: Mapping[str, Any], config: RunConfig) -> dict[str, Fingerprint]:
    """The fingerprint of each modality that is named; one that is none is refused."""
    names = dict.fromkeys(name.partition(".")[0] for name in numbers)
    return {name: modality_named(name).read_fingerprint(_group(numbers, f"{name}."), config) for name in names}


def _facts(numbers: Mapping[str, Any], config: RunConfig) -> dict[int, SiteFacts]:
    """What a node tells of each site that it holds, by the site's index."""
    facts = {}
    for index in dict.fromkeys(name.partition(".")[0] for name in numbers):
        own = _group(numbers, f"{index}.")
        told = {name: own.pop(name) for name in _FACTS}
        told["phantom"] = {0: False, 1: True}[told["phantom"]]
        labelled = {name.removeprefix("labelled."): count for name, count in own.items()}
        facts[int(index)] = SiteFacts(**told, labelled=named_counts(labelled, counted_tasks(config)))
    return facts


def _word(value: Any, longest: int) -> str:
    """A text that a site sent, cut before it is looked at: it may be of any length."""
    if not isinstance(value, str):
        raise TypeError("not a text")
    return plain(value[:longest])[:longest]


def _failure(code: int) -> str:
    codes = flower_internal("flwr.common.constant:ErrorCode")
    told = {getattr(codes, name): words for name, words in _FAILURES.items()}
    return told.get(code, f"the site's process failed (Flower error {code})")


def _weights(message: Message) -> FloatArray | None:
    return unpack_weights(record_of(message.content, _WEIGHTS, ArrayRecord)) if _WEIGHTS in message.content else None


def _group(numbers: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in numbers.items() if name.startswith(prefix)}
