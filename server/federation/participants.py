"""Who takes part in a run: found, fingerprinted, prepared; lost, and back again before a later round."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flwr.serverapp import Grid

from server.federation.absences import Absences, left_out_entry
from server.federation.site_registration import SiteRegistration
from server.federation.site_requests import LATE, Answer, Check, SiteRequests
from server.federation.update_checks import Expected, check_answer
from server.run_folder.journal import RunFolder
from server.run_folder.round_record import SiteEntry
from server.run_folder.site_states import SiteStates
from shared.config.run_config import RunConfig
from shared.errors import RunError, UpdateError
from shared.messages.instruction_reply import FINGERPRINT, PREPARE, Instruction, Reply, SiteFacts
from shared.messages.payload import label_key
from shared.metrics.sums import MOST_CASES
from shared.modalities import modality_named
from shared.modalities.modality import Plan
from shared.runtime.progress import read_progress, site_progress_path
from shared.runtime.project import cache_root
from shared.tasks.task import Task
from shared.types import SPLITS

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int, str], None]
"""Called with (phase, done, total, text)."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A site in the federation, its cases in each split, and its training cases of each task and label."""

    name: str
    included: Mapping[str, int]
    labelled: Mapping[str, int]

    def counts(self, task: Task) -> dict[str, int]:
        """Training cases by label that owns parameters; under "" those the task uses."""
        return {
            label: self.labelled.get(label_key(task.name, label), 0) for label in ("", *task.learner.owners.values())
        }


class Participants:
    """The sites of a run and the messages to them; parameters as `server.federation.rounds.Federation`."""

    def __init__(self, grid: Grid, config: RunConfig, folder: RunFolder, on_progress: Progress) -> None:
        self.grid = grid
        self.config = config
        self.folder = folder
        self.run = folder.path.name
        self.on_progress = on_progress
        self.nodes: dict[str, int] = {}
        self.sites: list[Registered] = []
        self.lost: dict[str, SiteEntry] = {}
        self.plans: dict[str, Plan] = {}
        self.states = SiteStates(folder.path, config.data.sites)
        self.requests = SiteRequests(grid, config, self.nodes, self.states)
        self.absences = Absences(config.federation.left_out_after)
        self.facts: dict[str, SiteFacts] = folder.facts()
        self._registration = SiteRegistration(grid, config, self.run)
        self._fingerprinted: dict[str, int] = {}

    def register(self) -> None:
        """Find and prepare the sites."""
        self.find()
        self.prepare()

    def find(self, further: Collection[str] = ()) -> None:
        """Find the sites, and the nodes of `further` centres; keep what they tell of themselves in the run's folder."""
        names, federation = self.config.data.sites, self.config.federation
        self.on_progress("register", 0, len(names), "")
        self.lost = {name: SiteEntry("absent", "never connected", attempts=0) for name in names}
        self._find(min(federation.join_timeout_s, federation.round_timeout_s), awaited=(*names, *further))

    def prepare(self) -> None:
        """Merge the sites' fingerprints into the plans, and have each prepare its cases.

        A resumed run keeps its plans, and each site must still have the cases it had. `RunError` where fewer than
        `min_sites` can take part.
        """
        self.plans = self.folder.plans()
        joining = [name for name in self.config.data.sites if name in self.nodes]
        if not self.plans:
            known = self._fingerprint(joining)
            joining = list(known)
            self.need(len(joining))
            for modality in map(modality_named, self.config.modalities):
                merged = modality.merge([own[modality.name] for own in known.values()], self.config)
                self.plans[modality.name] = modality.make_plan(merged, self.config)
            self.folder.write_plans(self.plans)
        self._prepare(joining, self.config.federation.round_timeout_s)
        self.need(len(self.sites))

    def rejoin(self) -> None:
        """Take back, without waiting, sites that are missing and have come meanwhile; each prepares by the run's plans.

        One that did not answer in time is asked again, unless it is left out. One that failed is asked when its node
        left and came back. Whether one that is left out is there again, is asked in passing.
        """
        online = set(self.grid.get_node_ids())
        missing = [name for name in self.config.data.sites if name in self.lost or self.nodes[name] not in online]
        silent = [self.nodes[name] for name in self.absences.silent() if self.nodes.get(name) in online]
        wait, started = self.config.federation.join_timeout_s, time.monotonic()
        late = [name for name in missing if self.nodes.get(name) in online and self.lost[name].status == "absent"]
        back = [*late, *(self._find(wait, again=silent) if self._registration.is_news(online) or silent else [])]
        left_out = [name for name in missing if name in back and self.absences.left_out(name)]
        for name in left_out:
            self._lose(name, left_out_entry())
        joining = [name for name in missing if name in back and name not in left_out]
        if joining:
            self.on_progress("register", 0, len(joining), f"{', '.join(joining)} joining")
            self._prepare(joining, max(1.0, wait - (time.monotonic() - started)))

    def external(self, *, wait: bool = False) -> bool:
        """Whether the external centre has a node of its own, also one that came late; `wait` for one that may come."""
        centre = str(self.config.data.external)
        if self.nodes.get(centre) not in set(self.grid.get_node_ids()):
            self._find(self.config.federation.join_timeout_s, awaited=[centre] if wait else [])
        return centre in self.nodes

    @property
    def phantoms(self) -> dict[str, bool]:
        """Of each centre that told what it is, whether its data are phantoms."""
        return {name: told.phantom for name, told in self.facts.items()}

    def instruction(self, number: int = 0, task: str = "") -> Instruction:
        """What every request of a round holds."""
        return Instruction(self.run, number, self.plans, config=self.config, task=task)

    def need(self, able: int, where: str = "") -> None:
        """Raise `RunError` where fewer than `min_sites` are able to take part; the message says why each is not."""
        if able < self.config.federation.min_sites:
            reasons = "; ".join(f"{name}: {entry.reason}" for name, entry in sorted(self.lost.items()))
            raise RunError(
                f"{able} of {len(self.config.data.sites)} sites can take part{where}, federation.min_sites is "
                f"{self.config.federation.min_sites} ({reasons})",
            )

    def _find(self, wait: float, *, awaited: Collection[str] = (), again: Collection[int] = ()) -> list[str]:
        """Find the nodes of sites that are missing; return those found."""
        result = self._registration.look(wait, awaited, again)
        for name, reason in result.refused.items():
            self._lose(name, SiteEntry("refused", reason))
        online = set(self.grid.get_node_ids())
        back = []
        for name, node in result.nodes.items():
            if name not in self.lost and self.nodes.get(name) in online and self.nodes[name] != node:
                log.warning("node %d also claims to be '%s' and is not asked", node, name)
                continue
            self.absences.answered([name])
            if name in self.lost or self.nodes.get(name) != node:
                self.nodes[name] = node
                self.lost.pop(name, None)
                back.append(name)
            if name in result.facts:
                self.facts[name] = result.facts[name]
        self.folder.write_facts(self.facts)
        return back

    def _fingerprint(self, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """The sites' fingerprints by modality; a site whose answer is bad is lost."""

        def check(name: str, reply: Reply) -> None:
            check_answer(reply, Expected(name, self.run, 0))
            if set(reply.fingerprints) != set(self.config.modalities):
                raise UpdateError("the answer does not hold the fingerprints of the run's modalities")
            self._check_share(name, sum(item.n for item in reply.fingerprints.values()))

        known = {}
        for name, answer in self._ask(names, FINGERPRINT, check):
            if answer.reply is None:
                self._lose(name, answer.entry)
            else:
                known[name] = answer.reply.fingerprints
                self._fingerprinted[name] = sum(item.n for item in known[name].values())
        return {name: known[name] for name in names if name in known}

    def _prepare(self, names: Sequence[str], wait: float) -> None:
        """Have sites prepare their cases; register those that have some to train on."""
        flow = self.folder.flow()

        def check(name: str, reply: Reply) -> None:
            check_answer(reply, Expected(name, self.run, 0))
            included, excluded = reply.included or {}, reply.excluded or {}
            if set(included) != set(SPLITS):
                raise UpdateError("the answer does not count its cases of each split")
            train = included["train"]
            if train == 0:
                raise UpdateError("no training case is left")
            self._check_share(name, train)
            if name in flow and flow[name]["included"] != included:
                raise UpdateError("its cases changed since the run began: start a new run")
            # Preparing may leave out cases that the fingerprint counts, with a reason for each.
            counted = self._fingerprinted.get(name, train)
            if not train <= counted <= train + sum(excluded.values()):
                raise UpdateError(f"prepared {train} training cases, but its fingerprint counts {counted}")
            if max((reply.labelled or {}).values(), default=0) > train:
                raise UpdateError(f"counts more labelled cases than its {train} training cases")

        known = {site.name: site for site in self.sites if site.name not in names}
        for name, answer in self._ask(names, PREPARE, check, wait):
            reply = answer.reply
            if reply is None:
                late = answer.reason == LATE
                reason = "did not prepare its cases before the deadline" if late else answer.reason
                self._lose(name, replace(answer.entry, reason=reason))
                continue
            self.lost.pop(name, None)
            included = dict(reply.included or {})
            known[name] = Registered(name, included, dict(reply.labelled or {}))
            flow[name] = {
                "role": "training",
                "included": included,
                "excluded": dict(reply.excluded or {}),
                "classes": dict(reply.classes or {}),
            }
            if reply.over_policy:
                log.warning("%s: more cases are left out than the site's policy allows", name)
                flow[name]["over_policy"] = True
        self.sites = [known[name] for name in self.config.data.sites if name in known]
        self.folder.write_flow(flow)

    def _check_share(self, name: str, cases: int) -> None:
        """Raise `UpdateError` for more cases than were agreed, or than leave the other sites a place in the average."""
        if (agreed := self.folder.most_cases().get(name)) is not None and cases > agreed:
            raise UpdateError(f"claims {cases} training cases, at most {agreed} were agreed in the consortium's file")
        most = MOST_CASES // len(self.config.data.sites)
        if cases > most:
            raise UpdateError(f"claims {cases} training cases, a run of so many sites takes at most {most} of each")

    def _lose(self, name: str, entry: SiteEntry) -> None:
        log.warning("%s cannot take part: %s", name, entry.reason)
        self.lost[name] = entry
        self.states.change({name: ("absent", entry.reason)})

    def _ask(
        self, names: Sequence[str], kind: str, check: Check, wait: float | None = None
    ) -> Iterator[tuple[str, Answer]]:
        """Ask sites before the first round; while they work, report how far they are."""
        phase = kind.removeprefix("query.")
        return self.requests.ask(
            names, kind, self.instruction(), check, wait=wait, on_wait=lambda: self._watch_sites(phase)
        )

    def _watch_sites(self, phase: str) -> None:
        """Report how far the sites are with their studies, where their progress can be seen: in a simulation."""
        moments = [read_progress(site_progress_path(cache_root(), self.run, name)) for name in self.nodes]
        seen = [moment for moment in moments if moment is not None and moment.phase == phase]
        if seen:
            done, total = sum(moment.done for moment in seen), sum(moment.total for moment in seen)
            self.on_progress(phase, done, total, f"{len(self.nodes)} sites")
