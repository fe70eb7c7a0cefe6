"""Sections: immutable, strict, every field described with what it is."""

import pytest
from pydantic import ValidationError

from shared.config import execution, sections
from shared.config.run_config import RunConfig
from shared.config.sections import ClassifierSection, DataConfig, EvaluationConfig, LoopConfig, Section, TaskSection
from shared.modalities.mri.settings import MriSettings
from shared.strategies import STRATEGIES, strategy_named
from shared.tasks import TASKS, task_named


def every_section():
    found = [item for module in (sections, execution) for item in vars(module).values()]
    return sorted({item for item in found if isinstance(item, type) and issubclass(item, Section)}, key=str)


@pytest.mark.parametrize("section", every_section(), ids=lambda item: item.__name__)
def test_a_section_is_frozen_says_what_it_is_and_refuses_what_it_does_not_know(section):
    assert section.__doc__
    assert section.model_config["frozen"]
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        section.model_validate({"a_key_that_is_none": 1})


def test_a_value_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError, match="frozen"):
        EvaluationConfig().bootstrap = 3


def schemas():
    """The run's sections and those that tasks, modalities and strategies own."""
    own = [task_named(name).settings for name in TASKS] + [strategy_named(name) for name in STRATEGIES]
    return [item.model_json_schema() for item in (RunConfig, ClassifierSection, MriSettings, *own) if item]


def unbounded(schema, where=""):
    """The keys of a schema that a number, a list or a text of any size may stand under."""
    kind = schema.get("type") if not {"enum", "const"} & schema.keys() else None
    lower, upper = {"minimum", "exclusiveMinimum"} & schema.keys(), {"maximum", "exclusiveMaximum"} & schema.keys()
    if (
        (kind in {"integer", "number"} and not (lower and upper))
        or (kind == "array" and "maxItems" not in schema)
        or (kind == "string" and not {"maxLength", "pattern"} & schema.keys())
    ):
        yield where
    for name, value in schema.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield from unbounded(item, f"{where}.{name}")


def test_h14_no_key_of_a_run_asks_for_anything_without_bounds():
    assert [key for schema in schemas() for key in unbounded(schema)] == []


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        (LoopConfig, "steps_per_round", 10**9),
        (LoopConfig, "learning_rate", float("inf")),
        (sections.ModelConfig, "channels", (8, 10**6)),
        (sections.ModelConfig, "channels", (8,) * 100),
        (execution.ComputeConfig, "threads", 10**6),
        (execution.FederationConfig, "rounds", 10**9),
        (execution.FederationConfig, "round_timeout_s", float("nan")),
        (MriSettings, "max_voxels", 10**12),
    ],
)
def test_h14_what_would_take_a_hospital_down_is_refused(section, key, value):
    with pytest.raises(ValidationError, match=r"less than or equal|finite number|at most"):
        section.model_validate({key: value})


@pytest.mark.parametrize("size", [0, 1])
def test_a_batch_is_never_one(size):
    with pytest.raises(ValidationError):
        LoopConfig(batch_size=size)


def test_the_external_centre_never_trains_and_a_site_stands_once():
    with pytest.raises(ValidationError, match="a centre that trains cannot"):
        DataConfig(root="d", sites=("a", "b"), external="b")
    with pytest.raises(ValidationError, match="one site twice"):
        DataConfig(root="d", sites=("a", "a"))


def test_a_classifiers_loop_is_its_own_and_names_no_file():
    assert ClassifierSection().training != LoopConfig()
    assert TaskSection().keys_of_files == ClassifierSection().keys_of_files == ()


def test_splits_leave_patients_to_train_on():
    with pytest.raises(ValidationError, match="leave no patient to train on"):
        sections.SplitConfig(validation=0.9, test=0.2)
