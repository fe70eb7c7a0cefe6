"""Outlined structures on a page: cards as declared, worst cases in order, each with its own figures."""

import pytest

from server.reports.sections.external_data import external_data
from server.reports.sections.masks import general_metrics, masks
from server.run_folder.finished_run import read_finished_run
from server.run_folder.predictions import read_predictions
from tests.server.reports.invented_classifiers import RECEPTORS, evaluated, external, receptors
from tests.server.reports.invented_tissues import TASK as TISSUES
from tests.server.reports.invented_tissues import add_tissues


@pytest.fixture
def lesions(run_dir):
    return external_data(read_finished_run(run_dir)[0])


def test_cards_and_the_table_are_the_metrics_that_are_of_no_pair(lesions):
    part = masks(lesions)
    assert [row.metric for row in part["cards"]] == ["dice", "hd95", "lesion_f1"]
    names = {metric.name for metric in general_metrics(lesions)}
    assert {"dice", "froc_1.00", "specificity", "failures"} <= names
    assert not any(name.startswith("volume_") for name in names)
    assert len(part["table"]["lines"]) == len(names)


def test_the_worst_cases_stand_with_their_own_figures_lowest_first(run_dir, lesions):
    table = read_predictions(run_dir, "lesion-segmentation").sort_values(["dice", "case"]).head(3)
    worst = masks(lesions)["worst"]
    assert [line["case"] for line in worst["lines"]] == table["case"].tolist()
    titles = ["Dice", "HD95, mm", "Lesion-wise F1", "Lesion volume, predicted, ml", "Lesion volume, reference, ml"]
    assert worst["columns"] == titles
    failure, second = worst["lines"][0]["cells"], table.iloc[1]
    assert failure[:4] == ["0.000", "\N{EN DASH}", "0.000", "0.00"]
    expected = [f"{second['dice']:.3f}", f"{second['hd95_mm']:.1f}", "1.000", f"{second['volume_ml']:.2f}"]
    assert worst["lines"][1]["cells"][:4] == expected


def test_dice_is_drawn_by_case_and_by_size_of_a_lone_structure_only(lesions, make_folder):
    captions = [item["caption"] for item in masks(lesions)["figures"]]
    assert captions[0].startswith(
        "Dice of each case in order with the mean and its interval, phantom cases of centre-d"
    )
    assert captions[1].startswith("Dice against the reference's lesion volume, phantom cases of centre-d")
    tissues = read_finished_run(add_tissues(make_folder()))[1]
    assert tissues.task.name == TISSUES
    assert masks(external_data(tissues))["figures"] == []


def test_a_task_of_scores_and_numbers_has_no_such_part():
    table = receptors()
    assert masks(evaluated(table, external(table, RECEPTORS), RECEPTORS)) is None
