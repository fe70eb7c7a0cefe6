"""The page: its numbers are those of results.json, it loads nothing, it escapes everything, it can be made again."""

import html
import json
import re
import shutil
from pathlib import Path

import pytest

from server.evaluation.metric_rows import table_rows
from server.reports.metric_text import fixed
from server.reports.page import READY_STUDY, build_report
from server.run_folder.predictions import read_predictions, write_predictions
from server.run_folder.results import read_results, write_results
from shared.config.run_config import load_config
from shared.errors import ConfigError, RunError
from shared.tasks import task_named

TASK = "lesion-segmentation"


def text_of(page):
    body = re.sub(r"<style.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


def test_every_external_and_internal_figure_equals_results_json(run_dir, page):
    shown = re.findall(r'data-metric="([\w.]+)" data-value="([^"]+)">([^<]*)<', page)
    bounds = re.findall(r'data-low="([^"]+)" data-high="([^"]+)"', page)
    stored = json.loads((run_dir / "results.json").read_text())["rows"]
    known = {(row["metric"], str(row["value"])) for row in stored}
    assert {(metric, value) for metric, value, _ in shown} <= known
    external = {
        (row["metric"], str(row["value"])) for row in stored if row["role"] == "external" and row["value"] is not None
    }
    assert len(external) > 20
    assert external <= {(metric, value) for metric, value, _ in shown}
    assert set(bounds) <= {(str(row["ci_low"]), str(row["ci_high"])) for row in stored}
    digits = {row["metric"]: {"mm": 1, "ml": 2, "cases": 0}.get(row["unit"], 3) for row in stored}
    for metric, value, seen in shown:
        assert seen == fixed(float(value), digits[metric])


def test_the_sentence_states_the_external_dice_with_its_interval(run_dir, page):
    page = text_of(page)
    dice = next(row for row in read_results(run_dir).rows if row.role == "external" and row.metric == "dice")
    assert (
        f"On 20 phantom cases of centre-d, which never trained: Dice {dice.value:.3f} "
        f"(95% interval {dice.ci_low:.3f} to {dice.ci_high:.3f}, n = 20); HD95"
    ) in page


def test_nothing_is_loaded_from_anywhere(page):
    assert "://" not in page
    assert not re.search(r"<(script|link|iframe|object|embed)\b", page, re.IGNORECASE)
    study = f"/{READY_STUDY}"
    assert all(
        url.startswith("data:image/png;base64,") or url[0] == "#" or url.endswith(study)
        for url in re.findall(r'(?:src|href)="([^"]*)', page)
    )
    assert all(url[0] == "#" for url in re.findall(r"url\(([^)]*)\)", page))
    assert "default-src 'none'" in page


def test_the_page_names_the_ready_study_and_the_words_without_a_link_that_dies_when_it_is_mailed(page):
    assert f"<code>{READY_STUDY}</code>" in page
    assert "<code>docs/reader.md</code>" in page
    assert all(link[0] == "#" for link in re.findall(r'<a href="([^"]*)"', page))
    for named in (READY_STUDY, "docs/reader.md"):
        assert (Path(__file__).parents[3] / named).is_file()


def test_the_same_folder_gives_the_same_bytes(run_dir, page):
    assert build_report(run_dir).read_text() == page  # scenario 73


def test_phantom_data_are_named_in_plain_sight_and_only_then(make_folder, page):
    assert page.index("PHANTOM DATA, not patients.") < page.index("<h1>")
    run = make_folder()
    stored = json.loads((run / "results.json").read_text())
    stored["provenance"] |= {"phantom": False, "seeds": {"training": 3}}
    (run / "results.json").write_text(json.dumps(stored))
    real = text_of(build_report(run).read_text()).split("Configuration as run")[0]
    assert "phantom" not in real.lower()
    assert "Lesion outlines: trained at three hospitals, evaluated at one that never trained" in real


def test_a_generated_phantoms_shift_is_said_to_have_been_chosen(make_folder):
    run = make_folder()
    config = run / "config.toml"
    assert "was chosen after trials" not in text_of(build_report(run).read_text())  # phantoms made elsewhere
    config.write_text(config.read_text().replace("[federation]", "[data.phantom]\nshift = 0.6\n\n[federation]"))
    assert "(shift 0.6) was chosen after trials" in text_of(build_report(run).read_text())


def test_cases_left_out_and_absent_sites_are_shown_with_their_reasons(page):
    page = text_of(page)
    assert "empty mask (2), no pixel spacing (1)" in page
    assert "all 94 48 9 12 20 5" in page.replace("  ", " ")  # all, train, validation, test, external, left out
    assert "absent: no answer within 900 s" in page
    assert "centre-b was absent in round 3 (no answer within 900 s)" in page


def test_failures_and_worst_cases_are_shown(page):
    page = text_of(page)
    assert "Failures , cases 1 \N{EN DASH} 20 " in page
    worst = page.split("Worst cases")[1].split("Best, median")[0]
    assert re.findall(r"centre-d-\w+-\w+-L", worst)[0] == "centre-d-0000000007-00000e-L"


def test_hostile_text_from_config_and_data_is_escaped(make_folder):
    hostile = "<script>alert('x')</script><img src=x onerror=alert(1)>"
    run = make_folder()
    (run / "config.toml").write_text(f"# {hostile}\n" + (run / "config.toml").read_text())
    journal = run / "journal" / TASK / "round-003.json"
    record = json.loads(journal.read_text())
    record["sites"]["centre-b"]["reason"] = hostile
    journal.write_text(json.dumps(record))
    cases = json.loads((run / "cases.json").read_text())
    cases["centre-d"]["excluded"] = {hostile: 1}
    cases[f'"{hostile}'] = cases["centre-a"]
    (run / "cases.json").write_text(json.dumps(cases))
    stored = json.loads((run / "results.json").read_text())
    stored["provenance"] |= {"name": hostile, "git": hostile, "versions": {hostile: hostile}}
    stored["rows"] += [row | {"arm": hostile, "model_hash": "x"} for row in stored["rows"] if row["role"] == "external"]
    (run / "results.json").write_text(json.dumps(stored))
    page = build_report(run).read_text()
    assert page.count("&lt;script&gt;") >= 8
    assert "<script" not in page
    assert "<img" not in page


def test_other_arms_make_a_comparison_and_a_lone_model_does_not(make_folder, page):
    assert "Models compared" not in page
    several = make_folder("arms")
    compared = build_report(several).read_text()
    section = text_of(compared.split("Models compared")[1].split("</section>")[0])
    for arm, name in (("federated", "Federated"), ("local:centre-a", "Local: centre-a"), ("pooled", "Pooled")):
        row = next(
            item
            for item in read_results(several).rows
            if (item.arm, item.role, item.metric) == (arm, "external", "dice")
        )
        assert re.search(rf"{name}[^0-9]* {row.value:.3f} {row.ci_low:.3f} to {row.ci_high:.3f}", section)


def test_without_an_external_centre_the_page_says_so(make_folder):
    run = make_folder()
    config = (run / "config.toml").read_text().replace('external = "centre-d"\n', "")
    (run / "config.toml").write_text(config)
    (run / "predictions" / "lesion-segmentation.parquet").unlink()
    page = text_of(build_report(run).read_text())
    assert "No external centre evaluated it" in page
    assert "Worst cases" not in page
    assert "Training sites' own cases" in page


def test_a_single_external_case_still_makes_a_page(make_folder):
    run = make_folder()
    write_predictions(run, TASK, read_predictions(run, TASK).head(1))
    old = read_results(run)
    settings, metrics = load_config(run / "config.toml").evaluation, task_named(TASK).metrics
    who = {"task": TASK, "seed": 3, "role": "external"}
    write_results(run, table_rows(read_predictions(run, TASK), metrics, settings, **who), old.provenance)
    page = text_of(build_report(run).read_text())
    assert "1 case of 1 patient at a centre" in page
    assert "Fewer than 10 patients evaluated (Lesion outlines)" in page
    assert "ICC(A,1) of lesion volume undefined \N{EN DASH} 1 " in page


@pytest.mark.parametrize("name", ["results.json", "cases.json", "predictions/lesion-segmentation.parquet"])
def test_a_missing_file_is_named(make_folder, name):
    run = make_folder()
    (run / name).unlink()
    with pytest.raises(RunError, match=name.replace(".", r"\.")):
        build_report(run)


def test_a_folder_without_its_whole_journal_is_refused(make_folder):
    run = make_folder()
    (run / "journal" / TASK / "round-002.json").unlink()
    with pytest.raises(RunError, match=r"journal/lesion-segmentation holds 5 of the 6 rounds"):
        build_report(run)
    shutil.rmtree(run / "journal")
    with pytest.raises(RunError, match="holds 0 of the 6 rounds"):
        build_report(run)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("journal/lesion-segmentation/round-002.json", "{"),
        (
            "journal/lesion-segmentation/round-002.json",
            (
                '{"task": "lesion-segmentation", "round": 2, "model_hash": "a", "seconds": 1, '
                '"sites": {"x": {"status": "fine"}}}'
            ),
        ),
        ("cases.json", '{"centre-a": {"role": "evaluate", "included": {}}}'),
    ],
)
def test_a_damaged_file_is_named_and_no_page_is_written(make_folder, name, content):
    run = make_folder()
    (run / name).write_text(content)
    with pytest.raises(RunError, match=name.split("/")[-1].replace(".", r"\.")):
        build_report(run)
    assert not (run / "report.html").exists()


def test_a_journal_with_impossible_sums_is_refused(make_folder):
    run = make_folder()
    file = run / "journal" / TASK / "round-001.json"
    record = json.loads(file.read_text())
    record["sites"]["centre-a"]["validation"]["n"] = -3
    file.write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"round-001\.json"):
        build_report(run)


def test_a_configuration_that_cannot_be_meant_is_refused(make_folder):
    run = make_folder()
    (run / "config.toml").write_text('name = "x"\nsurplus = 1\n')
    with pytest.raises(ConfigError, match="surplus"):
        build_report(run)


def test_results_without_the_chosen_models_external_figures_are_refused(make_folder):
    run = make_folder()
    stored = json.loads((run / "results.json").read_text())
    stored["rows"] = [row for row in stored["rows"] if row["role"] != "external"]
    (run / "results.json").write_text(json.dumps(stored))
    with pytest.raises(RunError, match="no external figures of the chosen model at 'centre-d'"):
        build_report(run)


def test_the_ledger_says_who_was_away_and_why_and_which_round_was_chosen(page):
    part = page[page.index('id="ledger"') : page.index('id="provenance"')]
    assert re.findall(r'<td class="num">(\d) ★</td>', part) == ["5"]
    rows = part.split("<tr>")[2:]
    assert [row.count('<td class="bad">absent: no answer within 900 s</td>') for row in rows] == [0, 0, 1, 0, 0, 0]


def test_the_ledger_marks_an_update_with_skipped_cases_and_one_that_was_refused(make_folder):
    run = make_folder()
    path = run / "journal" / "lesion-segmentation" / "round-001.json"
    record = json.loads(path.read_text())
    record["sites"]["centre-a"] |= {"cases": 14, "skipped": 2}
    record["sites"]["centre-b"] |= {"status": "refused", "reason": ""}
    del record["sites"]["centre-c"]
    path.write_text(json.dumps(record))
    text = build_report(run).read_text()
    row = text[text.index('id="ledger"') :].split("<tr>")[2]
    assert re.findall(r"<td( class=\"bad\")?>([^<]*)</td>", row) == [
        (' class="bad"', "14 (2 skipped)"), (' class="bad"', "refused"), (' class="bad"', "absent"),
    ]  # fmt: skip
