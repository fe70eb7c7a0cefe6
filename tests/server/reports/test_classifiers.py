"""A classifier's section: its numbers are those of the rows, thin cells are named, whatever is missing is said."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import pytest

from server.classified import classification_rows, compare_arms
from server.reports import score_figures
from server.reports.classifiers import classifier_section
from server.reports.score_figures import calibration_bins, figures_of, roc_points
from server.reports.wording import fixed
from server.results import ResultRow
from server.summaries import internal_rows
from shared.config_sections import EvaluationConfig
from shared.errors import RunError
from shared.metrics.classification import KI67, SUBTYPES, ClassificationSums

SETTINGS = EvaluationConfig(bootstrap=100)
TASK, BEST, CENTRE, END = "subtype-ensemble", "b" * 64, "centre-d", "federated:end-to-end"
RECEPTORS = "receptor-ki67-multitask"
ORACLE = {"luminal_a": 0.90, "luminal_b": 0.85, "her2_enriched": 0.88, "triple_negative": 0.93, "macro": 0.89}
THRESHOLDS = {"luminal_a": 0.3, "luminal_b": 0.3, "her2_enriched": None, "er": 0.5}
FOLDER = Path(score_figures.__file__).parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def long(truth, score, *, label="er", arm="federated", model_hash=BEST, centre=CENTRE):
    cases = [f"{centre}-{index:03d}" for index in range(len(truth))]
    return pd.DataFrame({
        "case": cases, "patient": cases, "centre": centre, "arm": arm, "model_hash": model_hash, "label": label,
        "truth": np.asarray(truth, float), "score": np.asarray(score, float),
    })  # fmt: skip


def subtypes(arm="federated", *, seed=0, counts=(24, 20, 4, 12), **changes):
    """Sixty cases, of which four are HER2-enriched: too few to be ranked."""
    truth = np.repeat(np.arange(4), counts)
    logits = np.random.default_rng(seed).normal(0, 1, (len(truth), 4)) + np.eye(4)[truth]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return pd.concat(
        [long(truth == i, scores[:, i], label=name, arm=arm, **changes) for i, name in enumerate(SUBTYPES)]
    )


def receptors(arm="federated", *, seed=0, ki67=True):
    rng = np.random.default_rng(seed)
    truths = np.random.default_rng(9).random((3, 60)) < 0.5
    parts = [
        long(t, 1 / (1 + np.exp(-rng.normal(t - 0.5, 1))), label=n, arm=arm)
        for n, t in zip(("er", "pr", "her2"), truths, strict=True)
    ]
    percent = np.random.default_rng(9).uniform(2, 70, 60)
    return pd.concat(
        [*parts, long(percent, percent * 0.6 + rng.normal(12, 6, 60), label=KI67, arm=arm)][: 4 if ki67 else 3]
    )


def external(table, task=TASK, **changes):
    options = {"thresholds": THRESHOLDS, "seed": 3, "role": "external"} | changes
    return classification_rows(table, SETTINGS, task=task, **options)


def internal(task=TASK, table=None):
    """Rows of three sites of 20 cases each, as the server makes them from sums."""
    cases = subtypes(seed=5) if table is None else table
    by_site, rows = {}, []
    for index, (_, case) in enumerate(cases.groupby("case")):
        found = ClassificationSums.of(case[["label", "truth", "score"]].itertuples(index=False, name=None))
        site = f"centre-{'abc'[index % 3]}"
        by_site[site] = by_site.get(site, ClassificationSums()) + found
    for role in ("validation", "test"):
        rows += internal_rows(by_site, SETTINGS, task=task, arm="federated", seed=3, role=role, model_hash=BEST)
    return rows


ALL = pd.concat([
    subtypes(), subtypes(END, seed=1),
    *(subtypes(f"federated:{name}", seed=2 + i) for i, name in enumerate(("axial", "coronal", "sagittal", "volume"))),
])  # fmt: skip


def section(table, rows, task=TASK, **changes):
    options = {"phantom": True, "centre": CENTRE} | changes
    return classifier_section(task, rows, table, BEST, SETTINGS, **options)


def render(*parts):
    """The sections in a page with the report's own style."""
    whole = (FOLDER / "page.html").read_text()
    style = whole[whole.index("<style>") : whole.index("</style>")]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    template = environment.from_string(
        '<!DOCTYPE html><meta charset="utf-8"><title>-</title>{{ style }}</style><main>'
        '{% for part in classifiers %}{% include "classifiers.html" %}{% endfor %}</main>'
    )
    return template.render(classifiers=parts, style=jinja2.utils.markupsafe.Markup(style))


def text_of(page):
    body = re.sub(r"<style.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


@pytest.fixture(scope="module")
def whole():
    """Rows, the section and its page of the subtype ensemble with everything that there can be."""
    rows = [*external(ALL, oracle=ORACLE), *internal()]
    part = section(ALL, rows)
    return rows, part, render(part)


def test_every_figure_shown_is_a_row_of_the_results(whole):
    rows, _, page = whole
    shown = re.findall(r'data-metric="(\w+)" data-value="([^"]+)">([^<]*)<', page)
    known = {(row.metric, str(row.value)) for row in rows}
    assert {(metric, value) for metric, value, _ in shown} <= known
    wanted = {(row.metric, str(row.value)) for row in rows if re.fullmatch("auc_.*(?<!delong)", row.metric)}
    outlines = [row for row in rows if row.role == "external" and row.arm in {"federated", END}]
    wanted |= {(r.metric, str(r.value)) for r in outlines if re.match("sens|spec|ppv|npv|preval", r.metric)}
    assert {(metric, value) for metric, value in wanted if value != "None"} <= {pair[:2] for pair in shown}
    assert all(seen == fixed(float(value), 3) for _, value, seen in shown)
    bounds = set(re.findall(r'data-low="([^"]+)" data-high="([^"]+)"', page))
    assert bounds
    assert bounds <= {(str(row.ci_low), str(row.ci_high)) for row in rows}


def test_each_arm_stands_in_its_column_and_the_oracle_last(whole):
    rows, part, _ = whole
    columns = [
        "Reference outline",
        "End to end",
        "Axial alone",
        "Coronal alone",
        "Sagittal alone",
        "Volume alone",
        "Oracle",
    ]
    assert part["scores"]["columns"] == columns
    macro = next(line for line in part["scores"]["lines"] if line["total"])
    arms = ["federated", END, *(f"federated:{name}" for name in ("axial", "coronal", "sagittal", "volume")), "oracle"]
    stored = {row.arm: row.value for row in rows if (row.role, row.metric) == ("external", "auc_macro")}
    assert [cell.row.value for cell in macro["cells"]] == [stored[arm] for arm in arms]


def test_the_sentence_states_both_outlines_and_the_way_to_the_oracle(whole):
    rows, part, page = whole
    own, end = (
        next(r for r in rows if (r.arm, r.role, r.metric) == (arm, "external", "auc_macro"))
        for arm in ("federated", END)
    )
    first = f"{own.value:.3f} (95% interval {own.ci_low:.3f} to {own.ci_high:.3f}, n = 60) in the reference outline"
    second = f"predicted itself, it is {end.value:.3f} ({end.ci_low:.3f} to {end.ci_high:.3f}, n = 60)"
    assert first in part["sentence"]
    assert second in part["sentence"]
    assert (
        f"possible on these phantoms the reference outline's AUC lacks {0.89 - own.value:.3f} (oracle 0.890)"
        in part["sentence"]
    )
    assert part["sentence"] in text_of(page)


def test_fewer_than_ten_of_a_class_are_not_ranked(whole):
    _, part, page = whole
    few = {line["label"]: (line["few"], line["count"]) for line in part["scores"]["lines"]}
    assert few == {
        "Luminal A": (False, "24 / 60"), "Luminal B": (False, "20 / 60"), "HER2-enriched": (True, "4 / 60"),
        "Triple negative": (False, "12 / 60"), "Mean of the four": (True, "60"),
    }  # fmt: skip
    assert "HER2-enriched few: not ranked" in text_of(page)
    nearly = subtypes(counts=(24, 20, 10, 10))
    assert not any(line["few"] for line in section(nearly, external(nearly))["scores"]["lines"])


def test_a_single_class_is_undefined_with_its_reason_and_never_a_number():
    table = pd.concat([subtypes(counts=(30, 18, 0, 12)), subtypes(END, seed=1, counts=(30, 18, 0, 12))])
    page = render(section(table, external(table)))
    text = text_of(page)
    assert "HER2-enriched few: not ranked 0 / 60 undefined undefined" in text
    assert "HER2-enriched, 0 of 60 cases positive, both classes are needed" in text
    assert 'title="0 of 60 cases positive, both classes are needed"' in page
    assert "Mean of the four, the mean needs an AUC of each of the four subtypes" in text
    assert "AUC undefined" in html.unescape(page)  # in the panel of the ROC curves
    assert " for Luminal A, " in section(table, external(table))["sentence"]  # the labels speak where their mean cannot


def test_differences_are_those_of_the_paired_tests(whole):
    _, part, page = whole
    found = compare_arms(ALL, "federated", SETTINGS, seed=3).set_index(["arm", "label"])
    lines = {(line["arm"], line["label"]): line for line in part["tests"]["lines"]}
    assert len(lines) == len(found) == 25
    for (arm, label), name in {(END, "luminal_a"): "Luminal A", (END, "macro"): "Mean of the four"}.items():
        row, line = found.loc[(arm, label)], lines["End to end", name]
        assert line["difference"] == fixed(row["difference"], 3)
        assert line["interval"] == f"{fixed(row['low'], 3)} to {fixed(row['high'], 3)}"
        assert (line["p"], line["p_holm"]) == (fixed(row["p"], 3), fixed(row["p_holm"], 3))
    assert next(iter(lines))[0] == "End to end"
    assert "by DeLong's paired test" in text_of(page)
    assert "over all 20 p" in text_of(page)


def test_two_cases_of_a_patient_are_not_said_to_be_tested_by_delong():
    table = pd.concat([subtypes(), subtypes(END, seed=1)]).assign(patient=lambda t: t["case"].str[:-1] + "x")
    page = text_of(render(section(table, external(table))))
    assert "by a paired bootstrap of patients" in page
    assert "DeLong" not in page


def test_a_rival_has_a_column_a_test_and_no_branch_name():
    table, rival = subtypes(), subtypes("whatever", seed=7, model_hash="c")
    part = section(table, external(table), rivals={"radiomics": rival})
    assert part["scores"]["columns"] == ["Reference outline", "Radiomics"]
    expected = next(row for row in external(rival.assign(arm="radiomics")) if row.metric == "auc_macro")
    assert part["scores"]["lines"][-1]["cells"][1].row == expected
    assert {line["arm"] for line in part["tests"]["lines"]} == {"Radiomics"}


def test_the_last_rounds_model_and_other_centres_have_no_say(whole):
    rows, part, _ = whole
    other = pd.concat([subtypes(seed=8, model_hash="f" * 64), subtypes(seed=9, centre="centre-e")])
    later = [row.model_copy(update={"value": 0.123, "model_hash": "f" * 64}) for row in internal()]
    again = section(pd.concat([other, ALL]), [*external(other), *rows, *later])
    assert render(again) == render(part)


def test_receptors_are_read_a_label_each_and_ki67_against_the_floor():
    table = pd.concat([receptors(), receptors(END, seed=1)])
    rows = [*external(table, RECEPTORS, oracle={"er": 0.99, "pr": 0.1}), *internal(RECEPTORS, receptors(seed=4))]
    part = section(table, rows, RECEPTORS)
    page = text_of(render(part))
    own = {row.metric: row for row in rows if (row.arm, row.role) == ("federated", "external")}
    er, error = own["auc_er"], own["mae_ki67"]
    assert (
        f"the AUC is {er.value:.3f} (95% interval {er.ci_low:.3f} to {er.ci_high:.3f}, n = 60) for ER"
        in part["sentence"]
    )
    assert f"lacks {0.99 - er.value:.3f} for ER (oracle 0.990) and nothing for PR (oracle 0.100)" in part["sentence"]
    assert "a leak until shown otherwise" in part["sentence"]  # PR: more than what is possible
    assert f"Ki-67 is off by {error.value:.1f} ({error.ci_low:.1f} to {error.ci_high:.1f}, n = 60)" in part["sentence"]
    assert f"against {own['mae_ki67_of_mean'].value:.1f} for always" in part["sentence"]
    bias = fixed(own["bias_ki67"].value, 1)
    assert re.search(rf"Reference outline {error.value:.1f} .* {own['mae_ki67_of_mean'].value:.1f} .* {bias} ", page)
    assert "Mean of the four" not in page
    assert [item["caption"].split(",")[0] for item in part["figures"]] == [
        "ROC curves", "Calibration", "AUC by arm", "Bland-Altman plot of Ki-67",
    ]  # fmt: skip
    er = next(row for row in rows if (row.centre, row.role, row.metric) == ("centre-b", "test", "auc_er"))
    assert re.search(rf"centre-b {er.value:.3f} n = 20", page)
    error = next(row for row in rows if (row.centre, row.role, row.metric) == ("all", "test", "mae_ki67"))
    assert f"{error.value:.1f} {error.ci_low:.1f} to {error.ci_high:.1f} , n = 60" in page


def test_calibration_is_captioned_with_slope_intercept_and_brier(whole):
    rows, part, _ = whole
    own = {row.metric: row for row in rows if (row.arm, row.role) == ("federated", "external")}
    slope, intercept, brier = (
        own[f"{name}_luminal_a"] for name in ("calibration_slope", "calibration_intercept", "brier")
    )
    numbers = f"slope {fixed(slope.value, 2)}, intercept {fixed(intercept.value, 2)}, Brier {brier.value:.3f}"
    caption = part["figures"][1]["caption"]
    assert f"Luminal A: {numbers} ({brier.ci_low:.3f} to {brier.ci_high:.3f})" in caption
    assert "HER2-enriched: too few for a slope" in caption


def test_without_an_external_centre_the_training_sites_remain():
    part = section(None, internal(), centre=None)
    page = text_of(render(part))
    assert "No external centre judged it" in page
    assert part["figures"] == []
    assert "Training sites' own cases" in page
    assert page.count("n = 20") == 2 * 3 * 5
    assert "frozen" not in page


def test_a_centre_without_the_labels_says_so():
    assert "No case at centre-d has a label" in text_of(render(section(ALL.head(0), internal())))


def test_a_table_of_another_model_is_refused():
    with pytest.raises(RunError, match="chosen classifier's cases at 'centre-d'"):
        section(ALL.assign(model_hash="x"), external(ALL))
    with pytest.raises(RunError, match="chosen classifier's cases at 'centre-d'"):
        section(ALL, internal())


@pytest.mark.parametrize("truth", [[1] * 12, [0, 1] * 6, [1]])
def test_one_label_one_arm_and_few_cases_make_a_page(truth):
    table = long(truth, np.linspace(0.1, 0.9, len(truth)), label="malignant")
    part = section(table, external(table, "lesion-malignancy"), "lesion-malignancy", phantom=False)
    page = text_of(render(part))
    assert part["tests"] is None
    assert ("undefined" in page) == (0 not in truth)
    assert "Nothing was read end to end" in page
    assert "Malignancy at centre-d" in page


def test_ki67_alone_has_no_auc():
    table = receptors()[lambda t: t["label"] == KI67]
    part = section(table, external(table, RECEPTORS), RECEPTORS)
    assert part["scores"] is None
    assert len(part["figures"]) == 1
    assert "only Ki-67 was judged" in text_of(render(part))


def test_phantoms_are_named_in_titles_and_captions_and_only_then(whole):
    _, part, page = whole
    assert "Molecular subtype at centre-d (phantoms)" in text_of(page)
    assert all("phantom cases of centre-d" in item["caption"] for item in part["figures"])
    table = pd.concat([subtypes(), subtypes(END, seed=1)])
    assert "phantom" not in render(section(table, external(table), phantom=False)).split("</style>")[1].lower()


def test_two_tasks_share_no_id_and_the_same_rows_give_the_same_bytes(whole):
    rows, part, page = whole
    table = receptors()
    both = render(part, section(table, external(table, RECEPTORS), RECEPTORS))
    ids = re.findall(r'\bid="([^"]+)"', both)
    assert len(ids) == len(set(ids))
    assert {"classifier-subtype-ensemble", "classifier-receptor-ki67-multitask"} <= set(ids)
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', both)) <= set(ids)
    assert "://" not in both
    assert render(section(ALL.sample(frac=1, random_state=0), rows)) == page


def test_names_from_data_are_escaped():
    hostile = "<script>alert(1)</script>"
    table = subtypes()
    rows = [row.model_copy(update={"centre": hostile}) for row in internal()]
    part = section(table, [*external(table), *rows], rivals={hostile: subtypes("r", seed=2)})
    page = render(part)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4


def test_the_curve_has_the_area_of_the_ranks_and_equal_scores_make_one_step():
    truth, score = np.array([1, 0, 1, 1, 0, 0, 1]), np.array([0.9, 0.8, 0.8, 0.4, 0.4, 0.1, 0.3])
    wrong, right = roc_points(truth, score)
    assert (wrong[0], right[0], wrong[-1], right[-1]) == (0, 0, 1, 1)
    assert len(wrong) == 6  # five distinct scores and the origin
    pairs = [(p > n) + 0.5 * (p == n) for p in score[truth == 1] for n in score[truth == 0]]
    assert np.trapezoid(right, wrong) == pytest.approx(np.mean(pairs))


def test_calibration_bins_have_nearly_equal_counts_and_never_part_equal_scores():
    truth, score = np.tile([0, 1], 13), np.linspace(0, 1, 26)
    bins = calibration_bins(truth[::-1], score[::-1])
    assert [n for *_, n in bins] == [5, 5, 5, 5, 6]
    assert bins[0][:2] == pytest.approx((score[:5].mean(), 2 / 5))
    assert calibration_bins([0, 1, 1], [0.2, 0.4, 0.9]) == [(pytest.approx(0.5), pytest.approx(2 / 3), 3)]
    tied = calibration_bins([0, 1] * 10, [0.3] * 14 + [0.8] * 6)
    assert [(mean, n) for mean, _, n in tied] == [(pytest.approx(0.3), 14), (pytest.approx(0.8), 6)]


def test_a_figure_that_does_not_exist_is_not_drawn():
    row = ResultRow(task=TASK, arm="federated", seed=0, centre=CENTRE, role="external", metric="auc_er", unit="1",
                    value=None, ci_low=None, ci_high=None, n=0, model_hash=BEST)  # fmt: skip
    found = figures_of(TASK, long([], []), {"federated": {"auc_er": row}}, labels={}, heard={"er": "ER"},
                       arms={"federated": "Reference outline"}, where="cases", confidence=0.95)  # fmt: skip
    assert found == []


FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--dump-dom",
)
PROBE = """<!DOCTYPE html><title></title><body>{frames}<script>
window.onload = () => {{ document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(frame => {{
  const page = frame.contentDocument;
  return {{
    width: frame.clientWidth,
    needed: page.documentElement.scrollWidth,
    tables: [...page.querySelectorAll("table")].every(table => table.closest(".scroll")),
    drawn: [...page.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect().height > 80),
  }};
}})) }};
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the section's layout is not looked at")
def test_the_section_fits_a_telephone_and_a_desktop(whole, tmp_path):
    page = html.escape(whole[2], quote=True)
    frames = "".join(f'<iframe style="border:0;width:{width}px" srcdoc="{page}"></iframe>' for width in (390, 1280))
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(frames=frames))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", probe.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", dom).group(1)))
    assert [item["width"] for item in found] == [390, 1280]
    for item in found:
        assert item["needed"] <= item["width"]
        assert item["tables"]
        assert item["drawn"] == [True] * 3
