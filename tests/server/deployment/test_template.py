"""Templates: plain text is not escaped, a missing name is an error."""

import jinja2
import pytest

from server.deployment.template import fill_template


def test_text_is_put_in_as_it_is_and_lines_of_statements_leave_none(tmp_path):
    (tmp_path / "a.conf.j2").write_text('x {{ "{" }}\n{% for name in names %}\n    "{{ name }}";\n{% endfor %}\nend\n')
    assert fill_template(tmp_path / "a.conf.j2", names=["a<b>", "c&d"]) == 'x {\n    "a<b>";\n    "c&d";\nend\n'
    with pytest.raises(jinja2.UndefinedError, match="names"):
        fill_template(tmp_path / "a.conf.j2")
