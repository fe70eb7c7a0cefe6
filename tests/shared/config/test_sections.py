"""Sections: immutable, strict, every field described with what it is."""

import pytest
from pydantic import ValidationError

from shared.config import execution, sections
from shared.config.sections import ClassifierSection, DataConfig, EvaluationConfig, LoopConfig, Section, TaskSection


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
