"""Headers of single files: what is read of them, in which unit, and what never is."""

import pydicom
import pytest

from shared.dicom.header import TAGS, parse_header
from shared.errors import StudyError


@pytest.fixture
def first(exam, tmp_path):
    """Path of the first slice of an exam."""
    return exam.write(tmp_path) / "0"


def change(path, **tags):
    ds = pydicom.dcmread(path)
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    ds.save_as(path)
    return parse_header(path)


def test_tags_are_read_in_their_units(first):
    header = change(
        first,
        TriggerTime=75_000.0,
        TemporalResolution=90_000.0,
        AcquisitionDuration=71.5,
        Manufacturer="SIEMENS Healthineers",
        ContrastBolusAgent="Gadolinium",
    )
    assert (header.trigger_s, header.temporal_resolution_s, header.duration_s) == (75.0, 90.0, 71.5)
    assert (header.repetition_ms, header.echo_ms, header.flip_deg, header.field_strength_t) == (4.2, 1.6, 10.0, 1.5)
    assert header.manufacturer == "SIEMENS"
    assert header.has_contrast
    assert not header.diffusion
    assert header.image_type == ("ORIGINAL", "PRIMARY", "M", "ND")
    assert header.pixel_spacing == (1.5, 1.25)


def test_an_absent_or_unreadable_tag_is_none_or_empty(first):
    ds = pydicom.dcmread(first)
    del ds.EchoTime, ds.AccessionNumber
    ds.ImagePositionPatient = [1.0, 2.0]
    ds.save_as(first)
    header = parse_header(first)
    assert (header.echo_ms, header.accession, header.position) == (None, "", None)


def test_identifiers_stay_out_of_repr_and_names_are_not_even_parsed(first):
    text = repr(parse_header(first))
    for secret in ("PATIENT-1", "DOE", "1.2.3.1", "ACC1", str(first.parent)):
        assert secret not in text
    assert not {"PatientName", "PatientBirthDate", "SeriesDescription", "StudyDescription"} & TAGS.keys()


def test_a_header_cut_off_before_the_pixels_is_refused(first):
    data = first.read_bytes()
    first.write_bytes(data[: len(data) // 3])
    with pytest.raises(StudyError) as caught:
        parse_header(first)
    assert caught.value.reason == "unreadable_file"


def test_an_image_without_rows_is_refused(first):
    with pytest.raises(StudyError, match="cut off before the pixels"):
        change(first, Rows=0)


def test_a_dicomdir_is_no_image(first):
    ds = pydicom.dcmread(first)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.1.3.10"
    ds.save_as(first)
    assert parse_header(first) is None


@pytest.mark.parametrize("charset", ["ISO_IR 100", "ISO_IR 192", "", "LATIN1"])
def test_a_patients_id_in_latin_1_is_read_whatever_the_file_says_of_it(first, charset):
    data = first.read_bytes()
    assert data.count(b"PATIENT-1 ") == 1
    first.write_bytes(data.replace(b"PATIENT-1 ", "MÜ-0815-99".encode("latin-1")))
    ds = pydicom.dcmread(first)
    ds.SpecificCharacterSet = charset
    ds.save_as(first)
    assert parse_header(first).patient_id == "MÜ-0815-99"
