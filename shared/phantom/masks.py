"""Ground truth of an exam on disk: the lesion as a binary DICOM SEG, breast and fibroglandular tissue as NIfTI.

The same exam gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.sr.codedict import codes

from shared.phantom.centres import CENTRES
from shared.phantom.dicom_writer import INJECTION_S, PLANES, clock, make_uid, study_date
from shared.phantom.exam import PhantomExam
from shared.types import BoolArray, Grid


def write_mask(path: Path, mask: BoolArray, grid: Grid) -> None:
    """Write a mask `(z, y, x)` on its LPS grid as NIfTI; SimpleITK converts to NIfTI's RAS convention."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing([float(step) for step in grid.spacing[::-1]])
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True)


def write_lesion(path: Path, exam: PhantomExam, sources: list[pydicom.Dataset], identity: str) -> None:
    """Write the lesion as a binary DICOM SEG (PS3.3 A.51) that refers to the first post-contrast phase."""
    plane = PLANES[CENTRES[exam.centre].orientation]
    mask = plane.slices_of(exam.lesion)[:: -1 if plane.descending else 1]
    description = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="PHANTOM lesion",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        tracking_uid=make_uid("lesion", identity),
        tracking_id="lesion 1",
    )
    seg: Any = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=np.ascontiguousarray(mask).astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[description],
        series_instance_uid=make_uid("segmentation series", identity),
        series_number=100,
        sop_instance_uid=make_uid("segmentation", identity),
        instance_number=1,
        manufacturer="FedBreast phantom",
        manufacturer_model_name="PHANTOM",
        software_versions="1",
        device_serial_number="0",
        content_label="LESION",
        content_description="PHANTOM lesion",
        series_description="PHANTOM lesion segmentation",
        omit_empty_frames=True,
    )
    # highdicom writes the time of day and random UIDs: both are replaced, so that the same seed gives the same bytes.
    seg.InstanceCreationDate = seg.ContentDate = study_date(exam)
    seg.InstanceCreationTime = seg.ContentTime = clock(INJECTION_S + 3600.0)
    for item in seg.ContributingEquipmentSequence:
        item.ContributionDateTime = f"{study_date(exam)}{clock(INJECTION_S + 3600.0)}"
    dimension = make_uid("dimensions", identity)
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimension
    path.parent.mkdir(parents=True, exist_ok=True)
    seg.save_as(path)
