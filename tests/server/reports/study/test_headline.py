"""The answer: the tables' own numbers, and each rival's outcome, which needs an interval on one side."""

import html
import re
from dataclasses import replace

import pytest

from server.reports.study import headline
from server.run_folder.study_tables import read_tables
from shared.tasks import task_named
from tests.server.reports.study.invented_study import SEGMENTATION

OUTLINES = task_named(SEGMENTATION)


def test_the_answer_names_both_comparisons_with_the_tables_own_numbers(page, study_dir):
    tables = read_tables(study_dir)
    lead = html.unescape(re.findall(r'<p class="lead">(.*?)</p>', page)[0])
    own = tables.summary.query(f"task == '{SEGMENTATION}' and arm == 'federated' and centre == 'all'").iloc[0]
    assert f"Dice {own['value']:.3f}" in lead
    assert "At 4 centres held out in turn (80 phantom cases of 80 patients, 2 seeds)" in lead
    for arm in ("local", "pooled"):
        line = tables.comparisons.query(
            f"task == '{SEGMENTATION}' and arm == '{arm}' and centre == 'all' and metric == 'dice'"
        ).iloc[0]
        numbers = [f"{line[name]:.3f}".replace("-", "\u2212") for name in ("difference", "ci_low", "ci_high")]
        assert "difference {}, 95% interval {} to {}, Holm p 0.012".format(*numbers) in lead


@pytest.mark.parametrize(
    ("low", "high", "p", "words"),
    [(0.1, 0.2, 0.01, "better than"), (-0.2, -0.1, 0.01, "worse than"), (-0.1, 0.2, 0.01, "not shown to differ from"),
     (0.1, 0.2, 0.2, "not shown to differ from")],
)  # fmt: skip
def test_an_outcome_needs_an_interval_on_one_side_and_a_small_corrected_p(study, low, high, p, words):
    table = study.tables.comparisons
    at = (table["task"] == SEGMENTATION) & (table["centre"] == "all") & (table["arm"] == "local")
    at &= table["metric"] == "dice"
    table.loc[at, ["ci_low", "ci_high", "p_holm"]] = low, high, p
    assert headline.outcome(study, OUTLINES, "local") == words


def test_few_cases_give_no_outcome(study):
    table = study.tables.summary
    table.loc[(table["arm"] == "federated") & (table["centre"] == "all"), "ranked"] = False
    assert headline.outcome(study, OUTLINES, "local") == "on too few cases to compare with"


def test_every_rival_has_an_outcome_of_its_own(study):
    table = study.tables.comparisons
    at = (table["task"] == SEGMENTATION) & (table["centre"] == "all") & (table["metric"] == "dice")
    for arm, bounds in {"local": (0.1, 0.2), "ensemble": (-0.1, 0.1), "pooled": (-0.2, -0.1)}.items():
        table.loc[at & (table["arm"] == arm), ["ci_low", "ci_high", "p_holm"]] = *bounds, 0.01
    text = headline.sentence(study, OUTLINES)
    assert "better than a hospital's own model on average (" in text
    assert "not shown to differ from the mean of the local models' predictions (" in text
    assert "worse than all data in one place (" in text


def test_what_is_good_is_what_the_metric_declares(study):
    table = study.tables.comparisons
    at = (table["task"] == SEGMENTATION) & (table["centre"] == "all") & (table["metric"] == "dice")
    table.loc[at, ["ci_low", "ci_high", "p_holm"]] = 0.1, 0.2, 0.01
    assert headline.outcome(study, OUTLINES, "local") == "better than"
    error = replace(OUTLINES, metrics=(replace(OUTLINES.headline, higher_is_better=False), *OUTLINES.metrics[1:]))
    assert headline.outcome(study, error, "local") == "worse than"
