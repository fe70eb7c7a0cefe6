"""The model card: its figures are the tables', its Markdown is sound, and what is thin or missing is said."""

import json
import math
import os
import shutil
from itertools import pairwise

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from safetensors.torch import save_file

from server.reports.study.model_card import write_model_card
from server.run_folder.study_tables import read_tables
from shared.config.run_config import load_config
from shared.errors import RunError
from shared.reproducibility import state_hash
from shared.tasks import task_named
from tests.server.reports.study.invented_study import CLASSIFIER, SEGMENTATION, make_study

NAMES = {
    "dice": "Dice", "nsd": "NSD", "hd95": "HD95", "centroid_distance": "Centroid distance",
    "sensitivity": "Sensitivity", "lesion_f1": "Lesion-wise F1", "volume_icc_a1": "ICC(A,1) of lesion volume",
    "volume_bias": "Bias of lesion volume", "volume_limit_low": "Lower limit of agreement",
    "volume_limit_high": "Upper limit of agreement",
}  # fmt: skip
PLACES = {"all": "all held-out centres"}
DIGITS = {"mm": 1, "ml": 2}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("both") / "study")


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("one") / "study", tasks=(SEGMENTATION,))


@pytest.fixture
def study(tmp_path, both):
    return shutil.copytree(both, tmp_path / "study")


@pytest.fixture
def outlines(tmp_path, one):
    return shutil.copytree(one, tmp_path / "study")


def card(folder):
    return write_model_card(folder).read_text(encoding="utf-8")


def sections(text):
    """Rows of the tables under each heading, as a reader of Markdown sees them."""
    found, heading, tokens = {}, "", MarkdownIt("commonmark").enable("table").parse(text)
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            heading = shown(token)
        elif before.type == "table_open":
            found.setdefault(heading, []).append([])
        elif before.type == "tr_open":
            found[heading][-1].append([])
        if before.type in {"td_open", "th_open"}:
            found[heading][-1][-1].append(shown(token))
    return found


def shown(token):
    return "".join(part.content for part in token.children)


def number(value, unit):
    if math.isnan(value):
        return "\N{EN DASH}"
    digits = DIGITS.get(unit, 3)
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def with_unit(value, unit):
    return "undefined" if math.isnan(value) else number(value, unit) + ("" if unit == "1" else f" {unit}")


def bounds(low, high, unit):
    return "\N{EN DASH}" if math.isnan(low) else f"{number(low, unit)} to {number(high, unit)}"


def test_every_result_in_the_card_is_a_row_of_summary_and_none_is_left_out(outlines):
    (table,) = sections(card(outlines))["Lesion outlines: results of the federated model"]
    summary = read_tables(outlines).summary
    rows = summary[(summary["arm"] == "federated") & (summary["role"] == "external")]
    assert table[1:] == [
        [
            NAMES[row.metric], PLACES.get(row.centre, row.centre), with_unit(row.value, row.unit),
            bounds(row.ci_low, row.ci_high, row.unit), str(row.n), str(row.patients), str(row.seeds), "",
        ]
        for row in rows.itertuples()
    ]  # fmt: skip
    assert len(table) == 1 + len(NAMES) * 5


def test_every_difference_in_the_card_is_a_row_of_comparisons(outlines):
    _, table = sections(card(outlines))["Lesion outlines: beside the other arms"]
    rows = read_tables(outlines).comparisons
    rows = rows[(rows["centre"] == "all") | (rows["metric"] == "dice")]
    units = {"dice": "1", "hd95": "mm"}
    assert table[1:] == [
        [
            NAMES[row.metric] + (" (primary)" if row.primary else ""), row.arm, PLACES.get(row.centre, row.centre),
            with_unit(row.difference, units[row.metric]), bounds(row.ci_low, row.ci_high, units[row.metric]),
            str(row.n), "0.004", "0.012" if row.primary else "\N{EN DASH}",
        ]
        for row in rows.itertuples()
    ]  # fmt: skip


def test_arms_stand_beside_each_other_with_their_own_figures(outlines):
    table, _ = sections(card(outlines))["Lesion outlines: beside the other arms"]
    summary = read_tables(outlines).summary.set_index(["arm", "centre", "role", "metric"])
    assert table[0] == ["figure", "federated", "pooled", "ensemble", "local"]
    hd95 = next(row for row in table if row[0] == "HD95")
    for arm, text in zip(table[0][1:], hd95[1:], strict=True):
        row = summary.loc[(arm, "all", "external", "hd95")]
        assert text == f"{row['value']:.1f} mm ({row['ci_low']:.1f} to {row['ci_high']:.1f}), n {row['n']}"


def test_pooled_figures_carry_the_prediction_interval(outlines):
    (table,) = sections(card(outlines))["Lesion outlines: pooled over centres"]
    meta = read_tables(outlines).meta
    assert len(table) == 1 + len(meta)
    for row, line in zip(meta.itertuples(), table[1:], strict=True):
        assert line[1] == row.quantity.replace("federated-", "federated minus ")
        assert line[2:4] == [with_unit(row.estimate, row.unit), bounds(row.ci_low, row.ci_high, row.unit)]
        assert line[4:] == [bounds(row.pi_low, row.pi_high, row.unit), str(row.k), f"{row.tau2:.4f}", f"{row.i2:.0f}"]


def test_subgroups_are_those_of_the_table_and_thin_ones_are_said(outlines):
    rows = read_tables(outlines).subgroups
    rows.loc[rows.index[1], "ranked"] = False
    rows.to_csv(outlines / "subgroups.csv", index=False)
    (table,) = sections(card(outlines))["Lesion outlines: subgroups"]
    rows = rows[rows["arm"] == "federated"]
    assert [line[2:7] + line[-1:] for line in table[1:]] == [
        [
            row.level, with_unit(row.value, "1"), bounds(row.ci_low, row.ci_high, "1"), str(row.n), str(row.patients),
            "" if row.ranked else "thin: not ranked",
        ]
        for row in rows.itertuples()
    ]  # fmt: skip


def test_thin_and_undefined_figures_are_said(study):
    path = study / "summary.csv"
    summary = pd.read_csv(path, keep_default_na=False)
    lost = (summary["metric"] == "auc_er") & (summary["centre"] == "centre-b") & (summary["arm"] == "federated")
    summary.loc[lost, ["value", "ci_low", "ci_high"]] = ""
    summary.loc[lost, "note"] = "one class only"
    summary.to_csv(path, index=False)
    (table,) = sections(card(study))["Receptor status: results of the federated model"]
    by_place = {(row[0], row[1]): row for row in table}
    assert by_place["AUC, ER", "centre-b"][2:4] == ["undefined", "\N{EN DASH}"]
    assert by_place["AUC, ER", "centre-b"][-1] == "one class only"
    assert by_place["AUC, ER", "centre-d"][-1] == "fewer than 10 of a class"
    assert by_place["AUC, ER", "centre-a"][-1] == ""


def test_phantoms_are_said_in_the_first_line_and_only_where_they_are(outlines):
    assert "PHANTOM DATA" in card(outlines).splitlines()[0]
    made = json.loads((outlines / "provenance.json").read_text())
    (outlines / "provenance.json").write_text(json.dumps(made | {"phantom": False}))
    real = card(outlines)
    assert real.startswith("# Model card: leave-one-out-0\n")
    assert "PHANTOM" not in real


def test_the_same_folder_gives_the_same_bytes_and_leaves_no_draft(outlines):
    first = write_model_card(outlines).read_bytes()
    before = sorted(outlines.iterdir())
    assert write_model_card(outlines).read_bytes() == first
    assert sorted(outlines.iterdir()) == before


def test_data_are_counted_by_centre_and_by_factor(outlines):
    found = sections(card(outlines))
    (training,), (evaluation,), (factors,) = (found[name] for name in ("Training data", "Evaluation data", "Factors"))
    assert training[3][:7] == ["centre-c", "20", "20", "12", "4", "4", "empty_mask 1, missing_phase 2"]
    assert training[3][7] == f"{12:064x}"
    assert evaluation[1] == ["centre-a", "20", "20", "2026-01-02T00:00:00+00:00", "10"]
    assert ["Manufacturer", "vendor-x: 40, vendor-y: 40"] in factors
    ages = pd.read_parquet(outlines / "cohort.parquet")["age_band"].value_counts()
    assert any(f"unknown: {ages['']}" in row[1] and f"<50: {ages['<50']}" in row[1] for row in factors)


def test_no_text_of_a_centre_breaks_a_table(outlines):
    flow = json.loads((outlines / "flow.json").read_text())
    flow["centre-b"]["excluded"] = {"a|b\n<b>*c*": 3}
    (outlines / "flow.json").write_text(json.dumps(flow))
    (training,) = sections(card(outlines))["Training data"]
    assert training[2][6] == "a|b <b>*c* 3"
    assert {len(row) for row in training} == {8}


def test_every_federated_model_is_listed_by_fold_and_seed_with_its_hash(study):
    text = card(study)
    (table,) = sections(text)["Federated models"]
    cells = [cell for cell in json.loads((study / "cells.json").read_text()) if cell["arm"] == "federated"]
    assert [(row[0], row[1], int(row[2]), row[-1]) for row in table[1:]] == [
        (cell["task"], cell["held_out"], cell["seed"], cell["model_hash"]) for cell in cells
    ]
    assert len(cells) == 16
    assert "This folder holds no federated weights." in text


def test_the_code_in_the_card_loads_the_model_whose_hash_it_names(outlines, monkeypatch):
    config = load_config(outlines / "study.toml").leaving_out("centre-a").for_task(SEGMENTATION)
    model = task_named(SEGMENTATION).learner.build_model(config.model_copy(update={"seed": 5}))
    file = f"folds/centre-a/cells/{SEGMENTATION}/federated-seed-0/models/{SEGMENTATION}/round-004.safetensors"
    (outlines / file).parent.mkdir(parents=True)
    save_file(model.state_dict(), outlines / file)
    cells = json.loads((outlines / "cells.json").read_text())
    cells[0]["model_hash"] = state_hash(model.state_dict())
    (outlines / "cells.json").write_text(json.dumps(cells))
    text = card(outlines)
    (table,) = sections(text)["Federated models"]
    assert table[1][4:6] == [f"{sum(value.numel() for value in model.parameters()):,}", file]
    monkeypatch.chdir(outlines)
    found = {}
    exec(text.partition("```python\n")[2].partition("```")[0], found)  # noqa: S102 - the card's own example
    assert state_hash(found["model"].state_dict()) == cells[0]["model_hash"]
    assert os.fspath(outlines) not in text


def test_each_task_has_its_own_part_and_no_patient_is_named(study):
    text = card(study)
    assert {f"Lesion outlines ({SEGMENTATION})", f"Receptor status ({CLASSIFIER})"} <= set(sections(text))
    assert not any(name in text for name in pd.read_parquet(study / "cohort.parquet")["patient"])


def test_an_outline_is_asked_for_by_the_tasks_that_read_one(study):
    assert "- **An outline of the lesion is needed** (Receptor status). Drawn by a reader" in card(study)


def test_no_outline_is_asked_for_where_no_task_reads_one(outlines):
    assert "outline of the lesion is needed" not in card(outlines)


def test_a_study_without_statistics_is_refused_by_name(outlines):
    (outlines / "comparisons.csv").unlink()
    with pytest.raises(RunError, match=r"comparisons\.csv"):
        write_model_card(outlines)
    assert not (outlines / "MODEL_CARD.md").exists()
