"""What the run keeps of its explanations: saliency by region of some external cases, and one case's map a subtype.

As with pictures, what is stored is what the page shows, so that it can be made again without the images.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from server.evaluation.saliency import ENSEMBLE, saliency_maps, saliency_table
from server.run_folder.results import replace_file
from shared.cohort.labels import SUBTYPES
from shared.config.run_config import RunConfig
from shared.config.sections import PatchSection
from shared.errors import RunError
from shared.modalities.mri.cache import PreparedMri
from shared.modalities.mri.lesion_patch import cut_patch
from shared.modalities.mri.plan import MriPlan
from shared.reproducibility import derive_seed
from shared.tasks import task_named
from shared.types import FloatArray

TABLE = Path("predictions") / "saliency.parquet"
NETWORKS = ("trained", "untrained")


@dataclass(frozen=True, slots=True)
class Explained:
    """One stored case: its subtype, what the network gave it, its patch and map as `saliency_panel` takes them."""

    subtype: str
    probability: float
    patch: FloatArray
    saliency: FloatArray


def explain_centre(
    run_dir: Path,
    cases: Sequence[PreparedMri],
    view: RunConfig,
    plan: MriPlan,
    model: nn.Module,
    answers: pd.DataFrame,
) -> None:
    """Explain the chosen model on the external centre's first cases of each subtype, and store it.

    The run's folder gets `predictions/saliency.parquet` and `pictures/saliency-<subtype>.npz`. The same cases are also
    explained by the network before training, its last layers given random weights in place of their zeros: what it
    shows was not learnt. `answers` is the model's per-case table in the reference outline.
    """
    few = view.evaluation.explained_per_subtype
    tables = [saliency_table(network, cases, view, plan, per_subtype=few) for network in (untrained(view), model)]
    kept = pd.concat(
        [table.assign(network=network) for network, table in zip(reversed(NETWORKS), tables, strict=True)],
        ignore_index=True,
    )
    content = io.BytesIO()
    kept.to_parquet(content, index=False)
    replace_file(run_dir / TABLE, content.getvalue())
    by_key = {case.key: case for case in cases}
    for subtype, own in tables[1].groupby("subtype"):
        key = str(own["case"].min())
        patch = cut_patch(by_key[key].region(), by_key[key].native_mask, plan, view.section(PatchSection).patch)
        saliency = saliency_maps(model, patch, str(subtype))[ENSEMBLE]
        probability = dict(zip(answers["case"], answers[f"score_{subtype}"], strict=True))[key]
        content = io.BytesIO()
        np.savez_compressed(
            content,
            allow_pickle=False,
            patch=patch.astype(np.float16),
            saliency=saliency.astype(np.float32),
            probability=np.float64(probability),
        )
        replace_file(_picture_path(run_dir, str(subtype)), content.getvalue())


def untrained(view: RunConfig) -> nn.Module:
    """The network before training, as a network that starts from zero would be if it said anything."""
    model = task_named(view.task).learner.build_model(view)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(view.seed, "untrained"))
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Linear) and name.endswith("head"):
                layer.reset_parameters()
    return model


def read_table(run_dir: Path) -> dict[str, pd.DataFrame]:
    """The stored table by network; empty where nothing was explained.

    Raises
    ------
    RunError
        The file is not a parquet file.

    """
    path = run_dir / TABLE
    if not path.is_file():
        return {}
    try:
        kept = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{run_dir.name}/{TABLE} cannot be read: delete it, or run again") from error
    return {network: kept[kept["network"] == network].drop(columns="network") for network in NETWORKS}


def read_maps(run_dir: Path) -> list[Explained]:
    """The stored cases in the order of `SUBTYPES`.

    Raises
    ------
    RunError
        A file is not what was written. Nothing is unpickled.

    """
    return [_read(path, name) for name in SUBTYPES if (path := _picture_path(run_dir, name)).is_file()]


def _picture_path(run_dir: Path, subtype: str) -> Path:
    return run_dir / "pictures" / f"saliency-{subtype}.npz"


def _read(file: Path, subtype: str) -> Explained:
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as stored:
            patch, saliency = (np.asarray(stored[name], np.float32) for name in ("patch", "saliency"))
            return Explained(subtype, float(stored["probability"]), patch, saliency)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"pictures/{file.name} cannot be read: delete it, or run again") from error
