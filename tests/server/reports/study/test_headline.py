"""The answer: the tables' own numbers, and a verdict that needs an interval on one side."""

import html
import re

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
    assert "Yes: at 4 centres held out in turn (80 phantom cases of 80 patients, 2 seeds)" in lead
    for arm in ("local", "pooled"):
        line = tables.comparisons.query(
            f"task == '{SEGMENTATION}' and arm == '{arm}' and centre == 'all' and metric == 'dice'"
        ).iloc[0]
        numbers = [f"{line[name]:.3f}".replace("-", "\u2212") for name in ("difference", "ci_low", "ci_high")]
        assert "difference {} (95% interval {} to {}, Holm p 0.012)".format(*numbers) in lead


@pytest.mark.parametrize(
    ("low", "high", "p", "words"),
    [(0.1, 0.2, 0.01, "Yes:"), (-0.2, -0.1, 0.01, "No, it was worse:"), (-0.1, 0.2, 0.01, "Not shown:"),
     (0.1, 0.2, 0.2, "Not shown:")],
)  # fmt: skip
def test_the_verdict_needs_an_interval_on_one_side_and_a_small_corrected_p(study, low, high, p, words):
    table = study.tables.comparisons
    at = (table["task"] == SEGMENTATION) & (table["centre"] == "all") & (table["arm"] == "local")
    at &= table["metric"] == "dice"
    table.loc[at, ["ci_low", "ci_high", "p_holm"]] = low, high, p
    assert headline.verdict(study, OUTLINES) == words


def test_few_cases_give_no_verdict(study):
    table = study.tables.summary
    table.loc[(table["arm"] == "federated") & (table["centre"] == "all"), "ranked"] = False
    assert headline.verdict(study, OUTLINES) == "Too few cases to say:"
