"""Templates and data files: HTML is escaped, Markdown is not, and a checkout stands in where they were not shipped."""

import pytest

from server.reports import templates


def test_html_alone_is_escaped(tmp_path, monkeypatch):
    for name in ("page.html", "card.md.j2"):
        (tmp_path / name).write_text("{{ text }}")
    monkeypatch.setattr(templates, "__file__", str(tmp_path / "templates.py"))
    page, card = (templates.environment().get_template(name) for name in ("page.html", "card.md.j2"))
    assert (page.render(text="<b>"), card.render(text="<b>")) == ("&lt;b&gt;", "<b>")


def test_files_that_were_not_shipped_are_read_from_the_checkout(tmp_path, monkeypatch):
    shipped = templates.source("style.css")
    monkeypatch.setattr(templates, "__file__", str(tmp_path / "app" / "templates.py"))
    assert templates.source("style.css") == shipped
    monkeypatch.setattr(templates, "project_root", lambda: tmp_path)
    with pytest.raises(templates.jinja2.TemplateNotFound):
        templates.source("style.css")
