"""What a section is made from: the chosen model's rows and cases, in the order to show, under plain names."""

import pandas as pd

from server.reports.sections.external_data import external_data
from tests.server.reports.invented_classifiers import (
    ALL,
    END,
    ORACLE,
    RECEPTORS,
    evaluated,
    external,
    finished,
    internal,
    receptors,
    subtypes,
)


def test_arms_stand_in_the_order_to_show_under_plain_names():
    foreign = subtypes("pooled", seed=9, model_hash="p")
    data = evaluated(ALL, [*external(foreign), *external(ALL, oracle=ORACLE), *internal()])
    assert [data.arm_name(arm) for arm in data.rows] == [
        "Reference outline", "End to end", "Axial alone", "Coronal alone", "Sagittal alone", "Volume alone", "Pooled",
        "Best possible",
    ]  # fmt: skip
    assert set(data.own_cases["arm"]) == {"federated"}
    assert data.counts("luminal_a") == (24, 60)
    assert data.n == 60


def test_few_are_under_ten_of_either_class():
    for counts, few in (((50, 10, 0, 0), False), ((51, 9, 0, 0), True), ((9, 51, 0, 0), True)):
        table = subtypes(counts=counts)
        data = evaluated(table, external(table))
        assert data.few(data.task.metric("auc_luminal_a")) == few


def test_without_a_centre_or_without_its_cases_there_is_nothing():
    assert external_data(finished(None, internal(), centre=None)) is None
    assert external_data(finished(ALL.head(0), internal())) is None
    assert external_data(finished(None, internal(), at_node=True)) is None


def test_sums_from_a_node_have_rows_and_no_cases():
    table = pd.concat([subtypes(), subtypes(END, seed=1)])
    data = external_data(finished(None, external(table), at_node=True))
    assert list(data.rows) == ["federated", END]
    assert data.own_cases.empty
    assert not data.few(data.task.metric("auc_luminal_a"))


def test_the_mean_leads_where_it_exists_and_the_labels_where_not():
    table = subtypes()
    data = evaluated(table, external(table))
    assert [metric.name for metric in data.leading_areas] == ["auc_macro"]
    assert len(data.areas) == 5
    single = subtypes(counts=(30, 18, 0, 12))
    data = evaluated(single, external(single))
    assert [metric.name for metric in data.leading_areas] == [metric.name for metric in data.label_areas.values()]


def test_every_label_leads_where_no_mean_is_declared():
    table = receptors()
    data = evaluated(table, external(table, RECEPTORS), RECEPTORS)
    assert [metric.name for metric in data.leading_areas] == ["auc_er", "auc_pr", "auc_her2"]
    assert list(data.label_areas) == ["er", "pr", "her2"]
