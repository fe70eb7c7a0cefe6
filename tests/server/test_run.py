"""What ends a run before it begins."""

import pytest

from server.run import run
from server.run_folder.journal import RunFolder
from shared.config.run_config import parse_config
from shared.errors import ConfigError
from shared.modalities.mri import radiomics


def test_a_package_that_a_later_task_needs_is_asked_for_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(radiomics, "find_spec", lambda _name: None)
    config = parse_config(
        {
            "name": "tiny",
            "tasks": ["lesion-segmentation", "subtype-radiomics"],
            "data": {"root": "d", "sites": ["a"], "external": "x"},
        },
        "t",
    )
    folder = RunFolder.create(tmp_path / "one", config)
    # No grid: not even the sites are asked.
    with pytest.raises(ConfigError, match=r"pip install 'fedbreast\[radiomics\]'"):
        run(None, config, folder, lambda *_: None)
    assert not (folder.path / "journal").exists()
