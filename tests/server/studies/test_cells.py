"""What a training cell leaves: the chosen round's weights alone, and what chose it."""

import json

import torch

from server.run_folder.round_record import RoundRecord, SiteEntry
from server.studies.cells import _finish, _run_folder
from server.studies.design import Cell, cell_folder, finished, trained
from shared.config.run_config import parse_config
from shared.metrics.sums import CASES, Histogram, Moments, Sums
from shared.reproducibility import state_hash

CONFIG = parse_config({"name": "t", "data": {"root": "d", "sites": ["a", "b"], "external": "x"}}, "t")


def finish(root, cell, sums):
    """Commit a round for each of the sums, and finish the cell."""
    folder = _run_folder(cell_folder(root, cell), CONFIG)
    records = []
    for number, item in enumerate([Sums(), *sums]):
        state = {"w": torch.full((3,), float(number))}
        entry = SiteEntry("accepted", cases=4, validation=item.to_flat() if item.n else None)
        records.append(RoundRecord(cell.task, number, state_hash(state), 10.0, {"a": entry} if number else {}))
        folder.commit(records[-1], state, {})
    _finish(root, cell, folder, records)
    folder.release()
    return records


def test_the_best_rounds_weights_are_kept_and_the_others_are_not(tmp_path):
    cell = Cell("train", "x", "lesion-segmentation", "federated", 0)
    records = finish(tmp_path, cell, [Sums({CASES: 1, "dice": Moments.of(dice)}) for dice in (0.2, 0.8, 0.5)])
    assert finished(tmp_path, cell)
    entry, folder, record = trained(tmp_path, cell)
    assert (entry["best_round"], entry["rounds"], entry["seconds"]) == (2, 3, 40.0)
    assert entry["model_hash"] == records[2].model_hash == record.model_hash
    assert folder.model(record)["w"].tolist() == [2.0] * 3
    kept = (cell_folder(tmp_path, cell) / "models" / cell.task).iterdir()
    assert [path.name for path in kept] == ["round-002.safetensors"]


def test_a_classifiers_thresholds_are_frozen_with_its_round(tmp_path):
    cell = Cell("train", "x", "receptor-status", "local:a", 0)
    scores = sum((Histogram.of(truth, 0.1 + 0.8 * truth) for truth in (0, 1, 1, 0)), Histogram())
    finish(tmp_path, cell, [Sums({CASES: 4, "er": scores})])
    entry = json.loads((cell_folder(tmp_path, cell) / "cell.json").read_text())
    # The middle of the gap between 0.1 and 0.9; a label without cases has none.
    assert entry["thresholds"] == {"er": 0.5, "pr": None, "her2": None}
