"""Tables in Markdown: no cell breaks a row, no cell becomes markup, an empty table is a sentence."""

from itertools import pairwise

from markdown_it import MarkdownIt

from server.reports.study.model_card_tables import factors, markdown_table, weights_file
from server.run_folder.finished_study import ModelEntry


def cells(text):
    """Texts of a table's cells, as a reader of Markdown sees them, without markup inside."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inline = [after for before, after in pairwise(tokens) if before.type in {"td_open", "th_open"}]
    assert all(part.type == "text" for item in inline for part in item.children)
    return ["".join(part.content for part in item.children) for item in inline]


def test_what_would_be_markup_is_shown_as_it_is():
    hostile = "a|b `c` *d* [e](f) <g> \\h\ni"
    assert cells(markdown_table([("x", hostile)], ("name", "text"))) == [
        "name", "text", "x", "a|b `c` *d* [e](f) <g> \\h i",
    ]  # fmt: skip


def test_a_table_without_rows_is_a_sentence():
    assert markdown_table([], ("name",), "Nothing was measured.") == "Nothing was measured."


def test_factors_count_every_case_and_the_unknown(study):
    rows = cells(markdown_table(factors(study.cohort), ("factor", "cases")))
    assert rows[rows.index("Field strength, T") + 1] == "1.5: 40, 3: 40"
    assert "unknown: " in rows[rows.index("Age, years") + 1]
    assert "Lesion size" not in rows


def test_weights_lie_where_the_study_trained_them(study):
    entry = ModelEntry(
        task="receptor-status", held_out="centre-a", arm="local:centre-b", seed=1, model_hash="h", best_round=4,
        rounds=5, seconds=1.0,
    )  # fmt: skip
    below = weights_file(study, entry).relative_to(study.path).as_posix()
    assert below == (
        "folds/centre-a/cells/receptor-status/local-centre-b-seed-1/models/receptor-status/round-004.safetensors"
    )
