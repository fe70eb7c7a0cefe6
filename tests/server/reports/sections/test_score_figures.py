"""Figures of scores on a page: those that the cases allow, each with its caption."""

from server.reports.sections.score_figures import score_figures
from tests.server.reports.invented_classifiers import RECEPTORS, cases, evaluated, external, receptors, whole


def test_every_figure_is_captioned_with_whose_cases_it_shows():
    _, part, _ = whole()
    roc, calibration, forest = part["scores"]["figures"]
    assert roc["caption"].startswith("ROC curves, phantom cases of centre-d. Beside each name: positive cases of all.")
    assert "Thin: parts of the network alone." in roc["caption"]
    assert "24 of 60" in roc["svg"]
    assert "reference outline, with Wilson's intervals" in calibration["caption"]
    assert forest["caption"].startswith("AUC, mean of the four (few) by arm, phantom cases of centre-d")
    assert "Best possible" in forest["svg"]


def test_what_concerns_the_model_alone_has_no_arm_beside_it():
    table = receptors()
    data = evaluated(table, external(table, RECEPTORS), RECEPTORS)
    assert [item["caption"].split(",")[0] for item in score_figures(data, compared=False)] == ["Calibration"]


def test_a_figure_that_does_not_exist_is_not_drawn():
    table = cases({"truth_malignant": [], "score_malignant": []})
    assert table.empty
    table = receptors(labels=())
    assert score_figures(evaluated(table, external(table, RECEPTORS), RECEPTORS)) == []
