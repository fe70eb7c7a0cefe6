"""The preview of a centre's mammograms."""

from dataclasses import replace

from shared.phantom.mammogram_montage import draw_mammograms
from tests.shared.phantom.conftest import MAMMOGRAMS


def test_same_patient_same_picture_and_another_seed_is_named(taken, tmp_path, monkeypatch):
    body, pictures = taken("D", 0)
    monkeypatch.setattr("shared.phantom.mammogram_montage.make_mammograms", lambda *_: pictures)
    for name in ("first.png", "second.png"):
        draw_mammograms([body], tmp_path / name, MAMMOGRAMS)
    draw_mammograms([body], tmp_path / "other.png", replace(MAMMOGRAMS, seed=5))
    first, second, other = ((tmp_path / name).read_bytes() for name in ("first.png", "second.png", "other.png"))
    assert first == second != other
    monkeypatch.setattr(
        "shared.phantom.mammogram_montage.make_mammograms",
        lambda *_: [replace(picture, grey=picture.grey[::-1]) for picture in pictures],
    )
    draw_mammograms([body], tmp_path / "turned.png", MAMMOGRAMS)
    assert (tmp_path / "turned.png").read_bytes() != first
