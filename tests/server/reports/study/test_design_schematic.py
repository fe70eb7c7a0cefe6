"""The design: which centre is held out when, the arms in words, what each task cost."""

import re
from dataclasses import replace

from server.reports.study.design_schematic import design


def test_every_centre_is_held_out_once_and_trains_in_the_other_folds(study, page):
    drawn = design(study)
    words = re.findall(r"<text[^>]*>([^<]*)</text>", drawn["svg"])
    assert words.count("held out") == 4
    assert words.count("trains") == 12
    assert "4 folds, training seeds 0, 1, 80 models." in page


def test_the_budget_counts_models_steps_and_seconds_of_each_task(study):
    outlines, receptors = design(study)["budget"]
    assert (outlines["task"], outlines["models"], outlines["seconds"]) == ("Lesion outlines", 40, "2,460")
    assert (outlines["rounds"], outlines["steps"], outlines["pooled"]) == (5, "100", "300")
    assert (receptors["task"], receptors["rounds"]) == ("Receptor status", 10)


def test_arms_are_those_of_the_study(study):
    assert [name for name, _ in design(study)["arms"]] == ["Local", "Federated", "Pooled", "Ensemble"]
    section = study.config.study.model_copy(update={"arms": ("local", "federated"), "seeds": (0,)})
    fewer = replace(study, config=study.config.model_copy(update={"study": section}))
    assert [name for name, _ in design(fewer)["arms"]] == ["Local", "Federated"]
    assert not design(fewer)["pooled"]
    assert "with each of 1 seed the arms" in design(fewer)["caption"]
