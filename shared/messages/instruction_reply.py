"""What server and sites say to each other: a question and its answer. `shared.messages.records` packs them.

A message holds one flat array of float32 weights, numbers, and words of our own making (the run's name, the plan, an
error of `shared.errors`). It never holds a path, an identifier or text from data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import ConfigDict, Field, SkipValidation, TypeAdapter, ValidationError, with_config

from shared.config.run_config import RunConfig
from shared.errors import UpdateError
from shared.messages.payload import FEW
from shared.metrics.sums import MOST_CASES, Sums
from shared.modalities.modality import Fingerprint, Plan
from shared.types import FloatArray

REGISTER = "query.register"
FINGERPRINT = "query.fingerprint"
PREPARE = "query.prepare"
TRAIN = "train"
EVALUATE = "evaluate"

LONGEST_REASON = 200
"""Characters of a site's error that the server takes."""
LONGEST_WORD = 256
Word = Annotated[str, Field(max_length=LONGEST_WORD)]
Count = Annotated[int, Field(ge=0, le=MOST_CASES)]
CountOrFew = Annotated[int, Field(ge=FEW, le=MOST_CASES)]
Seconds = Annotated[float, Field(ge=0.0, le=1e7)]
Megabytes = Annotated[int, Field(ge=0, le=2**40)]
_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True, revalidate_instances="always")


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


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class SiteFacts:
    """What a site tells of itself when it registers, before any image is read.

    `phantom`: its data are no patients'. `cases` are the rows of its table, `labelled` those of them that each task, or
    a label that owns parameters, can use (`payload.label_key`); `FEW` in place of what its policy does not tell.
    `disk_mb` and `memory_mb` are free there, 10^6 bytes; 0 where it cannot tell.
    """

    phantom: bool = False
    cases: CountOrFew = 0
    labelled: Mapping[str, CountOrFew] = field(default_factory=dict)
    disk_mb: Megabytes = 0
    memory_mb: Megabytes = 0


@with_config(_STRICT)
@dataclass(frozen=True, slots=True)
class Reply:
    """What a site answers; fields that a kind of message does not use keep their defaults.

    `fingerprints` are by modality. `labelled` counts the training cases of each task (`task` or `task/label`),
    `classes` the cases of each label's classes over all splits. `sites` answers a registration: the indices in
    `RunConfig.centres` of those whose data the node holds, `facts` of those whose folder can be read, by the same
    index, and `versions` of what decides the numbers there.
    `over_policy`: more cases were left out than the site's own policy allows. `skipped` cases could not be opened
    this time; `labelled` then counts those used. `evaluation_*`: the same of the validation cases, where a request to
    train asked to evaluate the model as well.

    The types are also the bounds that `check_bounds` keeps. Those of weights, sums and fingerprints are checked where
    they are read: `payload.unpack_weights`, `Sums.from_flat`, `Modality.read_fingerprint`.
    """

    site: Word
    run: Word
    round: Annotated[int, Field(ge=0, le=10_000)]
    manifest: Word = ""
    weights: SkipValidation[FloatArray | None] = None
    cases: Count = 0
    skipped: Count = 0
    loss: Annotated[float, Field(ge=-1e9, le=1e9)] = 0.0
    seconds: Seconds = 0.0
    fingerprints: SkipValidation[Mapping[str, Fingerprint]] = field(default_factory=dict)
    sums: SkipValidation[Sums | None] = None
    labelled: Mapping[str, Count] | None = None
    classes: Mapping[str, CountOrFew] | None = None
    included: Mapping[str, Count] | None = None
    excluded: Mapping[str, Count] | None = None
    over_policy: bool = False
    sites: Annotated[tuple[Count, ...], Field(max_length=1001)] = ()
    facts: Annotated[Mapping[Count, SiteFacts], Field(max_length=1001)] = field(default_factory=dict)
    versions: Mapping[str, tuple[Count, ...]] | None = None
    # Also below 0: what is wrong with an evaluation in passing costs no update, `check_sums` refuses it alone.
    evaluation_skipped: Annotated[int, Field(ge=-MOST_CASES, le=MOST_CASES)] = 0
    evaluation_seconds: Seconds = 0.0
    error: Annotated[str, Field(max_length=LONGEST_REASON)] = ""

    def evaluation(self) -> Reply:
        """The evaluation that came with an update, as if it had been asked for alone."""
        cases = 0 if self.sums is None else self.sums.n
        return replace(
            self, weights=None, cases=cases, skipped=self.evaluation_skipped, seconds=self.evaluation_seconds
        )


_REPLY = TypeAdapter(Reply)


def check_bounds(reply: Reply) -> Reply:
    """An answer as it is; `UpdateError` with the field's name where a number is out of its bounds, or of another type.

    The names in `labelled` and the like are shown: they must have been checked.
    """
    try:
        return _REPLY.validate_python(reply)
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise UpdateError(f"the answer has not the agreed form: '{where}': {fault['msg'].lower()}") from None
