"""Tables of figures: a line for each arm or metric, n where it belongs, columns that nobody has left out."""

from server.reports.sections.figure_table import Column, figure_table, metric_table
from server.run_folder.results import ResultRow
from shared.config.sections import EvaluationConfig
from shared.tasks import task_named

TASK = task_named("lesion-segmentation")


def row(metric, n=4, value=0.5):
    return ResultRow(
        task=TASK.name, arm="federated", seed=0, centre="d", role="external", metric=metric, unit="1", value=value,
        ci_low=None, ci_high=None, n=n, model_hash="h",
    )  # fmt: skip


def test_a_line_has_the_rows_of_the_columns_and_the_largest_n():
    lines = {"federated": {"dice": row("dice"), "hd95": row("hd95", 3)}, "all": {"dice": row("dice", 9)}}
    columns = [Column.of(TASK.metric(name)) for name in ("dice", "hd95", "nsd")]
    table = figure_table("Arm", columns, lines)
    assert [(column.title, column.unit) for column in table["columns"]] == [("Dice", ""), ("HD95", "mm")]
    first, last = table["lines"]
    assert (first["rows"], first["n"], first["total"]) == (
        [lines["federated"][name] for name in ("dice", "hd95")],
        4,
        False,
    )
    assert (last["rows"], last["n"], last["total"]) == ([lines["all"]["dice"], None], 9, True)


def test_a_metrics_line_has_its_meaning_and_a_column_for_each_arm():
    arms = {"Reference outline": {"dice": row("dice")}, "End to end": {"nsd": row("nsd", 2)}}
    table = metric_table(TASK.metrics, arms, EvaluationConfig(nsd_tolerance_mm=3))
    assert [column.title for column in table["columns"]] == list(arms)
    assert [(line["name"], line["n"]) for line in table["lines"]] == [("Dice", 4), ("NSD", 2)]
    assert table["lines"][1]["rows"] == [None, arms["End to end"]["nsd"]]
    assert table["lines"][1]["meaning"] == "Share of both surfaces within 3 mm of the other."
