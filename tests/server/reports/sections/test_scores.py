"""A section of scores: its numbers are those of the rows, thin cells are named, whatever is missing is said."""

import re

import numpy as np
import pandas as pd
import pytest

from server.reports.metric_text import fixed
from shared.errors import RunError
from tests.server.reports.invented_classifiers import (
    ALL,
    END,
    MALIGNANCY,
    RECEPTORS,
    cases,
    external,
    internal,
    receptors,
    render,
    section,
    subtypes,
    text_of,
    whole,
)


def test_every_figure_shown_is_a_row_of_the_results():
    rows, _, page = whole()
    shown = re.findall(r'data-metric="([\w.]+)" data-value="([^"]+)">([^<]*)<', page)
    known = {(row.metric, str(row.value)) for row in rows}
    assert {(metric, value) for metric, value, _ in shown} <= known
    wanted = {(row.metric, str(row.value)) for row in rows if re.fullmatch("auc_.*(?<!delong)", row.metric)}
    outlines = [row for row in rows if row.role == "external" and row.arm in {"federated", END}]
    wanted |= {(r.metric, str(r.value)) for r in outlines if re.match("sens|spec|ppv|npv", r.metric)}
    wanted |= {(r.metric, str(r.value)) for r in outlines if r.arm == "federated"}
    assert {(metric, value) for metric, value in wanted if value != "None"} <= {pair[:2] for pair in shown}
    assert all(seen == fixed(float(value), 3) for _, value, seen in shown)
    bounds = set(re.findall(r'data-low="([^"]+)" data-high="([^"]+)"', page))
    assert bounds
    assert bounds <= {(str(row.ci_low), str(row.ci_high)) for row in rows}


def test_the_sentence_states_both_outlines_and_the_way_to_the_oracle():
    rows, part, page = whole()
    own, end = (
        next(r for r in rows if (r.arm, r.role, r.metric) == (arm, "external", "auc_macro"))
        for arm in ("federated", END)
    )
    first = (
        f"On 60 phantom cases of centre-d, which never trained, the AUC, mean of the four, is {own.value:.3f} "
        f"(95% interval {own.ci_low:.3f} to {own.ci_high:.3f}, n = 60) in the reference outline"
    )
    second = f"predicted itself, it is {end.value:.3f} ({end.ci_low:.3f} to {end.ci_high:.3f}, n = 60)"
    assert first in part["sentence"]
    assert second in part["sentence"]
    assert f"The best possible AUC on these phantoms is 0.890 ({0.89 - own.value:.3f} more)." in part["sentence"]
    assert part["sentence"] in text_of(page)


def test_the_last_rounds_model_and_other_centres_have_no_say():
    rows, part, _ = whole()
    other = pd.concat([subtypes(seed=8, model_hash="f" * 64), subtypes(seed=9, centre="centre-e")])
    later = [row.model_copy(update={"value": 0.123, "model_hash": "f" * 64}) for row in internal()]
    again = section(pd.concat([other, ALL]), [*external(other), *rows, *later])
    assert render(again) == render(part)


def test_receptors_are_read_a_label_each_and_ki67_against_the_floor():
    table = pd.concat([receptors(), receptors(END, seed=1)])
    rows = [*external(table, RECEPTORS, {"er": 0.99, "pr": 0.1}), *internal(RECEPTORS, receptors(seed=4))]
    part = section(table, rows, RECEPTORS)
    page = text_of(render(part))
    own = {row.metric: row for row in rows if (row.arm, row.role) == ("federated", "external")}
    er, error = own["auc_er"], own["mae_ki67"]
    positive = int(table.loc[table["arm"] == "federated", "truth_er"].sum())
    counts = f"{er.ci_low:.3f} to {er.ci_high:.3f}, {positive} of 60 positive"
    assert f"the AUC is {er.value:.3f} (95% interval {counts}) for ER" in part["sentence"]
    gaps = f"0.990 for ER ({0.99 - er.value:.3f} more) and 0.100 for PR (no more than this)"
    assert f"The best possible AUC on these phantoms is {gaps}." in part["sentence"]
    assert "a leak until shown otherwise" in part["sentence"]  # PR: more than what is possible
    bounds = f"({error.ci_low:.1f} to {error.ci_high:.1f}, n = 60)"
    assert f"Ki-67 is off by {error.value:.1f} percentage points on average {bounds}" in part["sentence"]
    assert f"against {own['mae_ki67_of_mean'].value:.1f} for always" in part["sentence"]
    bias = fixed(own["bias_ki67"].value, 1)
    assert "Figure Reference outline End to end n Meaning" in page
    assert re.search(rf"Mean absolute error of Ki-67 , % {error.value:.1f} .* Bias of Ki-67 , % {bias} ", page)
    assert "mean of the four" not in page
    assert [item["caption"].split(",")[0] for item in part["scores"]["figures"]] == [
        "ROC curves", "Calibration", "AUC by arm",
    ]  # fmt: skip
    assert part["numbers"][0]["figures"][0]["caption"].startswith("Bland-Altman plot of Ki-67, phantom cases")
    er = next(row for row in rows if (row.centre, row.role, row.metric) == ("centre-b", "test", "auc_er"))
    assert re.search(rf"centre-b {er.value:.3f} .* 20 ", page)
    error = next(row for row in rows if (row.centre, row.role, row.metric) == ("all", "test", "mae_ki67"))
    assert f"{error.value:.1f} {error.ci_low:.1f} to {error.ci_high:.1f}" in page.split("Training sites")[1]


def test_without_an_external_centre_the_training_sites_remain():
    part = section(None, internal(), centre=None)
    page = text_of(render(part))
    assert "No external centre evaluated it" in page
    assert part["scores"] is None
    assert "Training sites' own cases" in page
    assert len(re.findall("centre-[abc] [0-9.]+ [0-9.]+ [0-9.]+ [0-9.u]", page)) == 2 * 3
    assert "frozen" not in page


def test_a_centre_without_the_labels_says_so():
    assert "No case of centre-d has the reference or a label" in text_of(render(section(ALL.head(0), internal())))


def test_a_table_of_another_model_is_refused():
    with pytest.raises(RunError, match="no external figures of the chosen model at 'centre-d'"):
        section(ALL.assign(model_hash="x"), external(ALL))
    with pytest.raises(RunError, match="no external figures of the chosen model at 'centre-d'"):
        section(ALL, internal())


@pytest.mark.parametrize("truth", [[1] * 12, [0, 1] * 6, [1]])
def test_one_label_one_arm_and_few_cases_make_a_page(truth):
    table = cases({"truth_malignant": truth, "score_malignant": np.linspace(0.1, 0.9, len(truth))})
    part = section(table, external(table, MALIGNANCY), MALIGNANCY, phantom=False)
    page = text_of(render(part, phantom=False))
    assert part["scores"]["tests"] is None
    assert ("undefined" in page.split("AUC by arm")[1].split("Further")[0]) == (0 not in truth)
    assert "Nothing was read end to end" in page
    assert "Malignancy at centre-d" in page


def test_ki67_alone_has_no_auc():
    table = receptors(labels=())
    part = section(table, external(table, RECEPTORS), RECEPTORS)
    assert part["scores"]["auc"] is None
    assert part["scores"]["figures"] == []
    assert len(part["numbers"][0]["figures"]) == 2
    assert "which never trained, Ki-67 is off by" in text_of(render(part))


def test_phantoms_are_named_in_titles_and_captions_and_only_then():
    _, part, page = whole()
    assert "Molecular subtype at centre-d (phantoms)" in text_of(page)
    assert all("phantom cases of centre-d" in item["caption"] for item in part["scores"]["figures"])
    table = pd.concat([subtypes(), subtypes(END, seed=1)])
    part = section(table, external(table), phantom=False)
    assert "phantom" not in render(part, phantom=False).split("</style>")[1].lower()


def test_two_tasks_share_no_id_and_the_same_rows_give_the_same_bytes():
    rows, part, page = whole()
    table = receptors()
    both = render(part, section(table, external(table, RECEPTORS), RECEPTORS))
    ids = re.findall(r'\bid="([^"]+)"', both)
    assert len(ids) == len(set(ids))
    assert {"subtype-ensemble", "receptor-ki67-multitask"} <= set(ids)
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', both)) <= set(ids)
    assert "://" not in both
    assert render(section(ALL.sample(frac=1, random_state=0), rows)) == page


def test_names_from_data_are_escaped():
    hostile = "<script>alert(1)</script>"
    table = subtypes()
    rows = [row.model_copy(update={"centre": hostile}) for row in internal()]
    foreign = subtypes(hostile, seed=2, model_hash="x")
    part = section(table, [*external(table), *external(foreign), *rows])
    page = render(part)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4
