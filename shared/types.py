"""The nouns every room shares, with their axis order and units.

Axis order is `(channel, z, y, x)`, orientation LPS (x grows to the patient's left, y to posterior, z to superior),
spacing is `(z, y, x)` in mm, time is seconds after contrast injection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

Side = Literal["left", "right"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
STRUCTURES = ("breast", "fibroglandular")
"""Tissues that are outlined, in the order of their channels."""

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Grid:
    """Where a volume's voxels lie in the patient.

    Attributes
    ----------
    shape
        Voxels along `(z, y, x)`.
    spacing
        Distance between voxel centres along `(z, y, x)`, mm.
    origin
        Centre of voxel `[0, 0, 0]` in LPS, `(x, y, z)`, mm: the order DICOM and SimpleITK use for points.
    direction
        Row-major 3x3; its columns are the unit vectors in LPS of the x, y and z index axes (SimpleITK's convention).
        The door reorients every volume so that this is the identity, up to the obliquity of the acquisition.

    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = IDENTITY

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel, millilitres."""
        return float(np.prod(self.spacing)) / 1000.0

    def same_space(self, other: Grid, tolerance_mm: float = 0.05) -> bool:
        """Say whether two grids have the same voxels: shape, and each corner within `tolerance_mm`."""
        return self.shape == other.shape and bool(
            np.all(np.abs(self.corners() - other.corners()) <= tolerance_mm),
        )

    def corners(self) -> npt.NDArray[np.float64]:
        """Centres of the eight corner voxels in LPS, `(8, 3)` as `(x, y, z)`, mm."""
        index = np.array(
            [[x, y, z] for z in (0, self.shape[0] - 1) for y in (0, self.shape[1] - 1) for x in (0, self.shape[2] - 1)]
        )
        steps = index * np.array(self.spacing[::-1])
        points: npt.NDArray[np.float64] = steps @ np.array(self.direction).reshape(3, 3).T + np.array(self.origin)
        return points
