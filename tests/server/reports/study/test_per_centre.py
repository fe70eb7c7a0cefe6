"""Forest plots of a task have the tables' own numbers, in the order of the centres."""

import re

from server.reports.study import per_centre
from shared.tasks import task_named
from tests.server.reports.study.invented_study import CLASSIFIER, SEGMENTATION

OUTLINES, RECEPTORS = task_named(SEGMENTATION), task_named(CLASSIFIER)


def words(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_a_forest_lists_held_out_centres_in_order_then_the_model_with_the_tables_numbers(study):
    svg = next(item for item in per_centre.forests(study, OUTLINES) if "Dice of" in item["caption"])["svg"]
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
    captions = [item["caption"] for item in per_centre.forests(study, RECEPTORS)]
    assert all("not ranked: centre-d" in text for text in captions)
    assert "Too few cases for some figures of receptor status at centre-d" in page
    assert "not ranked" not in per_centre.forests(study, OUTLINES)[0]["caption"]
