"""Each reason why a case is left out, in plain words, with what to do about it."""

from __future__ import annotations

_AGAIN = "Export the whole exam again."
REASONS: dict[str, tuple[str, str]] = {
    "no_images": ("Nothing readable lies at the row's path.", "Mend 'path', or add the images."),
    "unreadable_file": (
        "A file is truncated, empty, no DICOM or too large.",
        "Export it again; an exam may take 2 GB of memory.",
    ),
    "no_pixel_spacing": (
        "The spacing is missing, zero or impossible, and millimetres are never guessed.",
        "Write the true PixelSpacing (NIfTI: the affine) into the files.",
    ),
    "mixed_geometry": ("Phases or slices differ in shape, spacing or direction.", _AGAIN),
    "missing_slices": ("There is a gap between slices.", _AGAIN),
    "duplicate_slices": (
        "Two different images lie at one place of one phase.",
        "Leave the true one there, or export the exam again.",
    ),
    "unequal_scale": (
        "The phases' values have unlike scales, so that they cannot be compared.",
        "Export all phases again, with private tags.",
    ),
    "unclear_phases": (
        "Tags or pixels do not tell which images are one phase, or their order.",
        "Export one kind of images, with all tags.",
    ),
    "missing_phase": (
        "The phases do not show the breast before contrast and two to four minutes after it.",
        "Add the missing series; look at which series were seen and at their times.",
    ),
    "several_studies": (
        "Files of more than one exam lie at the path.",
        "Split the folder, or name one exam in 'exam'.",
    ),
    "several_patients": ("Files of more than one patient lie at the path.", "Split the folder by patient."),
    "laterality_conflict": ("Images and table name different breasts.", "Mend 'side', or the images' laterality."),
    "no_mask": ("The row names no outline, or its file is absent.", "Add the mask, or mend 'mask'."),
    "unreadable_mask": (
        "The mask cannot be read as DICOM SEG, NIfTI or NRRD, or it does not say what is meant.",
        "Save it again as whole numbers; of several labels name one as path#number.",
    ),
    "mask_mismatch": (
        "The mask does not lie on the voxels of the images.",
        "Draw or export it on the very images of the row.",
    ),
    "empty_mask": ("The mask marks nothing.", "Correct the mask, or take it out of the row."),
    "no_laterality": (
        "No tag of the mammogram names its breast, or tags contradict each other.",
        "Write ImageLaterality L or R into the file.",
    ),
    "no_view": (
        "No tag of the mammogram names its view, or tags contradict each other.",
        "Write ViewPosition CC or MLO into the file.",
    ),
    "other_view": ("The mammogram is neither CC nor MLO.", "Add the plain views."),
    "magnified_view": ("The mammogram shows a magnified part.", "Add the plain views."),
    "spot_view": ("The mammogram shows a part under spot compression.", "Add the plain views."),
    "implant_displaced": ("The implant was pushed back.", "Add the plain views."),
    "tomosynthesis": ("Slices and projections of tomosynthesis are not read.", "Add the 2D views."),
    "contrast_view": ("Subtractions and high-energy images are not read.", "Add the low-energy view."),
    "blank_image": ("The image is black, or of one grey.", "Fetch it again."),
    "unclear_background": (
        "No air is seen, so nobody can tell whether the image is inverted.",
        "Give the whole image, not a part.",
    ),
    "no_breast_found": (
        "The lesion is not in the breast of 'side', or no breast was found.",
        "Look at the picture: mend 'side'; if it is right, please report the case.",
    ),
    "too_few_changed": (
        "Too few patients came or went since the last question.",
        "Nothing: the case waits, see docs/policy.md.",
    ),
    "preprocessing_failed": (
        "Something unforeseen failed.",
        "Please report the sentence below it: it names the place in the code.",
    ),
}


def explanation(reason: str) -> str:
    """What a reason means."""
    return REASONS.get(reason, (reason.replace("_", " "), ""))[0]


def remedy(reason: str) -> str:
    """What to do about it."""
    return REASONS.get(reason, ("", "See docs/data-manager.md."))[1]
