"""A small site folder as a hospital would lay it out."""

import copy
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.images import to_image

KEY = "00112233445566778899aabbccddeeff"


class SiteWriter:
    """Writes `site.toml`, `cases.csv` and exams below `path`."""

    def __init__(self, path, exam):
        self.path, self.exam = Path(path), exam
        self.path.mkdir(parents=True, exist_ok=True)
        self.settings(f'[site]\nname = "north"\npseudonym_key = "{KEY}"\n')

    def settings(self, text):
        (self.path / "site.toml").write_text(text, encoding="utf-8")

    def table(self, *lines, encoding="utf-8"):
        (self.path / "cases.csv").write_bytes("\n".join([*lines, ""]).encode(encoding))
        return self.path

    def patient(self, patient_id, number, folder):
        """An exam of a patient below `folder`; returns the writer, whose volume is the patient's own."""
        exam = copy.deepcopy(self.exam)
        exam.patient_id, exam.exam = patient_id, str(number)
        exam.volume = np.roll(exam.volume, number, axis=-1)
        exam.write(self.path / folder)
        return exam

    def mask(self, name):
        mask = np.zeros(self.exam.volume.shape[1:], bool)
        mask[2:4, 4:8, 3:6] = True
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(to_image(mask, self.exam.grid), str(path))
        return mask


@pytest.fixture
def site(tmp_path, exam):
    """An empty site folder to be written."""
    return SiteWriter(tmp_path / "site", exam)
