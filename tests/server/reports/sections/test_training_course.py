"""A run's course: cases by site, classes by label, and curves of what chose the round."""

from server.reports.sections.training_course import classes, curves, flow
from server.run_folder.finished_run import SiteFlow, read_finished_run
from shared.cohort.labels import SUBTYPES
from shared.messages.payload import FEW
from shared.tasks import task_named
from tests.server.reports.invented_classifiers import RECEPTORS, finished


def test_cases_add_up(run_dir):
    lines = flow(read_finished_run(run_dir)[0])["lines"]
    total = lines[-1]
    assert total["cases"] == sum(line["cases"] for line in lines[:-1]) == 94
    assert total["left_out"] == 5
    assert lines[3]["why"] == "empty mask (2), no pixel spacing (1)"


def test_classes_are_those_of_the_tasks_labels_and_small_counts_stay_hidden():
    told = {"er/positive": 7, "er/negative": FEW, "subtype/luminal_a": 3}
    site = SiteFlow(role="training", included={"train": 9}, classes=told)
    run = finished(None, [], RECEPTORS).model_copy(update={"flow": {"centre-a": site}})
    assert classes([run]) == {
        "sites": ["centre-a"],
        "lines": [{"label": "ER: positive", "counts": ["7"]}, {"label": "ER: negative", "counts": ["few"]}],
    }
    assert classes([finished(None, [], RECEPTORS)]) is None


def test_a_subtype_has_the_name_that_it_has_on_the_rest_of_the_page():
    told = {f"subtype/{name}": 9 for name in SUBTYPES}
    site = SiteFlow(role="training", included={"train": 36}, classes=told)
    run = finished(None, [], "subtype-radiomics").model_copy(update={"flow": {"centre-a": site}})
    lines = [line["label"] for line in classes([run])["lines"]]
    assert lines == ["Subtype: Luminal A", "Subtype: Luminal B", "Subtype: HER2-enriched", "Subtype: Triple negative"]


def test_curves_say_what_is_lost_and_what_chose_the_round(run_dir):
    (run,) = read_finished_run(run_dir)
    loss, score = curves(run)
    assert loss["caption"] == "Lesion outlines: mean training loss (Dice + cross-entropy) of each site's round."
    assert score["caption"].startswith("Lesion outlines: mean Dice of each round's averaged model on")
    assert "standard error" not in score["caption"]
    assert task_named(run.task.name).choice.of(run.rounds[0].validation()) is not None
    assert "all cases" in score["svg"]
