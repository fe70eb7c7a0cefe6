"""The section of a generalisation study: which centres are left out, which arms, which seeds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from shared.config.sections import Section, SiteName

ArmKind = Literal["local", "federated", "pooled", "ensemble"]


class StudyConfig(Section):
    """Every centre is left out once; each arm trains on the others and is evaluated on the one left out."""

    seeds: tuple[int, ...] = Field(default=(0,), min_length=1, description="Training seeds; the data keep theirs.")
    arms: tuple[ArmKind, ...] = Field(
        default=("local", "federated", "pooled", "ensemble"),
        min_length=1,
        description="local: each centre alone; pooled: all data in one place; ensemble: mean of the local predictions.",
    )
    held_out: tuple[SiteName, ...] | None = Field(
        default=None, min_length=1, description="Centres to leave out, one at a time; none: every centre."
    )

    @model_validator(mode="after")
    def _each_once(self) -> StudyConfig:
        for name in ("seeds", "arms", "held_out"):
            values = getattr(self, name) or ()
            if len(set(values)) != len(values):
                raise ValueError(f"study.{name} names one twice")
        if min(self.seeds) < 0:
            raise ValueError("study.seeds are whole numbers from 0")
        if "ensemble" in self.arms and "local" not in self.arms:
            raise ValueError("study.arms: the ensemble is the mean of the local models: add 'local'")
        return self
