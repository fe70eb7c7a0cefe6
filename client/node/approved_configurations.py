"""The configurations of runs that a hospital approved: a file each in its kit, by the configuration's hash.

The program says what can be asked, the configuration what is asked: which tasks, how often, of how many cases.
"""

from __future__ import annotations

import getpass
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from client.node.site_kit import SiteKit
from shared.atomic_files import replace_file
from shared.config.run_config import RunConfig
from shared.config.sections import Section
from shared.errors import ConfigError

FOLDER = "approved-configurations"


class ApprovedConfiguration(Section):
    """One approved configuration: `RunConfig.canonical`, when and by whom it was approved."""

    configuration: dict[str, Any]
    at: str
    by: str = ""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @property
    def name(self) -> str:
        """The run's name in the configuration."""
        return str(self.configuration.get("name", "?"))


def approved_configurations(kit: SiteKit) -> list[ApprovedConfiguration]:
    """All that are approved, the latest last.

    `ConfigError` where a file is damaged, or is of another configuration than its name says.
    """
    known = []
    for path in sorted((kit.folder / FOLDER).glob("*.json")):
        try:
            entry = ApprovedConfiguration.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise ConfigError(f"{path} is damaged: remove it and approve the configuration again") from error
        text = json.dumps(entry.configuration, sort_keys=True).encode()
        if not entry.sha256 == path.stem == hashlib.sha256(text).hexdigest():
            raise ConfigError(f"{path} was changed: remove it and approve the configuration again")
        known.append(entry)
    return sorted(known, key=lambda entry: (entry.at, entry.sha256))


def is_approved(kit: SiteKit, config: RunConfig) -> bool:
    """Whether the configuration is approved; raises as `approved_configurations`."""
    return config.hash() in {entry.sha256 for entry in approved_configurations(kit)}


def approve_configuration(kit: SiteKit, config: RunConfig) -> ApprovedConfiguration:
    """Approve a configuration in the name of the user of this machine; again, with a new date, if it is approved."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry = ApprovedConfiguration(configuration=config.canonical(), at=now, by=getpass.getuser(), sha256=config.hash())
    replace_file(_path(kit, entry.sha256), entry.model_dump_json(indent=1).encode(), str(kit.folder))
    return entry


def withdraw_configuration(kit: SiteKit, entry: ApprovedConfiguration) -> None:
    """Take an approval back: the next question of such a run is refused."""
    _path(kit, entry.sha256).unlink(missing_ok=True)


def _path(kit: SiteKit, digest: str) -> Path:
    return kit.folder / FOLDER / f"{digest}.json"
