"""The external centre at a node of its own: its cases stay there, and it evaluates with sums instead of cases.

A hospital that validates need not hand its images to the coordinator. The price: figures from sums have no per-case
table, no picture and no bootstrap, and classifiers are evaluated in the reference outline only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from server.evaluation.case_tables import TrainedModels
from server.evaluation.metric_rows import sum_rows
from server.federation.participants import Participants
from server.federation.update_checks import Expected, check_answer, check_sums
from server.run_folder.external_access import open_once
from server.run_folder.results import ResultRow
from shared.errors import RunError, UpdateError
from shared.messages.instruction_reply import EVALUATE, PREPARE, Instruction, Reply
from shared.messages.payload import flatten, manifest_of
from shared.tasks import task_named
from shared.tasks.task import Task

log = logging.getLogger(__name__)

EXTERNAL = "external"
"""The split an external centre is asked for: all its cases."""


def validate_at_node(
    participants: Participants, trained: Mapping[str, TrainedModels], on_model: Callable[[int, int], None]
) -> list[ResultRow]:
    """Have the external centre's node evaluate every task's models on all its cases, once a run.

    `on_model` is called with (done, total) over models. `RunError` where the centre was opened before for other models,
    or gives no good answer: the run may be resumed.
    """
    config, centre = participants.config, str(participants.config.data.external)
    open_once(participants.folder, centre, {name: item.models for name, item in trained.items()}, at_node=True)
    cases = _prepare(participants, centre)
    total, done = sum(len(item.models) for item in trained.values()), 0
    rows: list[ResultRow] = []
    on_model(done, total)
    for name, item in trained.items():
        task = task_named(name)
        for model_hash, state in item.models.items():
            asked = participants.instruction(0, name)
            instruction = replace(asked, split=EXTERNAL, weights=flatten(state), manifest=manifest_of(state))

            def check(site: str, reply: Reply, task: Task = task) -> None:
                check_sums(reply, Expected(site, participants.run, 0, cases=cases), task)

            sums = _answer(participants, centre, EVALUATE, instruction, check).sums
            if sums is None:
                raise RunError(f"the external centre '{centre}' sent no sums: resume the run")
            rows += sum_rows(
                {centre: sums}, task, config.evaluation, seed=config.seed, role="external", model_hash=model_hash
            )
            done += 1
            on_model(done, total)
    return rows


def _prepare(participants: Participants, centre: str) -> int:
    """Have the centre prepare its cases by the plan; returns their number."""

    def check(site: str, reply: Reply) -> None:
        check_answer(reply, Expected(site, participants.run, 0))
        if not sum((reply.included or {}).values()):
            raise UpdateError("no case is usable")

    reply = _answer(participants, centre, PREPARE, participants.instruction(), check)
    cases = sum((reply.included or {}).values())
    flow = participants.folder.flow()
    flow[centre] = {"role": EXTERNAL, "included": {EXTERNAL: cases}, "excluded": dict(reply.excluded or {})}
    if reply.over_policy:
        log.warning("%s: more cases are left out than the site's policy allows", centre)
        flow[centre]["over_policy"] = True
    participants.folder.write_flow(flow)
    return cases


def _answer(
    participants: Participants, centre: str, kind: str, instruction: Instruction, check: Callable[[str, Reply], None]
) -> Reply:
    ((_, answer),) = participants.requests.ask([centre], kind, instruction, check)
    if answer.reply is None:
        raise RunError(f"the external centre '{centre}' did not evaluate: {answer.reason}; mend and resume the run")
    return answer.reply
