"""Breast, view and kind of a mammogram by its tags; what is no plain view has its own name."""

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping
from pydicom.uid import (
    BreastProjectionXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForProcessing,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

from shared.dicom.index import read_header
from shared.errors import EXCLUSION_REASONS, StudyError
from shared.modalities.mammography.tags import is_mammogram
from tests.shared.modalities.mammography.conftest import CODES, Mammogram, code, drawing, film, tags_of

# Devices write what pydicom warns of when a test does.
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:The value length")
ALL = ("ImageLaterality", "ViewPosition", "ViewCodeSequence")


def group(side):
    shared, anatomy = Dataset(), Dataset()
    anatomy.FrameLaterality = side
    shared.FrameAnatomySequence = [anatomy]
    return [shared]


def reason(tags):
    return None if tags.fault is None else tags.fault.reason


def table(cid):
    """Codes of a context group by SNOMED CT and by SNOMED-RT, with their meanings."""
    for name in cid_concepts[cid]["SCT"]:
        for value, (meaning, _) in concepts["SCT"][name].items():
            yield value, meaning
            yield mapping["SCT"][value], meaning


@pytest.mark.parametrize("letter", ["L", "R", "left", "RIGHT "])
@pytest.mark.parametrize("tag", ["ImageLaterality", "Laterality", "SharedFunctionalGroupsSequence"])
def test_any_of_three_tags_names_the_breast(simple, tag, letter):
    value = group(letter) if tag.startswith("Shared") else letter
    tags = tags_of(simple(without=("ImageLaterality",), **{tag: value}))
    assert (tags.side, tags.view, tags.fault) == ("left" if letter[0].upper() == "L" else "right", "CC", None)


@pytest.mark.parametrize(
    "tags",
    [{}, {"Laterality": ""}, {"Laterality": "B"}, {"Laterality": "U"}, {"ImageLaterality": "R", "Laterality": "L"}],
)
def test_without_one_breast_named_it_has_no_laterality(simple, tags):
    read = tags_of(simple(without=("ImageLaterality",), **tags))
    assert (read.side, reason(read)) == (None, "no_laterality")
    assert "write" in read.fault.detail


@pytest.mark.parametrize(("value", "meaning"), [*table(4014), ("made-up", "of a vendor"), ("R-10242", "in Latin")])
def test_of_all_views_of_the_standard_two_are_read(simple, value, meaning):
    wanted = {"399162004": "CC", "R-10242": "CC", "399368009": "MLO", "R-10226": "MLO"}.get(value)
    tags = tags_of(simple(without=("ViewPosition",), ViewCodeSequence=[code(value, meaning)]))
    assert (tags.view, reason(tags)) == (wanted, None if wanted else "other_view")


@pytest.mark.parametrize(("value", "meaning"), [*table(4015), ("made-up", "of a vendor")])
def test_of_all_modifiers_of_the_standard_three_leave_a_plain_view(simple, value, meaning):
    named = {
        "Magnification": "magnified_view",
        "Spot Compression": "spot_view",
        "Implant Displaced": "implant_displaced",
    }
    plain = {"Nipple in profile", "Anterior compression", "Infra-mammary fold"}
    tags = tags_of(simple(view="MLO", ViewCodeSequence=[code(*CODES["MLO"], modifiers=[(value, meaning)])]))
    assert reason(tags) == (None if meaning in plain else named.get(meaning, "other_view"))
    assert tags.view == ("MLO" if meaning in plain else None)


@pytest.mark.parametrize(
    ("position", "view", "fault"),
    [
        *((text, "CC", None) for text in ("CC", "cc", "LCC", "R CC", "L-CC")),
        *((text, "MLO", None) for text in ("MLO", "RMLO", "L MLO")),
        *((text, None, "other_view") for text in ("ML", "LM", "LMO", "XCCL", "FB", "AT", "CCRL", "SPECIMEN", "LLMO")),
        *((text, None, "implant_displaced") for text in ("CCID", "LMLOID", "MLO-ID", "ID CC")),
        *((text, None, "magnified_view") for text in ("MCC", "LMMLO", "MSCC")),
        *((text, None, "spot_view") for text in ("SCC", "R SMLO")),
        (None, None, "no_view"),
        ("", None, "no_view"),
    ],
)
def test_view_position_as_devices_write_it(simple, position, view, fault):
    tags = tags_of(simple(without=ALL[1:], **({} if position is None else {"ViewPosition": position})))
    assert (tags.side, tags.view, reason(tags)) == ("left", view, fault)


def test_a_view_is_known_by_its_meaning_where_the_code_is_missing(simple):
    item = code("", "Medio-Lateral Oblique")
    assert tags_of(simple(without=("ViewPosition",), ViewCodeSequence=[item])).view == "MLO"


def test_code_and_position_that_contradict_each_other_name_no_view(simple):
    assert reason(tags_of(simple(ViewPosition="MLO", ViewCodeSequence=[code(*CODES["CC"])]))) == "no_view"


@pytest.mark.parametrize(
    ("tags", "fault"),
    [
        ({"EstimatedRadiographicMagnificationFactor": "1.8"}, "magnified_view"),
        ({"EstimatedRadiographicMagnificationFactor": "1.07"}, None),
        ({"PaddleDescription": "10CM MAG"}, "magnified_view"),
        ({"PaddleDescription": "SMALL SPOT"}, "spot_view"),
        ({"PaddleDescription": "24x29cm"}, None),
        ({"NumberOfFrames": 3}, "tomosynthesis"),
        ({"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS"]}, "tomosynthesis"),
        ({"ImageType": ["DERIVED", "PRIMARY", "VOLUME", "SLAB"]}, "tomosynthesis"),
        ({"ImageType": ["DERIVED", "PRIMARY", "TOMO", "GENERATED_2D"]}, None),
        ({"ImageType": ["DERIVED", "PRIMARY", "SUBTRACTION"]}, "contrast_view"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "", "LOW_ENERGY"]}, None),
        ({"SOPClassUID": BreastTomosynthesisImageStorage}, "tomosynthesis"),
        ({"SOPClassUID": BreastProjectionXRayImageStorageForProcessing}, "tomosynthesis"),
        ({"SOPClassUID": CTImageStorage}, "tomosynthesis"),
    ],
)
def test_views_that_are_not_plain_are_told_apart(simple, tags, fault):
    read = tags_of(simple(**tags))
    assert reason(read) == fault
    assert read.synthetic == ("GENERATED_2D" in tags.get("ImageType", ()))


def test_other_objects_beside_mammograms_are_none(simple):
    for sop_class, modality, is_one in (
        (MRImageStorage, "MR", False),
        (CTImageStorage, "CT", False),
        (SecondaryCaptureImageStorage, "OT", False),
        (SecondaryCaptureImageStorage, "MG", True),
        ("1.2.840.10008.5.1.4.1.1.88.67", "SR", False),
    ):
        assert is_mammogram(read_header(simple(SOPClassUID=sop_class, Modality=modality))) == is_one


@pytest.mark.parametrize(("side", "view"), [("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO")])
def test_a_film_of_cbis_ddsm(tmp_path, side, view):
    tags = tags_of(film(drawing()[0], side, view).write(tmp_path / "a"))
    assert (tags.side[0].upper(), tags.view, tags.intent, tags.spacing_mm) == (side, view, "film", None)


def test_masks_and_cut_outs_of_cbis_ddsm_are_no_mammograms(tmp_path):
    for title in ("ROI mask images", "cropped images"):
        assert tags_of(film(drawing()[0], SeriesDescription=title).write(tmp_path / "a")) is None
    mask = Mammogram((drawing()[1] * 255).astype(np.uint8), sop_class=SecondaryCaptureImageStorage, bits=8)
    assert tags_of(mask.write(tmp_path / "a")) is None


def test_intent_and_spacing(simple):
    assert tags_of(simple()).intent == "presentation"
    assert tags_of(simple()).spacing_mm == (0.07, 0.07)
    assert tags_of(simple(PixelSpacing=[0.065, 0.065])).spacing_mm == (0.065, 0.065)
    assert tags_of(simple(PresentationIntentType="FOR PROCESSING")).intent == "processing"
    raw = DigitalMammographyXRayImageStorageForProcessing
    assert tags_of(simple(SOPClassUID=raw, without=("PresentationIntentType",))).intent == "processing"


def test_a_damaged_header_is_unreadable_and_its_text_is_not_told(simple):
    path = simple()
    path.write_bytes(path.read_bytes().replace(b"0.07", b"Doe^"))
    with pytest.raises(StudyError, match="header is damaged") as caught:
        tags_of(path)
    assert caught.value.reason == "unreadable_file"
    assert "Doe" not in str(caught.value)


WORDS = st.sampled_from(["", "L", "R", "B", "LEFT", "right", "CC", "MLO", "ML", "RCC", "LMLOID", "SCC", "Doe^Jane"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    image=WORDS,
    series=WORDS,
    frame=WORDS,
    position=WORDS,
    view=st.sampled_from(["", *[value for value, _ in table(4014)]]),
    modifier=st.sampled_from(["", *[value for value, _ in table(4015)]]),
    orientation=WORDS,
    kind=st.lists(WORDS, max_size=4),
    paddle=st.text(max_size=10),
)
def test_a_view_without_fault_is_what_every_tag_says(
    simple, image, series, frame, position, view, modifier, orientation, kind, paddle
):
    path = simple()
    ds = pydicom.dcmread(path)
    ds.ImageLaterality, ds.Laterality, ds.SharedFunctionalGroupsSequence = image, series, group(frame)
    ds.ViewPosition, ds.PatientOrientation, ds.ImageType = position, orientation, kind
    ds.ViewCodeSequence = [code(view, "", [(modifier, "")] if modifier else [])] if view else []
    ds.PaddleDescription = paddle.encode("ascii", "replace").decode().replace("\\", "/")
    ds.save_as(path)
    tags = tags_of(path)
    if tags.fault is not None:
        assert tags.fault.reason in EXCLUSION_REASONS
        assert "Doe" not in str(tags.fault)
        assert tags.view is None
        return
    sides = {word[0].upper() for word in (image, series, frame) if word}
    assert sides == {tags.side[0].upper()}
    named = {{"399162004": "CC", "R-10242": "CC"}.get(view, "MLO")} if view else set()
    named |= {"CC" if position in {"CC", "RCC"} else "MLO"} if position else set()
    assert named == {tags.view}
    assert position in {"", "CC", "RCC", "MLO"}
    assert "SPOT" not in ds.PaddleDescription.upper()
    assert modifier in {"", "442581004", "R-40AB3", "441752004", "P2-00161", "442593008", "R-40ABE"}
