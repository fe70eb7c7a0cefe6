"""The DICOM door: one contract, arrays `(z, y, x)` in LPS with spacing `(z, y, x)` in mm.

Flow: `index` (headers) -> `phases` (which slices make which phase) -> `geometry` (where they lie) -> `study` (pixels);
`masks` places DICOM SEG, NIfTI and NRRD masks on a study's grid. Whatever is wrong with a study comes out as one
`StudyError` with a reason; no message, log line or exception holds a tag's text or a path.
"""
