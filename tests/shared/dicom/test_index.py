"""Scans of folders: what counts as an image, what is ignored, what is a fault."""

import os

import pytest

from shared.dicom.index import index_folder, list_files, read_header, read_headers, scan_folder
from shared.errors import StudyError


@pytest.fixture
def folder(exam, tmp_path):
    return exam.write(tmp_path / "exam", name="deep/{series}/{number}")


def test_every_dicom_file_is_met_in_any_nesting_sorted_by_path(exam, folder):
    headers = index_folder(folder)
    assert len(headers) == exam.volume.shape[0] * exam.volume.shape[1]
    assert [header.path for header in headers] == sorted(header.path for header in headers)


def test_files_that_are_clearly_not_dicom_are_ignored(folder):
    before = len(index_folder(folder))
    (folder / "README.txt").write_text("notes")
    (folder / "empty.txt").touch()
    (folder / ".hidden").touch()
    (folder / "preview.png").write_bytes(b"\x89PNG\r\n")
    assert len(index_folder(folder)) == before
    assert read_headers([folder / "README.txt", folder / "preview.png"]) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.dcm", b"", "empty"),
        ("a.dcm", b"<html>404", "failed download"),
        ("a.DCM", b"x" * 300, "lacks the DICM mark"),
        ("images.zip", b"PK", "archive"),
        ("noname", b"", "empty"),
    ],
)
def test_a_fault_stops_one_study_and_is_listed_for_many(folder, name, content, message):
    count = len(index_folder(folder))
    (folder / name).write_bytes(content)
    with pytest.raises(StudyError, match=message) as caught:
        index_folder(folder)
    assert caught.value.reason == "unreadable_file"
    assert name not in str(caught.value)
    headers, faults = scan_folder(folder)
    assert len(headers) == count
    assert [fault.path.name for fault in faults] == [name]
    assert str(folder) not in repr(faults)


def test_links_inside_are_met_once_and_links_out_are_faults(folder, tmp_path):
    count = len(index_folder(folder))
    (folder / "again").symlink_to(folder / "deep")
    assert len(index_folder(folder)) == count
    (tmp_path / "other").mkdir()
    (folder / "out").symlink_to(tmp_path / "other")
    with pytest.raises(StudyError, match="a link stands in the place"):
        index_folder(folder)
    assert all(path.name not in {"again", "out"} for path in list_files(folder))


def test_a_pipe_among_the_images_is_a_fault_and_nobody_waits_for_it(folder):
    os.mkfifo(folder / "pipe.dcm")
    with pytest.raises(StudyError, match="a pipe or device"):
        index_folder(folder)
    assert all(path.name != "pipe.dcm" for path in list_files(folder))


def test_a_folder_that_does_not_exist_has_no_images(tmp_path):
    with pytest.raises(StudyError, match="no_images"):
        scan_folder(tmp_path / "absent")


def test_one_file_that_is_no_image_has_no_header(tmp_path):
    (tmp_path / "notes").write_text("x")
    assert read_header(tmp_path / "notes") is None
    with pytest.raises(StudyError, match="refused to read"):
        read_header(tmp_path / "absent.dcm")
