"""Scenario 26 at the door: a planted name shows in no message, no log, no warning, no repr, whatever goes wrong."""

import logging
import traceback
import warnings

import numpy as np
import pydicom
import pytest

from shared.dicom.index import index_folder
from shared.dicom.masks import read_mask
from shared.errors import StudyError
from shared.modalities.mri.study import read_study

NAME, ID = "PLANTED^NADIA", "SECRET4711"


@pytest.fixture
def planted(exam, tmp_path):
    """Exam of a planted patient in a folder of her name."""
    exam.patient_id = ID
    exam.tags = dict.fromkeys(("PatientName", "InstitutionName", "SeriesDescription", "PatientComments"), NAME)
    exam.tags |= dict.fromkeys(("StudyDescription", "AccessionNumber", "ImageComments", "ProtocolName"), ID)
    folder = tmp_path / f"{NAME} {ID}"
    exam.write(folder, name="{number}.dcm")
    return folder


def break_pixels(folder):
    data = (folder / "3.dcm").read_bytes()
    (folder / "3.dcm").write_bytes(data[:-50])


def break_header(folder):
    data = (folder / "3.dcm").read_bytes()
    (folder / "3.dcm").write_bytes(data[:600])


def plant_bad_values(folder):
    """Names where numbers, UIDs and codes belong: pydicom warns with the value in the text."""
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for keyword in ("SOPInstanceUID", "StudyInstanceUID", "ImageType", "AcquisitionTime", "InstanceNumber"):
                tag = pydicom.datadict.tag_for_keyword(keyword)
                value = f"{NAME}{path.stem} ".encode()[:26]
                ds[tag] = pydicom.dataelem.RawDataElement(
                    pydicom.tag.Tag(tag), ds[tag].VR, 0, value, 0, is_implicit_VR=False, is_little_endian=True
                )
            ds.save_as(path)


def other_patient(folder):
    ds = pydicom.dcmread(folder / "3.dcm")
    ds.PatientID = f"{ID}-B"
    ds.save_as(folder / "3.dcm")


def no_spacing(folder):
    ds = pydicom.dcmread(folder / "3.dcm")
    del ds.PixelSpacing
    ds.save_as(folder / "3.dcm")


@pytest.mark.parametrize("fault", [break_pixels, break_header, plant_bad_values, other_patient, no_spacing])
def test_scenario_26_no_fault_of_a_study_names_the_patient(planted, caplog, recwarn, capfd, fault):
    fault(planted)
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.raises(StudyError) as caught:
            read_study(planted, side="left")
    _assert_silent(caught.value, caplog, recwarn, capfd)


def test_scenario_26_no_fault_of_a_mask_names_the_patient(planted, exam, caplog, recwarn, capfd):
    caplog.set_level(logging.DEBUG)
    (planted / f"{NAME}.nii.gz").write_bytes(b"junk")
    for path in (planted / "0.dcm", planted / f"{NAME}.nii.gz", planted / "absent.dcm"):
        with pytest.raises(StudyError) as caught:
            read_mask(path, exam.grid)
        _assert_silent(caught.value, caplog, recwarn, capfd)


def test_scenario_26_what_is_read_holds_no_identifier(planted, caplog, recwarn, capfd):
    study = read_study(planted)
    headers = index_folder(planted)
    assert headers[0].patient_id == ID  # known inside, for finding studies
    for text in (repr(headers), repr(study), caplog.text, "".join(capfd.readouterr())):
        assert NAME not in text
        assert ID not in text
    assert np.isfinite(study.phases).all()


def _assert_silent(error, caplog, recwarn, capfd):
    shown = "".join(traceback.format_exception(error))
    heard = caplog.text + "".join(str(item.message) for item in recwarn) + "".join(capfd.readouterr())
    for secret in ("PLANTED", "NADIA", ID):
        assert secret not in str(error)
        assert secret not in shown
        assert secret not in heard
