"""Pictures of cases: none of a task without, and the projection only over an uptake."""

from server.reports.sections.external_data import external_data
from server.reports.sections.pictures import pictures
from server.run_folder.finished_run import read_finished_run
from server.run_folder.predictions import read_predictions
from tests.server.reports.invented_classifiers import evaluated, external, subtypes


def test_each_stored_case_is_drawn_with_its_figure(run_dir):
    part = pictures(external_data(read_finished_run(run_dir)[0]))
    dice = read_predictions(run_dir, "lesion-segmentation").set_index("case")["dice"]
    titles = [picture["title"] for picture in part["pictures"]]
    assert titles == [
        f"{label}: Dice {dice[picture['case']]:.3f}"
        for label, picture in zip(("Best", "Median", "Worst"), part["pictures"], strict=True)
    ]
    captions = [view["caption"] for view in part["pictures"][0]["views"]]
    assert captions == [f"{name}, phantom" for name in ("axial", "coronal", "sagittal", "maximum intensity projection")]
    assert part["note"].startswith("First post-contrast minus pre-contrast signal, 90 mm around the reference")
    assert "from the outside in" not in part["note"]


def test_a_task_without_pictures_has_none():
    table = subtypes()
    assert pictures(evaluated(table, external(table))) is None
