"""The viewer in a real browser, under the page's policy: it fits, and its three planes move together."""

import base64
import hashlib
import html
import json
import re
import subprocess

import pytest

from server.reports.figures.volume_viewer import viewer_script, volume_figures
from server.reports.templates import source
from tests.server.reports.figures.test_volume_viewer import make_volume
from tests.server.reports.test_browser import CHROMIUM, FLAGS

WIDTHS = (390, 1280)
# What somebody does with one page in a frame, and what the page then shows.
PROBE = """<!DOCTYPE html><title></title><body>{frames}<script>
const wait = () => new Promise(done => setTimeout(done, 50));
const centre = (canvas, match) => {{
  const size = canvas.width, {{ data }} = canvas.getContext("2d").getImageData(0, 0, size, size);
  let x = 0, y = 0, n = 0;
  for (let i = 0; i < size * size; i++) {{
    if (match(data[4 * i], data[4 * i + 1], data[4 * i + 2])) {{ x += i % size; y += Math.floor(i / size); n++; }}
  }}
  return n ? [x / n / size * 90, y / n / size * 90] : null;
}};
const blue = (r, g, b) => r === 86 && g === 180 && b === 233, orange = (r, g, b) => r === 230 && g === 159 && b === 0;
async function use(frame) {{
  const page = frame.contentDocument, view = frame.contentWindow, figure = page.querySelector("figure");
  while (!figure.classList.contains("mounted")) await wait();
  await wait();
  const [axial, coronal, sagittal] = page.querySelectorAll("canvas"), ranges = page.querySelectorAll(".plane input");
  const texts = () => [...page.querySelectorAll(".at")].map(item => item.textContent.replaceAll("\\u00a0", " "));
  const shots = () => [axial, coronal, sagittal].map(canvas => canvas.toDataURL());
  const input = (item, value) => {{ item.value = value; item.dispatchEvent(new view.Event("input")); }};
  const key = name => axial.dispatchEvent(new view.KeyboardEvent("keydown", {{ key: name, cancelable: true }}));
  const found = {{
    width: frame.clientWidth, needed: page.documentElement.scrollWidth, first: texts(),
    tops: [...page.querySelectorAll(".view")].map(item => Math.round(item.getBoundingClientRect().top)),
    square: [axial, coronal, sagittal].every(canvas => canvas.width > 100 && canvas.width === canvas.height),
    stills: [...page.querySelectorAll(".still")].some(item => view.getComputedStyle(item).display !== "none"),
    white: [axial, coronal, sagittal].map(canvas => centre(canvas, (r, g, b) => r === g && g === b && r > 245)),
    blue: [axial, coronal, sagittal].map(canvas => centre(canvas, blue)),
    orange: [axial, coronal, sagittal].map(canvas => centre(canvas, orange)),
    asked: view.performance.getEntriesByType("resource").map(entry => entry.name.slice(0, 20)),
  }};
  const before = shots();
  input(ranges[0], 3);
  found.moved = shots().map((shot, i) => shot !== before[i]);
  found.slid = texts()[0];
  found.spoken = [ranges[0].getAttribute("aria-valuetext"), axial.getAttribute("aria-label")];
  found.gone = centre(axial, blue);
  const box = axial.getBoundingClientRect(), at = {{ clientX: box.left + box.width * 65.5 / 90 }};
  at.clientY = box.top + box.height * 22.5 / 90;
  axial.dispatchEvent(new view.MouseEvent("click", at));
  found.clicked = texts();
  const side = sagittal.getBoundingClientRect();
  sagittal.dispatchEvent(new view.PointerEvent("pointermove", {{
    buttons: 1, clientX: side.left + side.width / 2, clientY: side.top + side.height * 7.1 / 90 }}));
  found.dragged = texts();
  key("ArrowDown"); key("PageDown"); found.keyed = texts()[0]; key("End"); key("Home"); found.home = texts()[0];
  const wheel = new view.WheelEvent("wheel", {{ deltaY: -80, cancelable: true }});
  axial.dispatchEvent(wheel); found.unfocused = [texts()[0], wheel.defaultPrevented];
  axial.focus(); axial.dispatchEvent(wheel); found.wheeled = [texts()[0], wheel.defaultPrevented];
  input(ranges[0], 16);
  for (const name of ["reference", "prediction"]) {{
    page.querySelector(`input.${{name}}`).checked = false;
    page.querySelector(`input.${{name}}`).dispatchEvent(new view.Event("input"));
    found["hidden_" + name] = [centre(coronal, blue), centre(coronal, orange)];
  }}
  const dark = axial.toDataURL();
  input(page.querySelector("input.window"), 51);
  found.window = [page.querySelector("output").textContent, axial.toDataURL() !== dark];
  view.DecompressionStream = undefined;
  delete figure.dataset.begun;
  view.mountVolumes();
  await wait();
  found.old = page.querySelector(".message").textContent;
  return found;
}}
window.onload = async () => {{
  const frames = [...document.querySelectorAll("iframe")];
  document.title = JSON.stringify(await Promise.all(frames.map(use)));
}};
</script>"""


def standalone():
    script = viewer_script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="'
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'\"><title>t</title>"
        f"<style>{source('volume_viewer.css')}</style><script>{script}</script><body>{volume_figures([make_volume()])}"
    )


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the viewer is not tried")
def test_in_a_browser_the_three_planes_move_together(tmp_path):
    page = html.escape(standalone(), quote=True)
    frames = "".join(
        f'<iframe style="border:0;width:{width}px;height:900px" srcdoc="{page}"></iframe>' for width in WIDTHS
    )
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(frames=frames))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", probe.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    results = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", dom).group(1)))
    assert [found["width"] for found in results] == list(WIDTHS)
    for found in results:
        check_what_was_shown(found)
        check_what_was_done(found)
    narrow, wide = (found["tops"] for found in results)
    assert wide[0] == wide[1] == wide[2]
    assert narrow[0] < narrow[1] == narrow[2]


def check_what_was_shown(found):
    assert found["needed"] <= found["width"]
    assert found["square"]
    assert not found["stills"]
    assert found["asked"] == []
    assert found["first"] == [
        "axial slice, 15 of 20, z = 0.0 mm", "coronal slice, 15 of 70, y = 0.0 mm",
        "sagittal slice, 30 of 40, x = 0.0 mm",
    ]  # fmt: skip
    # Middle of the reference, mm from the canvas's left and top: the slices lie in the middle of 90 mm.
    axial, coronal, sagittal = [5 + 60, 10 + 15], [5 + 60, 5 + 16], [10 + 15, 5 + 16]
    for seen, outlined, expected in zip(found["white"], found["blue"], (axial, coronal, sagittal), strict=True):
        assert seen == pytest.approx(expected, abs=2)
        assert outlined == pytest.approx(expected, abs=2)
    # The prediction reaches further to posterior: right in the sagittal plane. The axial slice lies below it.
    assert found["orange"][0] is None
    assert found["orange"][2][0] > sagittal[0] + 1


def check_what_was_done(found):
    assert found["moved"] == [True, True, True]  # the slice itself, and the cross in the others
    assert found["slid"] == "axial slice, 3 of 20, z = \u221248.0 mm"
    assert "3 of 20" in found["spoken"][0].replace("\u00a0", " ")
    assert found["spoken"][1].startswith("best case centre-d-0, axial slice, 3 of 20")
    assert found["gone"] is None
    # 60.5 mm from the slices' left in voxels of 2 mm, 12.5 mm from their top in voxels of 1 mm.
    assert found["clicked"] == [
        "axial slice, 3 of 20, z = \u221248.0 mm", "coronal slice, 13 of 70, y = \u22122.0 mm",
        "sagittal slice, 31 of 40, x = 2.0 mm",
    ]  # fmt: skip
    # The middle of 70 mm, and 2.1 mm below the top of 20 slices of 4 mm.
    assert found["dragged"] == [
        "axial slice, 20 of 20, z = 20.0 mm", "coronal slice, 36 of 70, y = 21.0 mm",
        "sagittal slice, 31 of 40, x = 2.0 mm",
    ]  # fmt: skip
    assert found["keyed"].startswith("axial slice, 14 of 20")
    assert found["home"].startswith("axial slice, 1 of 20")
    assert found["unfocused"] == [found["home"], False]
    assert found["wheeled"][0].startswith("axial slice, 3 of 20")
    assert found["wheeled"][1]
    assert found["hidden_reference"][0] is None
    assert found["hidden_prediction"] == [None, None]
    assert found["window"] == ["\u221220 to 60 a.u.", True]
    assert "current browser" in found["old"]
