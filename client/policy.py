"""The hospital behind a node: its policy, what it approved and its ledger; a simulated node has none of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from client.guarded_site import GuardedSite, admitted_cases
from client.ledger import Ledger
from client.node.approved_configurations import is_approved
from client.node.run_request import questions
from client.node.site_kit import SiteKit
from shared.cohort.site_folder import open_site_folder
from shared.config.run_config import RunConfig
from shared.errors import ConfigError
from shared.messages.instruction_reply import SiteFacts
from shared.policy import Policy, without_floors
from shared.runtime.project import cache_root
from shared.site import Site
from shared.site_facts import site_facts

LEDGER = "ledger.json"


@dataclass(frozen=True, slots=True)
class Hospital:
    """What a node knows of its hospital; `kit` is None where the node was started by hand, without one.

    Of phantoms there are no floors and no ledger: nobody is behind their numbers.
    """

    data: Path
    policy: Policy
    kit: SiteKit | None
    phantom: bool

    @property
    def ledger(self) -> Ledger:
        """The hospital's ledger: in its kit, or without one in the cache under the data folder's hash."""
        own = hashlib.sha256(str(self.data.resolve()).encode()).hexdigest()[:16]
        path = self.kit.state / LEDGER if self.kit else cache_root() / "ledgers" / f"{own}.json"
        return Ledger(path, self.policy)

    def check(self, config: RunConfig) -> None:
        """Refuse a run that this hospital does not allow; `config` is as the server sent it.

        `ConfigError` where it has not approved the configuration, the policy forbids something, or the run names a file
        of pretrained weights: a hospital opens no path that the server names.
        """
        if keys := config.keys_of_files():
            remedy = 'set it to "hub", which the server alone reads, or to "none"'
            raise ConfigError(f"{', '.join(keys)} names a file, and a hospital opens none: {remedy}")
        if objections := self.policy.objections(config):
            raise ConfigError(objections[0])
        if self.kit and not is_approved(self.kit, config):
            raise ConfigError(
                f"this hospital has not approved the run's configuration {config.hash()[:12]}: "
                "`fedbreast approve KIT --configuration FILE` there"
            )

    def facts(self, folder: Path, config: RunConfig) -> SiteFacts:
        """What the site tells of itself: of patients, counts that change by nobody or by enough of them."""
        if not self.policy.guards_patients:
            return site_facts(folder, config, self.policy)
        return site_facts(
            folder, config, self.policy, lambda labels: admitted_cases(self.ledger, "facts", labels, contents={})
        )

    def site(self, folder: Path, name: str, config: RunConfig, run: str) -> Site:
        """The site of a question that is answered; the question is counted, unless it is about phantoms."""
        if not self.phantom:
            self.ledger.take_role("external" if name == config.data.external else "training")
            self.ledger.count_question(config.hash(), questions(config))
        if not self.policy.guards_patients:
            return Site(folder, name, config, run, self.policy)
        return GuardedSite(folder, name, config, run, self.policy, ledger=self.ledger)


def hospital_of(node_config: Mapping[str, object]) -> Hospital | None:
    """The hospital of a node with a `data-dir` of its own; `kit` names its kit. None for a simulated node.

    The policy is read at each question, so that a change of `node.toml` takes effect at once.
    """
    if "data-dir" not in node_config:
        return None
    data = Path(str(node_config["data-dir"]))
    kit = SiteKit(Path(str(node_config["kit"]))) if "kit" in node_config else None
    policy = kit.node.policy if kit else Policy()
    phantom = open_site_folder(data).phantom
    return Hospital(data, without_floors(policy) if phantom else policy, kit, phantom)
