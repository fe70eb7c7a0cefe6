"""A classifier's section in a real browser: it fits a telephone and a desktop."""

import html
import json
import re
import shutil
import subprocess

import pytest

from tests.server.reports.invented_classifiers import whole

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--dump-dom",
)
PROBE = """<!DOCTYPE html><title></title><body>{frames}<script>
window.onload = () => {{ document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(frame => {{
  const page = frame.contentDocument;
  return {{
    width: frame.clientWidth,
    needed: page.documentElement.scrollWidth,
    tables: [...page.querySelectorAll("table")].every(table => table.closest(".scroll")),
    drawn: [...page.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect().height > 80),
  }};
}})) }};
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the section's layout is not looked at")
def test_the_section_fits_a_telephone_and_a_desktop(tmp_path):
    page = html.escape(whole()[2], quote=True)
    frames = "".join(f'<iframe style="border:0;width:{width}px" srcdoc="{page}"></iframe>' for width in (390, 1280))
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(frames=frames))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", probe.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", dom).group(1)))
    assert [item["width"] for item in found] == [390, 1280]
    for item in found:
        assert item["needed"] <= item["width"]
        assert item["tables"]
        assert item["drawn"] == [True] * 3
