import os
import re
import subprocess
import sys

import pandas as pd
import pytest

from server.reports.figures import vector_files
from server.reports.study import cohort_table, flow_diagram, matrix, metric_lookup, per_centre
from server.reports.study.forest import Line, _limits, forest_plot
from server.reports.study.study_reader import read_study
from tests.server.reports.study.invented_study import CLASSIFIER, SEGMENTATION

DRAWING = """
import sys
from pathlib import Path
from server.reports import vectors
from server.reports.study.forest import Line, forest_plot
with vector_files.kept_in(Path(sys.argv[1]), "PHANTOM"):
    forest_plot([Line("a", "1", 1.0, 0.0, 2.0), Line("b", kind="heading")], label="x", name="n", description="d")
"""


@pytest.fixture(scope="module")
def study(study_dir):
    return read_study(study_dir)


def words(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_vector_files_have_the_same_bytes_in_another_process_and_hold_their_fonts(tmp_path):
    found = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        command = [sys.executable, "-c", DRAWING, str(folder)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."})
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert found[0] == found[1]
    assert set(found[0]) == {"n.svg", "n.pdf"}
    assert b"/FontFile2" in found[0]["n.pdf"]
    assert b"<text" not in found[0]["n.svg"]  # outlines: no reader needs the font


def test_outside_a_place_nothing_is_kept_and_inside_the_page_s_drawing_is_the_same(tmp_path):
    line = [Line("a", "1", 1.0, 0.0, 2.0)]
    alone = forest_plot(line, label="x", name="n", description="d")
    with vector_files.kept_in(tmp_path / "kept", "STAMP"):
        kept = forest_plot(line, label="x", name="n", description="d")
    assert alone == kept
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["n.pdf", "n.svg"]


def test_a_forest_lists_held_out_centres_in_order_then_the_model_with_the_tables_numbers(study):
    svg = next(item for item in per_centre.forests(study, SEGMENTATION) if "Dice of" in item["caption"])["svg"]
    table = study.tables.summary.query(
        f"task == '{SEGMENTATION}' and arm == 'federated' and role == 'external' and metric == 'dice'"
    ).set_index("centre")
    found = words(svg)
    names = [text for text in found if text.startswith("centre-")]
    assert names == [f"{name} (20/20)" for name in study.held_out]
    for name in study.held_out:
        row = table.loc[name]
        assert f"{row['value']:.3f} ({row['ci_low']:.3f} to {row['ci_high']:.3f})" in found
    model = study.tables.meta.query(f"task == '{SEGMENTATION}' and quantity == 'federated' and metric == 'dice'").iloc[
        0
    ]
    assert f"{model['estimate']:.3f} ({model['ci_low']:.3f} to {model['ci_high']:.3f})" in found


def test_thin_centres_are_named_as_not_ranked_in_caption_and_remark(study, page):
    captions = [item["caption"] for item in per_centre.forests(study, CLASSIFIER)]
    assert all("not ranked: centre-d" in text for text in captions)
    assert "Too few cases for some figures of receptor status at centre-d" in page
    assert "not ranked" not in per_centre.forests(study, SEGMENTATION)[0]["caption"]


def test_the_axis_holds_every_interval_but_not_an_endless_prediction():
    lines = [Line("a", "", 0.6, 0.5, 0.7), Line("m", "", 0.6, 0.55, 0.65, "model", prediction=(-3.0, 4.0))]
    left, right = _limits(lines, None, None)
    assert -0.1 < left < 0.5
    assert 0.7 < right < 1.2
    assert _limits(lines, None, (0.0, 0.75))[1] == 0.75
    svg = forest_plot(lines, label="x", name="n", description="d")
    assert svg.count("<path") > forest_plot(lines[:1], label="x", name="n", description="d").count("<path")
    left, _ = _limits([lines[0]], 0.0, None)
    assert left < 0.0  # the line of no difference stays in sight


def test_the_matrix_has_internal_cells_on_the_diagonal_alone_and_hatches_thin_ones(study):
    svg = matrix.matrix(study, CLASSIFIER)["svg"]
    italic = re.findall(r"<text[^>]*italic[^>]*>([^<]+)<", svg)
    summary = study.tables.summary.query(f"task == '{CLASSIFIER}' and metric == 'auc_er'")
    own = summary[(summary["role"] == "test") & (summary["arm"] == "local:" + summary["centre"])]
    assert sorted(italic) == sorted(
        "undefined" if pd.isna(value) else f"{value:.3f}" for value in own.sort_values("centre")["value"]
    )
    assert "<pattern" in svg
    assert "<pattern" not in matrix.matrix(study, SEGMENTATION)["svg"]


def test_an_external_cell_far_above_the_internal_one_raises_an_alarm(study):
    assert matrix.matrix(study, SEGMENTATION)["alarms"] == []
    table = study.tables.summary
    at = (table["arm"] == "federated") & (table["metric"] == "dice") & (table["role"] == "external")
    before = table.loc[at, "value"].copy()
    inside = table[(table["arm"] == "federated") & (table["metric"] == "dice") & (table["role"] == "test")][
        "value"
    ].max()
    table.loc[at & (table["centre"] == "centre-b"), "value"] = inside + 0.11
    alarms = matrix.matrix(study, SEGMENTATION)["alarms"]
    table.loc[at, "value"] = before
    assert len(alarms) == 1
    assert "centre-b" in alarms[0]


def test_smaller_is_better_for_distances_and_errors():
    found = {name: metric_lookup.better(name) for name in ("dice", "auc_er", "hd95", "mae_density", "brier_er")}
    assert found == {"dice": "right", "auc_er": "right", "hd95": "left", "mae_density": "left", "brier_er": "left"}


def test_the_flow_adds_up_in_drawing_and_table(study):
    found = flow_diagram.flow(study)
    text = words(found["svg"])
    assert [word for word in text if word.startswith("found")] == ["found: 20", "found: 22", "found: 23", "found: 24"]
    assert "missing phase: 3" in text
    assert text.count("Lesion outlines: 20") == 4
    line = found["lines"][3]
    assert (line["found"], line["left_out"], line["why"]) == (24, 4, "missing phase (3), empty mask (1)")
    assert line["judged"] == [(20, 20), (20, 20)]


def test_table_1_counts_known_and_missing_cases(study):
    rows = [
        ("centre-a", "<50", 1.0, 2.0), ("centre-a", "", 0.0, 4.0), ("centre-a", ">=70", None, 9.0),
        ("centre-b", "<50", 1.0, None),
    ]  # fmt: skip
    cohort = pd.DataFrame(rows, columns=["centre", "age_band", "er", "reference_volume_ml"])
    cohort["case"] = cohort["patient"] = [f"p{index}" for index in range(4)]
    table = cohort_table.table_1(study.model_copy(update={"cohort": cohort}))
    assert table["columns"] == [*study.centres, "all"]
    cells = [(line["name"], line["cells"][0], line["cells"][1], line["cells"][-1]) for line in table["lines"]]
    assert cells[:2] == [("Patients", "3", "1", "4"), ("Cases (breasts)", "3", "1", "4")]
    assert cells[3:6] == [
        ("<50", "1 (50%)", "1 (100%)", "2 (67%)"), ("\u226570", "1 (50%)", "0 (0%)", "1 (33%)"),
        ("missing", "1", "0", "1"),
    ]  # fmt: skip
    assert cells[7:10] == [
        ("positive", "1 (50%)", "1 (100%)", "2 (67%)"), ("negative", "1 (50%)", "0 (0%)", "1 (33%)"),
        ("missing", "1", "0", "1"),
    ]  # fmt: skip
    assert cells[-2][:2] == ("median (quartiles)", "4.00 (3.00 to 6.50)")
    assert cells[-1] == ("missing", "0", "1", "1")
