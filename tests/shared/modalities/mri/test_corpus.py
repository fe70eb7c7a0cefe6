"""Malformed files: pydicom's own test corpus and mutations of our slices. Nothing but a StudyError may come out."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_files

from shared.dicom.index import index_folder, read_header, scan_folder
from shared.dicom.masks import read_mask
from shared.dicom.pixels import read_pixels
from shared.errors import StudyError
from shared.modalities.mri.study import read_study


def corpus():
    return sorted(path for path in map(Path, get_testdata_files()) if path.is_file())


def test_every_file_of_the_corpus_gives_a_header_nothing_or_a_reason():
    outcomes = {"header": 0, "nothing": 0, "refused": 0}
    for path in corpus():
        try:
            header = read_header(path)
        except StudyError:
            outcomes["refused"] += 1
        else:
            outcomes["nothing" if header is None else "header"] += 1
    assert len(corpus()) > 150
    assert outcomes["header"] > 80
    assert outcomes["refused"] > 5


def test_every_mr_slice_of_the_corpus_reads_or_gives_a_reason():
    read = refused = 0
    for path in corpus():
        try:
            header = read_header(path)
            if header is None or header.modality != "MR":
                continue
            pixels = read_pixels(header)
        except StudyError:
            refused += 1
        else:
            read += 1
            assert pixels.shape == (header.rows, header.columns)
            assert np.isfinite(pixels).all()
    assert read > 10
    assert refused > 3


def test_a_folder_of_the_whole_corpus_is_no_study(tmp_path):
    for number, path in enumerate(corpus()):
        shutil.copyfile(path, tmp_path / f"{number}-{path.name}")
    with pytest.raises(StudyError):
        read_study(tmp_path)
    headers, faults = scan_folder(tmp_path)
    assert len(headers) > 80
    assert faults


def test_no_file_of_the_corpus_is_taken_for_a_mask(exam):
    for path in corpus():
        with pytest.raises(StudyError) as caught:
            read_mask(path, exam.grid)
        assert caught.value.reason in {"unreadable_mask", "mask_mismatch"}


def test_flipped_bytes_never_raise_anything_else(exam, tmp_path):
    exam.write(tmp_path)
    original = (tmp_path / "5").read_bytes()
    rng = np.random.default_rng(11)
    sound = 0
    for _ in range(60):
        data = bytearray(original)
        for place in rng.integers(132, len(data) - 300, 3):
            data[place] = rng.integers(0, 256)
        (tmp_path / "5").write_bytes(data)
        try:
            sound += read_study(tmp_path).phases.shape[0]
        except StudyError:
            sound += 0
    (tmp_path / "5").write_bytes(original)
    assert len(index_folder(tmp_path)) == 18
    assert 0 < sound < 180  # some mutations hit what is never read, some do not
