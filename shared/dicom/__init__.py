"""DICOM reader: arrays `(z, y, x)` in LPS with spacing `(z, y, x)` in mm.

Flow: `index` (headers) -> `phases` (which slices make which phase) -> `geometry` (where they lie) -> `study` (pixels);
`masks` places DICOM SEG, NIfTI and NRRD masks on a study's grid. Every fault of a study is a `StudyError` with a
reason; no message, log line or exception contains the text of a tag or a path.
"""
