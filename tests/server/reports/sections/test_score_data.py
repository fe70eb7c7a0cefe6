"""Which AUCs sum a task up: its first figures, or each label's where these do not exist."""

from server.reports.sections.score_data import areas, label_areas, leading_areas, why_undefined
from tests.server.reports.invented_classifiers import RECEPTORS, evaluated, external, receptors, subtypes


def test_the_mean_leads_where_it_exists_and_the_labels_where_not():
    table = subtypes()
    data = evaluated(table, external(table))
    assert [metric.name for metric in leading_areas(data)] == ["auc_macro"]
    assert len(areas(data)) == 5
    single = subtypes(counts=(30, 18, 0, 12))
    data = evaluated(single, external(single))
    assert [metric.name for metric in leading_areas(data)] == [metric.name for metric in label_areas(data).values()]
    reasons = {metric.name: why_undefined(metric, data) for metric in areas(data)}
    assert reasons["auc_her2_enriched"] == "0 of 60 cases positive, both classes are needed"


def test_every_label_leads_where_no_mean_is_declared():
    table = receptors()
    data = evaluated(table, external(table, RECEPTORS), RECEPTORS)
    assert [metric.name for metric in leading_areas(data)] == ["auc_er", "auc_pr", "auc_her2"]
    assert list(label_areas(data)) == ["er", "pr", "her2"]
