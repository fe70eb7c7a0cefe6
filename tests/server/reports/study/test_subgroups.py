"""Subgroups on the page: the table's own figures, the local ones beside them."""

import re
from dataclasses import replace

from server.reports.study.subgroups import subgroups
from shared.tasks import task_named
from tests.server.reports.study.invented_study import SEGMENTATION

OUTLINES = task_named(SEGMENTATION)


def test_a_level_has_its_figure_the_local_one_and_their_difference(study, page):
    table = study.tables.subgroups.query(f"task == '{SEGMENTATION}' and factor == 'density' and level == 'b'")
    own, local = (table[table["arm"] == arm].iloc[0] for arm in ("federated", "local"))
    assert own["ranked"]
    part = page[page.index('id="subgroups"') :]
    assert '<th class="num">Dice, federated</th>' in part
    row = next(row for row in part.split("<tr>") if row.startswith('<td class="nowrap">Breast density (BI-RADS)</td>')
               and '<td class="nowrap">b</td>' in row)  # fmt: skip
    small = '<br><span class="small">{}</span>'
    assert re.findall(r'<td class="num">(.*?)</td>', row) == [
        f"{own['n']} ({own['patients']})",
        f"{own['value']:.3f}{small.format('{ci_low:.3f} to {ci_high:.3f}'.format(**own))}",
        f"{local['value']:.3f}",
        f"0.080{small.format('0.020 to 0.140')}",
        "0.010",
        "0.030",
    ]


def test_two_drawings_have_a_heading_for_each_factor_and_say_which_side_is_better(study):
    figure, gain = subgroups(study, OUTLINES)["figures"]
    words = re.findall(r"<text[^>]*>([^<]*)</text>", gain["svg"])
    assert {"Manufacturer", "Field strength, T", "Age, years", "(better: right of 0)"} <= set(words)
    assert "\u226570 (" in "".join(re.findall(r"<text[^>]*>([^<]*)</text>", figure["svg"]))


def test_without_subgroups_there_is_no_section(study):
    vars(study)["tables"] = replace(study.tables, subgroups=study.tables.subgroups.iloc[:0])
    assert subgroups(study, OUTLINES) is None
