"""What server and sites say to each other: a question and its answer. `shared.messages.records` packs them.

A message holds one flat array of float32 weights, numbers, and words of our own making (the run's name, the plan, an
error of `shared.errors`). It never holds a path, an identifier or text from data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shared.config.run_config import RunConfig
from shared.metrics.sums import Sums
from shared.modalities.modality import Fingerprint, Plan
from shared.types import FloatArray

REGISTER = "query.register"
FINGERPRINT = "query.fingerprint"
PREPARE = "query.prepare"
TRAIN = "train"
EVALUATE = "evaluate"


@dataclass(frozen=True, slots=True)
class Instruction:
    """What the server asks of a site.

    Attributes
    ----------
    run
        Name of the run: an answer to another run is refused.
    round
        Number of the round; 0 before the first.
    plans
        The preprocessing plan of each modality, once there are any.
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
    evaluating
        Of a request to train: evaluate the model that is sent on the validation cases first.

    """

    run: str
    round: int
    plans: Mapping[str, Plan] = field(default_factory=dict)
    split: str = "validation"
    weights: FloatArray | None = None
    manifest: str = ""
    site: str = ""
    config: RunConfig | None = None
    task: str = ""
    evaluating: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What a site answers; fields that a kind of message does not use keep their defaults.

    `fingerprints` are by modality. `labelled` counts the training cases of each task (`task` or `task/label`),
    `classes` the cases of each label's classes over all splits. `sites` answers a registration: the indices in
    `RunConfig.centres` of those whose data the node holds, and `versions` of what decides the numbers there.
    `over_policy`: more cases were left out than the site's own policy allows. `skipped` cases could not be opened
    this time; `labelled` then counts those used. `evaluation_*`: the same of the validation cases, where a request to
    train asked to evaluate the model as well.
    """

    site: str
    run: str
    round: int
    manifest: str = ""
    weights: FloatArray | None = None
    cases: int = 0
    skipped: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    fingerprints: Mapping[str, Fingerprint] = field(default_factory=dict)
    sums: Sums | None = None
    labelled: Mapping[str, int] | None = None
    classes: Mapping[str, int] | None = None
    included: Mapping[str, int] | None = None
    excluded: Mapping[str, int] | None = None
    over_policy: bool = False
    sites: tuple[int, ...] = ()
    versions: Mapping[str, tuple[int, ...]] | None = None
    evaluation_skipped: int = 0
    evaluation_seconds: float = 0.0
    error: str = ""

    def evaluation(self) -> Reply:
        """The evaluation that came with an update, as if it had been asked for alone."""
        cases = 0 if self.sums is None else self.sums.n
        return replace(
            self, weights=None, cases=cases, skipped=self.evaluation_skipped, seconds=self.evaluation_seconds
        )
