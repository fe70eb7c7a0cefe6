"""What a hospital allows a run, whatever the server says: `[policy]` of its kit's `node.toml` (docs/policy.md)."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import Field, field_validator

from shared.config.run_config import RunConfig
from shared.config.sections import Section
from shared.errors import RunError
from shared.tasks import TASKS


class Policy(Section):
    """The hospital's limits; the defaults are safe. Numbers of patients count a patient once, whatever his exams."""

    tasks: tuple[str, ...] = Field(default=(), description="Tasks that a run may have; empty: all.")
    max_rounds: int = Field(default=1000, ge=1, description="Most rounds a run may have.")
    differential_privacy: bool = Field(default=False, description="Refuse a run that trains without it.")
    least_patients: int = Field(
        default=5, ge=1, description="Patients behind any sum or count of a class, and between two sets of patients."
    )
    least_training_patients: int = Field(
        default=10, ge=1, description="Patients behind a fingerprint, and behind an update."
    )
    least_cases_per_step: int = Field(default=2, ge=1, description="Smallest batch size a run may have.")
    least_steps_per_round: int = Field(default=5, ge=1, description="Fewest steps a round may have.")
    least_gradient_clip: float = Field(
        default=0.1, ge=0.0, description="Smallest gradient norm to clip to: far below, an update is a bare gradient."
    )
    both_roles: bool = Field(default=False, description="Take part as training centre and as the external one, too.")
    runs_per_month: int = Field(
        default=5,
        ge=1,
        description="Runs' worth of questions, and preprocessing plans, a configuration has in 31 days.",
    )
    questions_per_run: int = Field(
        default=1000, ge=1, description="Most questions answered in 31 days under one configuration."
    )
    questions_per_month: int = Field(default=3000, ge=1, description="Most questions answered in 31 days.")
    plans_per_month: int = Field(
        default=20, ge=1, description="Most preprocessing plans in 31 days: each fills the cache anew."
    )
    max_cache_gb: float = Field(
        default=500.0, gt=0.0, description="Size of the cache, 10^9 bytes, above which no further plan is taken."
    )
    max_excluded_share: float = Field(
        default=1.0, ge=0.0, le=1.0, description="Share of rows left out above which a run ends with exit code 3."
    )

    @field_validator("tasks")
    @classmethod
    def _tasks_are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in names if name not in TASKS]:
            raise ValueError(f"there is no task {', '.join(unknown)}; there are {', '.join(TASKS)}")
        return names

    @property
    def guards_patients(self) -> bool:
        """Whether any answer needs more than one patient behind it."""
        return self.least_patients > 1 or self.least_training_patients > 1

    def need_training(self, patients: Collection[str], waiting: int = 0) -> None:
        """Refuse a fingerprint or an update of fewer training patients than its least; `waiting` cases are told of."""
        if self.guards_patients and len(patients) < self.least_training_patients:
            wait = f"; {waiting} cases wait, as too few patients changed" if waiting else ""
            raise RunError(f"fewer than the {self.least_training_patients} training patients of its policy{wait}")

    def objections(self, config: RunConfig) -> list[str]:
        """What it forbids of a run, a sentence each; none where the run is allowed."""
        views = {name: config.for_task(name) for name in config.tasks}
        told = []
        if self.tasks and (other := [name for name in config.tasks if name not in self.tasks]):
            told.append(f"this hospital's policy does not allow {', '.join(other)}, only {', '.join(self.tasks)}")
        rounds = max(view.federation.rounds for view in views.values())
        if rounds > self.max_rounds:
            told.append(f"the run has {rounds} rounds, this hospital's policy allows {self.max_rounds}")
        for key, least in (
            ("batch_size", self.least_cases_per_step),
            ("steps_per_round", self.least_steps_per_round),
            ("gradient_clip", self.least_gradient_clip),
        ):
            asked = {name: getattr(view.training, key) for name, view in views.items()}
            told += [
                f"{name} trains with {key} = {value:g}, this hospital's policy allows no less than {least:g}"
                for name, value in asked.items()
                if value < least
            ]
        if self.differential_privacy:
            told.append(
                "this hospital takes part only in runs that train with differential privacy, which this version cannot"
            )
        return told


OPEN = Policy(
    least_patients=1,
    least_training_patients=1,
    least_cases_per_step=1,
    least_steps_per_round=1,
    least_gradient_clip=0.0,
)
"""Without floors: for phantoms, and for simulation on one's own machine. Its questions are not counted."""


def without_floors(policy: Policy) -> Policy:
    """The same policy for phantoms: nobody is behind their numbers."""
    floors = {name: getattr(OPEN, name) for name in Policy.model_fields if name.startswith("least_")}
    return policy.model_copy(update=floors)
