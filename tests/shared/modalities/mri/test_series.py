"""One series into volumes: which tag explains that its positions repeat."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from shared.dicom.header import FileHeader
from shared.modalities.mri.series import could_be_phases, split_series

EMPTY = {"str": "", "int": 1, "bool": False, "tuple[str, ...]": ("ORIGINAL", "PRIMARY")}
BLANK = FileHeader(
    **{item.name: EMPTY.get(item.type) for item in fields(FileHeader) if item.name != "path"}, path=Path()
)


def image(phase, place, **tags):
    """A slice at height `place`; of its tags only those given are set."""
    header = replace(BLANK, position=(0.0, 0.0, float(place)), orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    return replace(header, instance_number=10 * phase + place, **tags)


def stacks(tag, values, places=range(4)):
    return [image(phase, place, **{tag: value}) for phase, value in enumerate(values) for place in places]


def numbers(volume):
    return sorted(item.instance_number for item in volume.slices)


def test_a_series_whose_positions_do_not_repeat_is_one_volume():
    (volume,) = split_series(stacks("trigger_s", [None]))
    assert (volume.index, volume.siblings, volume.fault) == (0, 1, None)
    assert len(volume.slices) == 4


@pytest.mark.parametrize(
    ("tag", "values"),
    [
        ("temporal_position", [3, 1, 2]),
        ("trigger_s", [140.0, 0.0, 70.0]),
        ("acquisition_number", [3, 1, 2]),
        ("acquired_s", [50.0, 10.0, 30.0]),
        ("content_s", [50.0, 10.0, 30.0]),
    ],
)
def test_each_tag_splits_a_series_in_its_own_order(tag, values):
    volumes = split_series(stacks(tag, values))
    assert [volume.index for volume in volumes] == [0, 1, 2]
    assert [volume.siblings for volume in volumes] == [3, 3, 3]
    assert [numbers(volume) for volume in volumes] == [[10, 11, 12, 13], [20, 21, 22, 23], [0, 1, 2, 3]]


def test_the_first_tag_that_explains_the_repetition_is_taken():
    # Every slice has a time of its own, which explains nothing; the acquisition number does.
    slices = [
        image(phase, place, acquisition_number=phase, acquired_s=100.0 * place + phase)
        for phase in range(2)
        for place in range(3)
    ]
    assert [numbers(volume) for volume in split_series(slices)] == [[0, 1, 2], [10, 11, 12]]


def test_without_any_tag_the_instance_numbers_order_the_images_at_a_position():
    slices = [image(phase, place) for place in range(3) for phase in (1, 0)]
    assert [numbers(volume) for volume in split_series(slices)] == [[0, 1, 2], [10, 11, 12]]


def test_two_images_at_one_position_of_one_time_are_a_fault():
    slices = [*stacks("temporal_position", [1, 2]), image(5, 2, temporal_position=2)]
    (volume,) = split_series(slices)
    assert volume.fault.reason == "duplicate_slices"
    assert volume.siblings == 2


def test_a_phase_with_a_slice_too_few_is_a_fault():
    (volume,) = split_series(stacks("temporal_position", [None, None])[:-1])
    assert volume.fault.reason == "missing_slices"


def test_images_that_are_no_phase_are_left_out():
    keep = image(0, 0)
    others = [
        replace(keep, image_type=("DERIVED", "SECONDARY", "MIP")),
        replace(keep, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")),
        replace(keep, image_type=("ORIGINAL", "PRIMARY", "P")),
        replace(keep, diffusion=True),
    ]
    assert could_be_phases([keep, *others]) == [keep]


def test_of_a_dixon_acquisition_only_water_is_kept():
    water, fat, in_phase = (
        replace(image(0, 0), image_type=("DERIVED", "PRIMARY", kind)) for kind in ("WATER", "FAT", "IN_PHASE")
    )
    assert could_be_phases([fat, water, in_phase]) == [water]
    # Without water nothing says that it is a Dixon acquisition.
    assert could_be_phases([fat, in_phase]) == [fat, in_phase]


def test_a_derived_volume_is_not_original():
    (volume,) = split_series([replace(image(0, 0), image_type=("DERIVED", "PRIMARY"))])
    assert not volume.original
    assert split_series([image(0, 0)])[0].original
