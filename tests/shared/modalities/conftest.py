"""A woman of a few ellipsoids, quick enough for every test: bilateral or unilateral, with one lesion."""

from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK as sitk

from shared.config.run_config import RunConfig, parse_config
from shared.modalities.mri.dce_study import DceStudy
from shared.types import Grid

AIR, FAT, GLAND, CHEST = 2.0, 40.0, 120.0, 80.0
TIMES_S = (-60.0, 90.0, 180.0, 270.0)
LESION_MM = 9.0


def build_study(
    side="left",
    *,
    bilateral=True,
    spacing=(4.0, 3.0, 3.0),
    fat=FAT,
    missing=(),
    offset_mm=0.0,
    lesion_at=(0.0, 20.0, 60.0),
    post_phases=3,
    seed=0,
):
    """Study and lesion mask. The sternum is at `x = offset_mm`, its skin at `y = 0`; breasts hang towards negative y.

    `lesion_at` is `(z, depth in front of the sternum's skin, distance from the midline)`, mm.
    """
    sign = 1.0 if side == "left" else -1.0
    low = -135.0 if bilateral else (0.0 if side == "left" else -135.0)
    high = 135.0 if bilateral else (135.0 if side == "left" else 0.0)
    extents = ((-60.0, 60.0), (-80.0, 60.0), (low + offset_mm, high + offset_mm))
    shape = tuple(round((stop - start) / step) for (start, stop), step in zip(extents, spacing, strict=True))
    origin = tuple(start + 0.5 * step for (start, _), step in zip(extents, spacing, strict=True))
    z, y, x = np.meshgrid(
        *(first + step * np.arange(size) for first, step, size in zip(origin, spacing, shape, strict=True)),
        indexing="ij",
    )
    x = x - offset_mm
    wall = x**2 / 480.0
    pre = np.where(y > wall, fat, AIR)
    gland = np.zeros(shape, bool)
    for name, middle in (("left", 68.0), ("right", -68.0)):
        if name in missing:
            continue
        radius = ((x - middle) / 48.0) ** 2 + ((y - 8.0) / 68.0) ** 2 + (z / 48.0) ** 2
        pre[(radius < 1.0) & (y < wall + 8.0)] = fat
        gland |= (((x - middle) / 28.0) ** 2 + ((y + 20.0) / 30.0) ** 2 + (z / 28.0) ** 2) < 1.0
    gland &= pre > AIR
    pre[gland] = GLAND
    pre[y > wall + 10.0] = CHEST
    lz, depth, lx = lesion_at
    distance = np.sqrt((z - lz) ** 2 + (y + depth) ** 2 + (x - sign * lx) ** 2)
    lesion = distance < LESION_MM
    pre[lesion] = GLAND
    noise = np.random.default_rng(seed)
    uptake = np.where(lesion, 1.5, np.where(gland, 0.2, 0.05)) * pre
    curve = (0.0, 1.0, 0.9, 0.8, 0.75, 0.7)[: 1 + post_phases]
    phases = np.stack([pre + factor * uptake for factor in curve]) + noise.normal(0.0, 1.5, (len(curve), *shape))
    grid = Grid(shape, spacing, origin[::-1])
    times = (-60.0, *(90.0 * (1 + index) for index in range(post_phases)))
    return DceStudy(np.abs(phases).astype(np.float32), times, grid), lesion


@pytest.fixture
def make_study() -> Callable:
    return build_study


@pytest.fixture
def config() -> RunConfig:
    return small_config()


def small_config(**preprocessing) -> RunConfig:
    settings = {"max_voxels": 60000, "n4": False, **preprocessing}
    return parse_config(
        {"name": "test", "data": {"root": "none", "sites": ["centre-a"]}, "preprocessing": settings}, "test"
    )


@pytest.fixture
def make_config() -> Callable:
    return small_config


@pytest.fixture
def make_site(tmp_path) -> Callable:
    """A site folder of NIfTI studies: one patient a pair of side and lesion place, paths as the table says."""

    def make(*patients, name="site-a"):
        site = tmp_path / name
        rows = ["patient_id,side,path,mask,acquisition_times"]
        for number, options in enumerate(patients):
            study, lesion = build_study(seed=number, **options)
            folder = site / f"study{number}"
            folder.mkdir(parents=True)
            for phase, volume in enumerate(study.phases):
                write(folder / f"s_{phase:04d}.nii.gz", volume, study.grid)
            write(folder / "lesion.nii.gz", lesion.astype(np.uint8), study.grid)
            times = " ".join(str(time) for time in study.times_s)
            path, mask = f"study{number}/s", f"study{number}/lesion.nii.gz"
            rows.append(f"P{number},{options.get('side', 'left')},{path},{mask},{times}")
        (site / "cases.csv").write_text("\n".join(rows) + "\n")
        (site / "site.toml").write_text(f'[site]\nname = "{name}"\npseudonym_key = "{"ab" * 32}"\n')
        return site

    return make


def write(path, volume, grid):
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin(grid.origin)
    sitk.WriteImage(image, str(path))
