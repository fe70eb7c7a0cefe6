"""The default data: a breast phantom with known ground truth, written as DICOM."""
