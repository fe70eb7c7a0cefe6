"""Numbers against their reference: one plot for each number that the task declares, the tables' own figures."""

from server.reports.study.agreement import agreement
from shared.tasks import task_named
from tests.server.reports.study.invented_study import CENTRES, CLASSIFIER, SEGMENTATION

OUTLINES = task_named(SEGMENTATION)


def test_agreement_has_each_arms_icc_by_centre_and_its_limits_at_all_of_them(study, page):
    (volume,) = agreement(study, OUTLINES)
    assert volume["places"] == [*CENTRES, "all"]
    federated = next(line for line in volume["lines"] if line["name"] == "Federated")
    own = study.tables.summary.query(
        f"task == '{SEGMENTATION}' and arm == 'federated' and role == 'external' and metric == 'volume_icc_a1'"
    ).set_index("centre")
    assert [cell.value for cell in federated["cells"]] == [own.loc[name, "value"] for name in (*CENTRES, "all")]
    assert volume["limit_names"] == [
        "Bias of lesion volume, ml", "Lower limit of agreement, ml", "Upper limit of agreement, ml",
    ]  # fmt: skip
    assert [line["name"] for line in volume["limits"]] == ["Federated", "Pooled", "Ensemble", "Local (mean)"]
    assert federated["n"] == [20, 20, 20, 20, 80]
    # A local model has no figure at its own centre: at all of them it has other cases, and the page says so.
    local = next(line for line in volume["lines"] if line["name"] == "Local: centre-a")
    assert (local["cells"][0], local["cells"][-1].n, local["n"][-1]) == (None, 60, 80)
    assert page.count("other cases, n = 60") == 4
    assert "80 phantom cases of 80 patients" in volume["caption"]
    assert volume["svg"].count("<use") >= 80


def test_a_task_that_predicts_no_number_has_no_agreement(study):
    assert agreement(study, task_named(CLASSIFIER)) == []
