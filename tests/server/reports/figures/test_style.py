"""Figures share one style: curves by site, ids that are unique, names that are escaped, the same bytes again."""

import re

from server.reports.figures import style


def test_learning_curves_name_each_site_and_the_chosen_round():
    curves = [style.Curve("centre-a", [1, 2, 3], [1.0, 0.5, 0.3]), style.Curve("b$x$", [1, 3], [0.9, 0.4])]
    svg = style.learning_curves(curves, label="training loss", name="loss", description="text", best_round=2)
    for text in ("centre-a", "b$x$", "chosen round (2)", "training loss", ">round<"):
        assert text in svg


def test_two_figures_share_no_id_and_the_same_input_gives_the_same_bytes():
    def drawn(name):
        curve = style.Curve("<script>", [1, 2], [0.5, 0.6])
        return style.learning_curves([curve], label="&", name=name, description="<b>", best_round=1)

    one, two = drawn("one"), drawn("two")
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg in (one, two):
        used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
        assert used
        assert used <= set(re.findall(r'\bid="([^"]+)"', svg))
    assert drawn("one") == one
    assert "<script" not in one
    assert "&lt;script&gt;" in one
    assert 'aria-label="&lt;b&gt;"' in one
