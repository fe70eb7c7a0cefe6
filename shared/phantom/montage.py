"""Preview of a centre's exams: one picture on which a radiologist can judge them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

from shared.phantom.benign import BenignLabels
from shared.phantom.exam import PhantomExam

mpl.use("Agg")
import matplotlib.pyplot as plt

_COLUMNS = ("pre", "post 1", "post 1 - pre", "post 3 - post 1", "mask on post 1", "MIP axial", "MIP sagittal")
_INCH_PER_MM = 0.0105


def draw_montage(exams: Sequence[PhantomExam], path: Path, seed: int) -> None:
    """Write a PNG with one row per exam, at the axial slice that holds most of the lesion."""
    z_mm, y_mm, x_mm = (np.array([exam.grid.shape for exam in exams]) * [exam.grid.spacing for exam in exams]).max(
        axis=0
    )
    widths = [x_mm] * (len(_COLUMNS) - 1) + [y_mm]
    left, top = 0.55, 0.55  # inches kept for labels and titles
    high, wide = top + len(exams) * max(y_mm, z_mm) * _INCH_PER_MM, left + sum(widths) * _INCH_PER_MM
    figure, axes = plt.subplots(
        len(exams),
        len(_COLUMNS),
        figsize=(wide, high),
        squeeze=False,
        gridspec_kw={"width_ratios": widths},
        facecolor="black",
    )
    for row, exam in zip(axes, exams, strict=True):
        _draw_row(row, exam)
    for axis, name in zip(axes[0], _COLUMNS, strict=True):
        axis.set_title(name, color="white", fontsize=8, pad=3)
    figure.suptitle(
        f"PHANTOM, not patient data    centre {exams[0].centre}, n = {len(exams)} shown, seed {seed}",
        color="white",
        fontsize=10,
        y=1.0 - 0.08 / high,
        va="top",
    )
    figure.subplots_adjust(left=left / wide, right=0.998, top=1.0 - top / high, bottom=0.003, wspace=0.01, hspace=0.02)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def _draw_row(row: npt.NDArray[np.object_], exam: PhantomExam) -> None:
    z_mm, y_mm, x_mm = exam.grid.spacing
    level = int(exam.lesion.sum(axis=(1, 2)).argmax())
    pre, post1, post3 = exam.phases[0], exam.phases[1], exam.phases[3]
    subtraction = post1 - pre
    white = float(np.percentile(post1[exam.breast], 99.7))
    bright = float(np.percentile(subtraction[exam.breast], 99.8))
    late = 0.25 * white
    projected = subtraction.copy()
    slab = exam.breast.any(axis=(0, 2))  # the heart would outshine everything else
    projected[:, np.nonzero(slab)[0].max() + 1 :, :] *= 0.35
    columns = range(exam.lesion.shape[2])
    half = [c for c in columns if exam.breast[:, :, c].any()]
    pictures = [
        (pre[level], 0.0, white, y_mm / x_mm),
        (post1[level], 0.0, white, y_mm / x_mm),
        (subtraction[level], 0.0, bright, y_mm / x_mm),
        ((post3 - post1)[level], -late, late, y_mm / x_mm),
        (post1[level], 0.0, white, y_mm / x_mm),
        (projected.max(axis=0), 0.0, bright, y_mm / x_mm),
        (projected[:, :, half[0] : half[-1] + 1].max(axis=2)[::-1], 0.0, bright, z_mm / y_mm),
    ]
    for axis, (picture, low, high, aspect) in zip(row, pictures, strict=True):
        axis.imshow(picture, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="bilinear")
        axis.set_xticks([])
        axis.set_yticks([])
    row[4].contour(exam.lesion[level], levels=[0.5], colors=["#ffcc00"], linewidths=0.8)
    labels = exam.labels
    finding = f"benign {labels.kind}" if isinstance(labels, BenignLabels) else labels.subtype
    row[0].set_ylabel(
        f"{exam.patient_id}\n{finding}\ndensity {labels.density}, {exam.latents.diameter_mm:.0f} mm",
        color="white",
        fontsize=6,
    )
