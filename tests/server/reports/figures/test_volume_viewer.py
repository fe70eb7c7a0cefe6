"""The viewer: what the page holds is the volume, the right way round, within its budget and the page's policy."""

import base64
import html
import io
import json
import re
import zlib

import numpy as np
import pytest
from PIL import Image

from server.reports.figures.volume_viewer import MAX_BYTES, viewer_script, volume_figures
from server.reports.templates import source
from server.run_folder.volumes import LARGEST, Volume

SPACING = (4.0, 1.0, 2.0)


def make_volume(shape=(20, 70, 40), *, label="best", case="centre-d-0", noise=40):
    """A lesion superior, anterior and left of the middle, brighter than the noise around it."""
    image = np.random.default_rng(0).integers(0, noise, shape).astype(np.uint8)
    reference, prediction = np.zeros((2, *shape), bool)
    reference[14:18, 10:20, 26:34] = True
    prediction[15:18, 12:24, 26:32] = True
    image[reference] = 250
    return Volume(label, case, image, reference, prediction, SPACING, (-20.0, 380.0))


def attribute(fragment, name):
    return html.unescape(re.search(rf'{name}="([^"]*)"', fragment).group(1))


def unpack(fragment):
    data = json.loads(attribute(fragment, "data-volume"))
    content = zlib.decompress(base64.b64decode(attribute(fragment, "data-voxels")))
    count = int(np.prod(data["shape"]))
    voxels = np.frombuffer(content[:count], np.uint8).reshape(data["shape"])
    bits = np.frombuffer(content[count:], np.uint8).reshape(2, -1)
    return data, voxels, [np.unpackbits(mask, count=count).reshape(data["shape"]).astype(bool) for mask in bits]


def test_the_page_holds_the_volume_bit_for_bit_and_twice_the_same():
    volume = make_volume()
    fragment = volume_figures([volume])
    data, voxels, (reference, prediction) = unpack(fragment)
    np.testing.assert_array_equal(voxels, volume.image)
    np.testing.assert_array_equal(reference, volume.reference)
    np.testing.assert_array_equal(prediction, volume.prediction)
    assert data["spacing"] == list(SPACING)
    assert data["bounds"] == [-20.0, 380.0]
    assert volume.reference[tuple(data["start"])]
    assert volume_figures([make_volume()]) == fragment
    assert volume_figures([]) == ""


def test_the_largest_volume_of_pure_noise_fits_its_budget_and_keeps_its_outlines():
    volume = make_volume(LARGEST, noise=256)
    fragment = volume_figures([volume])
    assert len(fragment.encode()) < MAX_BYTES
    _, voxels, (reference, prediction) = unpack(fragment)
    np.testing.assert_array_equal(reference, volume.reference)
    np.testing.assert_array_equal(prediction, volume.prediction)
    lost = volume.image.astype(int) - voxels
    assert 0 < lost.max() < 16
    assert lost.min() == 0


@pytest.mark.parametrize(
    ("plane", "size", "place", "letters"),
    [
        # Columns and rows; middle of the lesion, mm from the page's left and top in the slices' own box; left, right,
        # top and bottom of the page.
        ("axial", (80, 70), (60, 15), "RLAP"),
        ("coronal", (80, 80), (60, 80 - 64), "RLSI"),
        ("sagittal", (70, 80), (15, 80 - 64), "APSI"),
    ],
)
def test_without_a_script_each_plane_shows_the_lesion_where_it_lies(plane, size, place, letters):
    fragment = volume_figures([make_volume()])
    part = fragment[fragment.index(f'data-plane="{plane}"') :]
    box = {
        name: float(value)
        for name, value in re.findall(r'(x|y|width|height)="([\d.]+)"', re.search("<image[^>]*>", part)[0])
    }
    assert (box["width"], box["height"]) == size
    assert (box["x"] + size[0] / 2, box["y"] + size[1] / 2) == (45, 45)  # in the middle of 90 mm
    data = re.search(r'href="data:image/png;base64,([^"]+)"', part).group(1)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L")) > 200
    rows, columns = (np.mean(where) + 0.5 for where in np.nonzero(pixels))
    scale = (size[0] / pixels.shape[1], size[1] / pixels.shape[0])
    assert (columns * scale[0], rows * scale[1]) == pytest.approx(place)
    outline = re.search(r'class="reference" d="([^"]*)"', part).group(1)
    runs = re.findall(r"M([\d.]+) ([\d.]+)([hv])([\d.]+)", outline)
    assert len(runs) == 4
    across = [float(x) + float(run) / 2 for x, _, letter, run in runs if letter == "h"]
    along = [float(y) + float(run) / 2 for _, y, letter, run in runs if letter == "v"]
    assert across == pytest.approx([box["x"] + place[0]] * 2)
    assert along == pytest.approx([box["y"] + place[1]] * 2)
    found = re.findall(r'<text class="letter" x="([\d.]+)" y="([\d.]+)">(\w)', part)[:4]
    assert "".join(letter for *_, letter in found) == letters
    left, right, top, bottom = ((float(x), float(y)) for x, y, _ in found)
    assert left[0] < top[0] < right[0]
    assert top[1] < left[1] < bottom[1]
    assert 'width="20"' in part


def test_outlines_of_the_stills_have_the_length_of_the_voxels_free_edges():
    volume = make_volume()
    ragged = np.random.default_rng(3).random(volume.image.shape) < 0.5
    fragment = volume_figures([Volume("best", "c", volume.image, ragged, ragged, SPACING, (0.0, 1.0))])
    z = json.loads(attribute(fragment, "data-volume"))["start"][0]
    padded = np.pad(ragged[z], 1).astype(int)
    expected = np.abs(np.diff(padded, axis=0)).sum() * 2.0 + np.abs(np.diff(padded, axis=1)).sum() * 1.0
    runs = re.findall(r"[hv]([\d.]+)", re.search(r'class="prediction" d="([^"]*)"', fragment).group(1))
    assert sum(map(float, runs)) == pytest.approx(expected)


def test_names_are_escaped_and_nothing_needs_more_than_the_policy_allows():
    fragment = volume_figures([make_volume(label='a"<b>', case="</script><i>")])
    assert "<b>" not in fragment
    assert "<i>" not in fragment
    assert not re.search(r'\son\w+="|\sstyle="|<script|https?:', fragment)
    script = viewer_script()
    assert not re.search(r"</script|<!--|https?:|eval\(|Function\(|innerHTML|cssText|fetch\(", script)
    assert len(script.splitlines()) <= 200
    assert script.__html__() == script
    assert not re.search(r"@import|url\(|</style", source("volume_viewer.css"))
