"""A rehearsal's kits on free ports, and models side by side; whole rehearsals are in `tests/network`."""

import tomllib

import pytest

from server.deployment.rehearsal import Rehearsal, call, model_hashes, prepare, run_member
from server.deployment.server_kit import ServerKit
from server.run_folder.journal import RunFolder
from server.run_folder.round_record import RoundRecord
from shared.config.run_config import parse_config
from shared.errors import RunError
from shared.runtime.children import wait_until_ready

TASK = "lesion-segmentation"
CONFIG = parse_config(
    {"name": "t", "data": {"root": "d", "sites": ["centre-a", "centre-b"], "external": "centre-d"}}, "t"
)


@pytest.mark.slow
def test_every_centre_gets_a_kit_that_finds_its_data_and_approves_this_app(tmp_path):
    rehearsal = prepare(tmp_path / "rehearsal", CONFIG, data=tmp_path / "data")
    kit = ServerKit(rehearsal.server)
    assert rehearsal.sites == ("centre-a", "centre-b", "centre-d")
    assert [site.name for site in kit.sites()] == list(rehearsal.sites)
    ports = (kit.server.port, kit.server.status_port, kit.server.superlink_port)
    assert len(set(ports)) == 3
    digests = set()
    for name in rehearsal.sites:
        node = tomllib.loads((rehearsal.site(name) / "node.toml").read_text())
        assert node["site"]["data"] == str(tmp_path / "data" / name)
        (app,) = tomllib.loads((rehearsal.site(name) / "approved.toml").read_text())["app"]
        digests.add(app["sha256"])
    assert len(digests) == 1
    # A member is a process of its own; without its data it says why it does not start.
    log = rehearsal.folder / "centre-a.log"
    with (
        pytest.raises(RunError, match=r"(?s)centre-a did not start:.*does not exist"),
        run_member(rehearsal, "centre-a") as process,
    ):
        wait_until_ready(process, "centre-a", log, 60, lambda: False)


def test_a_command_that_fails_is_an_error_in_its_own_words(tmp_path):
    with pytest.raises(RunError, match=r"`fedbreast approve` failed: error: .* is no site's kit"):
        call("approve", str(tmp_path))


def test_models_stand_side_by_side_round_by_round_and_a_missing_round_differs(tmp_path):
    paths = tmp_path / "first", tmp_path / "second"
    for path, hashes in zip(paths, (["a", "b", "c"], ["a", "x"]), strict=True):
        folder = RunFolder.create(path, CONFIG)
        for number, digest in enumerate(hashes):
            folder.enter(RoundRecord(TASK, number, digest, 1.0))
        folder.release()
    assert model_hashes(*paths, [TASK]) == {TASK: [("a", "a"), ("b", "x"), ("c", "")]}
    assert Rehearsal(tmp_path, (), tmp_path).server == tmp_path / "kits" / "server"
