"""The page in a real browser: it fits a telephone and a desktop, and asks for nothing."""

import html
import json
import re
import shutil
import subprocess

import pytest

from server.reports.page import build_report
from tests.server.reports.invented_tissues import add_tissues

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (390, 1280)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=5000", "--dump-dom",
)  # fmt: skip
# A frame a width: headless windows have a least width of their own, frames have not. The page itself runs no script.
PROBE = """<!DOCTYPE html><title></title><body>{frames}<script>
window.onload = () => {{ document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(frame => {{
  const page = frame.contentDocument;
  return {{
    width: frame.clientWidth,
    needed: page.documentElement.scrollWidth,
    tables: [...page.querySelectorAll("table")].every(table => table.closest(".scroll")),
    drawn: [...page.querySelectorAll("svg")].every(svg => svg.getBoundingClientRect().height > 80),
    asked: frame.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name.slice(0, 40)),
  }};
}})) }};
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the page's layout is not looked at")
def test_the_page_fits_a_telephone_and_a_desktop_and_asks_for_nothing(make_folder, tmp_path):
    page = html.escape(build_report(add_tissues(make_folder("arms"))).read_text(), quote=True)
    frames = "".join(f'<iframe style="border:0;width:{width}px" srcdoc="{page}"></iframe>' for width in WIDTHS)
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(frames=frames))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", probe.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", dom).group(1)))
    assert [item["width"] for item in found] == list(WIDTHS)
    for item in found:
        assert item["needed"] <= item["width"]
        assert item["tables"]
        assert item["drawn"]
        assert [name for name in item["asked"] if not name.startswith("data:")] == []
