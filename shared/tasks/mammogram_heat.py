"""How a network of mammograms is explained: Grad-CAM of a breast's class in each view, the network's levels beside it.

A vision transformer answers from its class token and has no maps of places: it is not explained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.cohort.labels import CaseLabels
from shared.config.run_config import RunConfig
from shared.grad_cam import enlarged, grad_cam, level_maps
from shared.modalities.mammography.cache import PreparedBreast
from shared.modalities.mammography.plan import MammographyPlan
from shared.modalities.mammography.tags import VIEWS, View
from shared.preprocessing.resample import HALF
from shared.tasks.explanation import Explanation, Figure
from shared.tasks.mammogram_views import MammographySection, read_views
from shared.types import FloatArray

LESION, AREA = "lesion", "area"
"""Shares within the lesion's outline: of the heat, and of the pixels."""
LEVEL = "level."
"""Before the name of a level among a picture's arrays."""
_SHOWN, _SHOWN_LEVEL = 256, 96  # pixels of a longer side, as stored


def explanation(
    task: str, classes: Sequence[str], answer: Callable[[CaseLabels, RunConfig], int | None]
) -> Explanation:
    """Of a task whose network has a logit for each of the classes; `answer` is a breast's place among them."""

    def class_of(labels: CaseLabels, config: RunConfig) -> str | None:
        own = answer(labels, config)
        return None if own is None else classes[own]

    return Explanation("grad_cam", f"grad-cam-{task}", class_of, partial(figures, classes), partial(picture, classes))


def figures(
    classes: Sequence[str], model: nn.Module, case: PreparedBreast, plan: MammographyPlan, config: RunConfig, name: str
) -> list[Figure]:
    """Of each view the shares `LESION` and `AREA`; NaN without an outline, and where no place raises the score."""
    if not isinstance(_features(model), nn.Sequential):
        return []
    own = config.section(MammographySection)
    extent = own.extent
    heat = _heat(model, read_views(case, plan, own), classes.index(name))
    outlines = case.outlines(extent)
    rows: list[Figure] = []
    for view in _there(case, extent):
        share = area = float("nan")
        if view in outlines and outlines[view].any():
            inside = torch.from_numpy(np.array(outlines[view]))
            pixels = enlarged(heat, (inside.shape[0], inside.shape[1]))[VIEWS.index(view)].double()
            area = float(inside.double().mean())
            share = float(pixels[inside].sum() / pixels.sum())  # 0 / 0 is NaN
        rows += [(view, LESION, share), (view, AREA, area)]
    return rows


def picture(
    classes: Sequence[str],
    model: nn.Module,
    start: nn.Module,
    case: PreparedBreast,
    plan: MammographyPlan,
    config: RunConfig,
    name: str,
) -> Mapping[str, npt.NDArray[Any]]:
    """The views, reduced, and in each the outline, the heat before and after training, and the levels' mean maps.

    `views` are names; `image` float16 and `outline` bool `(view, y, x)`, nothing outlined where there is no outline;
    `heat`, `untrained` and each level float32 `(view, y, x)`, heat in the places of the network's last maps.
    """
    own = config.section(MammographySection)
    extent = own.extent
    there = _there(case, extent)
    places = [VIEWS.index(view) for view in there]
    images = case.whole() if extent == "whole" else case.regions()
    image = np.stack([images[view] for view in there])
    outlines = case.outlines(extent)
    outline = np.stack([outlines.get(view, np.zeros(image.shape[1:], np.bool_)) for view in there])
    read, place = read_views(case, plan, own), classes.index(name)
    levels = level_maps(_features(model), _on_device(model, read)[0])
    return {
        "views": np.array(there),
        "image": _reduced(torch.from_numpy(image), _SHOWN).astype(np.float16),
        "outline": _reduced(torch.from_numpy(outline.astype(np.float32)), _SHOWN) >= HALF,
        "heat": _heat(model, read, place)[places].numpy(),
        "untrained": _heat(start, read, place)[places].numpy(),
    } | {LEVEL + level: _reduced(maps[places].float().cpu(), _SHOWN_LEVEL) for level, maps in levels.items()}


def class_score(outputs: list[Tensor], place: int) -> Tensor:
    """A class's logit of what answers for the breast: the layer over both views' features, or each view on its own."""
    answers = outputs[len(VIEWS) :] or outputs
    return torch.stack([logits[:, place].sum() for logits in answers]).sum()


def _there(case: PreparedBreast, extent: str) -> tuple[View, ...]:
    return case.views if extent == "whole" else case.outlined


def _features(model: Any) -> Any:
    return model.network.features


def _heat(model: nn.Module, read: FloatArray, place: int) -> Tensor:
    """float32 `(view, y, x)` on the CPU."""
    x = _on_device(model, read)
    return grad_cam(model, _features(model), x, lambda outputs: class_score(outputs, place)).cpu()


def _on_device(model: nn.Module, read: FloatArray) -> Tensor:
    return torch.from_numpy(read)[None].to(next(model.parameters()).device)


def _reduced(maps: Tensor, most: int) -> FloatArray:
    """Maps `(view, y, x)` with no side longer than `most`: means of the pixels that fall together."""
    scale = min(1.0, most / max(maps.shape[1:]))
    size = [max(1, round(side * scale)) for side in maps.shape[1:]]
    result: FloatArray = F.interpolate(maps[:, None], size=size, mode="area")[:, 0].numpy()
    return result
