"""Several of Flower's commands in one process: each has its own answer, and one that fails stops no other."""

import os

from server.deployment.flower_cli import flwr_each


def test_each_command_has_its_own_answer_and_one_that_fails_stops_no_other(tmp_path):
    environment = {**os.environ, "FLWR_HOME": str(tmp_path)}
    (tmp_path / "config.toml").write_text('[superlink]\ndefault = "mine"\n[superlink.mine]\naddress = "127.0.0.1:1"\n')
    key = tmp_path / "key.pub"
    key.write_text("no key")
    unknown, refused, absent = flwr_each(
        [
            ["flwr", "no-such-command"],
            ["flwr", "supernode", "register", str(key), "mine"],
            ["flwr", "list", "nowhere"],
        ],
        environment,
    )
    assert "no-such-command" in unknown["error-message"]
    assert "key" in refused["error-message"].lower()
    assert "nowhere" in absent["error-message"]
