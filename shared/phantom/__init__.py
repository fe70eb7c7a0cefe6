"""The embedded default data: a breast phantom with known truth, written as real DICOM."""
