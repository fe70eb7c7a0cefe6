"""A consortium as hospitals have it, from `fedbreast provision` to its report: no phantom is configured, no folder of a
centre lies at the server, and the centre held out is a hospital at its own node. Slow."""

import re
import shutil
import tomllib

import pytest
import tomli_w

from server.deployment.rehearsal import call, prepare, run_consortium
from server.run_folder.external_access import read_opened
from server.run_folder.results import read_results
from shared.config.run_config import load_config
from tests.network.standing import APP, ROOT
from tests.wards import as_hospital

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin") is None, reason="nginx is not installed"),
]


def test_a_consortium_with_a_hospital_held_out_ends_with_its_report(tmp_path, toy_config, phantom_root, monkeypatch):
    root = tmp_path / "checkout"
    root.mkdir()
    for name in APP:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy2)(ROOT / name, root / name)
    monkeypatch.setenv("FEDBREAST_ROOT", str(root))
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "the server's own cache"))
    file = root / "toy.toml"
    file.write_text(tomli_w.dumps(toy_config(data={"root": "nowhere"}, federation={"rounds": 1, "min_sites": 3})))
    config = load_config(file)
    assert "phantom" not in tomllib.loads(file.read_text())["data"]
    for name in config.centres:
        as_hospital(phantom_root / name, tmp_path / "wards" / name)
    rehearsal = prepare(tmp_path / "rehearsal", config, data=tmp_path / "wards")
    with run_consortium(rehearsal, lambda _: None):
        call("run", str(file), "--name", "first", "--server", str(rehearsal.server))
    path = root / "runs" / "first"
    results = read_results(path)
    assert (results.provenance.outcome, results.provenance.phantom) == ("complete", False)
    assert {row.centre for row in results.rows if row.role == "external"} == {"centre-d"}
    assert read_opened(path).at_node
    page = (path / "report.html").read_text()
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL).split("Configuration as run")[0]
    assert "phantom" not in body.lower()
    assert "External centre: centre-d, evaluated at its own node" in body
    assert not (tmp_path / "the server's own cache" / "cases").exists()
