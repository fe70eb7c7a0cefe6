"""Enhanced MR objects of the slices of a classic exam, as Siemens and Philips write them (PS3.3 A.36.2)."""

import copy

import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

ENHANCED = "1.2.840.10008.5.1.4.1.1.4.1"
SCALE_OWNER, FRAME_OWNER = "Philips MR Imaging DD 001", "Philips MR Imaging DD 005"
_OF_A_FRAME = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "AcquisitionTime"),
    *("ContentTime", "TriggerTime", "TemporalPositionIdentifier", "TemporalResolution", "AcquisitionNumber"),
    *("ContrastBolusAgent", "ContrastBolusStartTime", "RepetitionTime", "EchoTime", "FlipAngle", "ScanningSequence"),
    *("SequenceVariant", "RescaleSlope", "RescaleIntercept", "AcquisitionDuration"),
)


def item(**tags):
    ds = Dataset()
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    return ds


def macro(group, name, **tags):
    setattr(group, name, Sequence([item(**tags)]))


def enhanced(slices, phases, *, number=1, style="siemens", scales=None):
    """One object of classic slices; `phases` gives the phase of each, from 0.

    `scales` are `(RescaleSlope, ScaleSlope)` of each frame, as Philips writes them.
    """
    first = slices[0]
    ds = copy.deepcopy(first)
    for keyword in _OF_A_FRAME:
        if keyword in ds:
            delattr(ds, keyword)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ENHANCED
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.50.{number}"
    ds.InstanceNumber, ds.SeriesNumber = number, 3
    ds.SeriesInstanceUID = "1.2.3.51"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "DYNAMIC", "NONE"]
    ds.EchoPulseSequence, ds.EchoPlanarPulseSequence, ds.SpectrallySelectedSuppression = "GRADIENT", "NO", "FAT"
    ds.ContentDate, ds.ContentTime = ds.StudyDate, "235959"  # when the object was made
    ds.AcquisitionDateTime = f"{ds.StudyDate}{first.AcquisitionTime}"
    ds.AcquisitionDuration = 999.0
    bolus = [it.ContrastBolusStartTime for it in slices if "ContrastBolusStartTime" in it]
    if bolus:
        profile = item(ContrastBolusStartTime=bolus[0])
        ds.ContrastBolusAgentSequence = [item(CodeValue="X", ContrastAdministrationProfileSequence=[profile])]
    shared = Dataset()
    macro(shared, "PixelMeasuresSequence", PixelSpacing=first.PixelSpacing, SliceThickness=9.0)
    macro(shared, "PlaneOrientationSequence", ImageOrientationPatient=first.ImageOrientationPatient)
    macro(
        shared, "MRTimingAndRelatedParametersSequence", RepetitionTime=first.RepetitionTime, FlipAngle=first.FlipAngle
    )
    macro(shared, "MREchoSequence", EffectiveEchoTime=float(first.EchoTime))
    macro(shared, "MRModifierSequence", InversionRecovery="NO", Spoiling="RF")
    frame_type = {"FrameType": ds.ImageType, "ComplexImageComponent": "MAGNITUDE", "AcquisitionContrast": "T1"}
    macro(shared, "MRImageFrameTypeSequence", **frame_type)
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.NumberOfFrames = len(slices)
    ds.PerFrameFunctionalGroupsSequence = [
        _group(piece, phase, style, scales[place] if scales else None)
        for place, (piece, phase) in enumerate(zip(slices, phases, strict=True))
    ]
    ds.PixelData = b"".join(piece.PixelData for piece in slices)
    ds["PixelData"].VR = "OW"
    return ds


def _group(piece, phase, style, scale):
    group = Dataset()
    macro(group, "PlanePositionSequence", ImagePositionPatient=piece.ImagePositionPatient)
    content = item(FrameAcquisitionDuration=0.0)
    if style == "siemens":
        content.FrameAcquisitionDateTime = f"{piece.StudyDate}{piece.AcquisitionTime}"
    if style == "philips":
        content.TemporalPositionIndex = phase + 1
        delay = float(piece.get("TriggerTime", 0.0))
        macro(group, "CardiacSynchronizationSequence", NominalCardiacTriggerDelayTime=delay)
    group.FrameContentSequence = [content]
    if "ContrastBolusAgent" in piece or style == "siemens":
        given = "YES" if "ContrastBolusAgent" in piece else "NO"
        macro(group, "ContrastBolusUsageSequence", ContrastBolusAgentAdministered=given)
    if "RescaleSlope" in piece or scale:
        slope = scale[0] if scale else piece.RescaleSlope
        macro(
            group,
            "PixelValueTransformationSequence",
            RescaleIntercept=piece.get("RescaleIntercept", 0),
            RescaleSlope=slope,
        )
    if scale:
        own = Dataset()
        own.private_block(0x2005, "ANOTHER BLOCK BEFORE", create=True)
        own.private_block(0x2005, SCALE_OWNER, create=True).add_new(0x0E, "FL", scale[1])
        own.RescaleSlope, own.AcquisitionTime = 77.0, "000000"
        group.private_block(0x2005, "YET ANOTHER", create=True)
        group.private_block(0x2005, FRAME_OWNER, create=True).add_new(0x0F, "SQ", [own])
    return group


def of_phases(slices, count, *, apart=False, **options):
    """An exam's slices, phase after phase, as one object, or as one for each phase."""
    size = len(slices) // count
    numbers = [place // size for place in range(len(slices))]
    if not apart:
        return [enhanced(slices, numbers, **options)]
    return [enhanced(slices[at * size : (at + 1) * size], [0] * size, number=at + 1, **options) for at in range(count)]


def undefined_lengths(ds):
    """All sequences and items with delimiters instead of lengths."""
    for element in ds:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for inner in element.value:
                inner.is_undefined_length_sequence_item = True
                undefined_lengths(inner)
    return ds


def compressed(ds, syntax, streams, *, table=True):
    """The object with these compressed frames, each a stream or a list of its fragments."""
    ds.file_meta.TransferSyntaxUID = syntax
    if all(isinstance(stream, bytes) for stream in streams):
        ds.PixelData = encapsulate(streams, has_bot=table)
    else:
        pieces = [[stream] if isinstance(stream, bytes) else stream for stream in streams]
        ds.PixelData = _in_pieces(pieces)
    ds["PixelData"].VR = "OB"
    return ds


def _in_pieces(frames):
    offsets, body = [], b""
    for fragments in frames:
        offsets.append(len(body))
        for piece in fragments:
            padded = piece + b"\0" * (len(piece) % 2)
            body += b"\xfe\xff\x00\xe0" + len(padded).to_bytes(4, "little") + padded
    table = b"".join(offset.to_bytes(4, "little") for offset in offsets)
    return b"\xfe\xff\x00\xe0" + len(table).to_bytes(4, "little") + table + body + b"\xfe\xff\xdd\xe0" + bytes(4)


def save(folder, datasets, *, implicit=False):
    folder.mkdir(parents=True, exist_ok=True)
    for place, ds in enumerate(datasets):
        if implicit:
            ds.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
        pydicom.dcmwrite(folder / f"E{place}", ds, enforce_file_format=True)
    return folder
