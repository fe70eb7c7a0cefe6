"""The run folder: a commit a round of each task, and the ledger of who took part with how many cases.

`models/TASK/round-NNN.safetensors` is written first and `journal/TASK/round-NNN.json` after it, each atomically: the
journal's file is the commit. What a kill leaves half done is done again, to the same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from filelock import AcquireReturnProxy
from pydantic import TypeAdapter
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from server.run_folder.format import check_format, read_json, write_format
from server.run_folder.phantoms import REGISTERED
from server.run_folder.round_record import RoundRecord, read_records, record_bytes
from shared.atomic_files import remove_drafts, replace_file
from shared.config.run_config import RunConfig, load_config
from shared.errors import ConfigError, RunError
from shared.messages.instruction_reply import SiteFacts
from shared.modalities import MODALITIES, modality_named
from shared.modalities.modality import Plan
from shared.reproducibility import state_hash
from shared.runtime.locks import hold_lock
from shared.strategies.strategy import ServerState

_FACTS = TypeAdapter(dict[str, SiteFacts])


class RunFolder:
    """A run's folder, locked against a second server."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._held: AcquireReturnProxy[Any] | None = None

    @classmethod
    def create(cls, path: Path, config: RunConfig) -> RunFolder:
        """Start a new run.

        Raises
        ------
        ConfigError
            The folder already holds a run.

        """
        if (path / "config.toml").exists():
            raise ConfigError(f"runs/{path.name} already holds a run: choose another name, or resume it")
        folder = cls(path)
        folder.lock()
        folder.write("config.toml", tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)).encode())
        write_format(path)
        folder.write("started.json", json.dumps({"at": datetime.now(UTC).isoformat()}).encode())
        folder.point_latest()
        return folder

    @classmethod
    def resume(cls, path: Path) -> tuple[RunFolder, RunConfig]:
        """Open a run that was stopped, with the configuration it was started with.

        Raises
        ------
        ConfigError
            There is no such run; the message lists those there are.

        """
        if not (path / "config.toml").is_file():
            known = (
                sorted(item.parent.name for item in path.parent.glob("*/config.toml") if not item.parent.is_symlink())
                if path.parent.is_dir()
                else []
            )
            raise ConfigError(f"no run '{path.name}' to resume; there are: {', '.join(known) or 'none'}")
        check_format(path)
        folder = cls(path)
        folder.lock()
        remove_drafts(path)
        folder.point_latest()
        return folder, load_config(path / "config.toml")

    def lock(self) -> None:
        """Take the folder for this process; a `RunError` if another server holds it."""
        refusal = f"runs/{self.path.name} is in use by another server: wait for it or choose another name"
        self._held = hold_lock(self.path / ".lock", refusal)

    def release(self) -> None:
        """Give the folder back."""
        if self._held is not None:
            self._held.lock.release()

    def point_latest(self) -> None:
        """Make `runs/latest` point here."""
        draft = self.path.parent / f".latest.{os.getpid()}"
        draft.unlink(missing_ok=True)
        draft.symlink_to(self.path.name)
        draft.replace(self.path.parent / "latest")

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the folder atomically, and so that it outlasts a loss of power.

        `RunError` where there is no space left for it; what was committed stays.
        """
        replace_file(self.path / name, content, f"runs/{self.path.name}", durable=True)

    def commit(
        self,
        record: RoundRecord,
        state: Mapping[str, torch.Tensor],
        strategy_state: ServerState,
    ) -> None:
        """Commit a round: model, what the strategy keeps at the server where that is something, and last the record."""
        stem = _stem(record)
        self.write(
            f"models/{stem}.safetensors", save_tensors({key: value.contiguous() for key, value in state.items()})
        )
        if strategy_state:
            self.write(
                f"journal/{stem}.strategy",
                save_arrays({key: np.ascontiguousarray(item) for key, item in strategy_state.items()}),
            )
        self.enter(record)

    def enter(self, record: RoundRecord) -> None:
        """Write a round's record alone: its commit, and once more when its model was evaluated."""
        self.write(f"journal/{_stem(record)}.json", record_bytes(record))

    def records(self, task: str) -> list[RoundRecord]:
        """Every committed round of a task, in order, from round 0 (the start)."""
        return read_records(self.path, task)

    def model(self, record: RoundRecord) -> dict[str, torch.Tensor]:
        """The global model after a round; `RunError` where its bytes are not those that were committed."""
        path = self.path / "models" / f"{_stem(record)}.safetensors"
        state: dict[str, torch.Tensor] = load_tensors(path.read_bytes())
        if state_hash(state) != record.model_hash:
            raise RunError(
                f"models/{record.task}/{path.name} is not the model the journal committed: restore the folder from a "
                "copy"
            )
        return state

    def strategy_state(self, record: RoundRecord) -> ServerState:
        """What the strategy kept at the server after a round; empty where it keeps nothing."""
        path = self.path / "journal" / f"{_stem(record)}.strategy"
        return dict(load_arrays(path.read_bytes())) if path.is_file() else {}

    def write_plans(self, plans: Mapping[str, Plan]) -> None:
        """Keep the federation's plan of each modality."""
        kept = {name: plan.model_dump(mode="json") for name, plan in plans.items()}
        self.write("plan.json", json.dumps(kept, indent=1).encode())

    def plans(self) -> dict[str, Plan]:
        """The federation's plan of each modality, once there are any: a resumed run keeps them."""
        path = self.path / "plan.json"
        if not path.is_file():
            return {}
        kept = read_json(path, _OBJECT, "plan.json")
        # Before there were several modalities the file held MRI's plan alone.
        by_name = kept if set(kept) <= set(MODALITIES) else {"mri": kept}
        return {name: modality_named(name).plan.model_validate(plan) for name, plan in by_name.items()}

    def write_most_cases(self, cases: Mapping[str, int]) -> None:
        """Keep how many training cases a site may claim, as agreed when the consortium was provisioned."""
        self.write("most-cases.json", json.dumps(cases, indent=1).encode())

    def most_cases(self) -> dict[str, int]:
        """What `write_most_cases` kept; empty before."""
        path = self.path / "most-cases.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    def write_facts(self, facts: Mapping[str, SiteFacts]) -> None:
        """Keep `registered.json`: what each site told of itself when it joined."""
        self.write(REGISTERED, _FACTS.dump_json({name: facts[name] for name in sorted(facts)}, indent=1))

    def facts(self) -> dict[str, SiteFacts]:
        """What `write_facts` kept; empty before. `RunError` where it is damaged."""
        try:
            return _FACTS.validate_json((self.path / REGISTERED).read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise RunError(f"runs/{self.path.name}/{REGISTERED} cannot be read: restore it from a copy") from error

    def write_flow(self, flow: Mapping[str, Mapping[str, object]]) -> None:
        """Keep `cases.json`: a site's included cases by split and left-out ones by reason."""
        self.write("cases.json", json.dumps(flow, indent=1).encode())

    def flow(self) -> dict[str, dict[str, object]]:
        """What `write_flow` kept; empty before."""
        path = self.path / "cases.json"
        return read_json(path, _OBJECT, "cases.json") if path.is_file() else {}


_OBJECT = TypeAdapter(dict[str, Any])


def _stem(record: RoundRecord) -> str:
    return f"{record.task}/round-{record.round:03d}"
