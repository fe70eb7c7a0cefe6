"""`fedbreast serve` and `rehearse` as commands; what they start is tested in `tests/server/deployment`."""

import re
from contextlib import nullcontext

import pytest

from server.deployment import rehearsal as rehearsing
from server.deployment import serve as deployment
from tests.server.deployment.stand import make_consortium


def test_serve_says_where_and_each_event_and_ends_with_130_after_ctrl_c(call, tmp_path, monkeypatch):
    kit = make_consortium(tmp_path).kit

    def keep_serving(opened, say, host):
        assert (opened.folder, host) == (kit.folder, "127.0.0.1")
        say("site-registered", {"site": "centre-a"})
        raise KeyboardInterrupt

    monkeypatch.setattr(deployment, "serve", keep_serving)
    code, out, err = call("serve", kit.folder, "--host", "127.0.0.1")
    assert code == 130
    assert out.startswith(f"serving toy on 127.0.0.1:{kit.server.port}; Ctrl-C ends it\n")
    assert re.search(r"\d\d:\d\d:\d\d site-registered site=centre-a\n", out)
    assert err == "stopped\n"


@pytest.mark.parametrize(
    ("pairs", "code", "words"),
    [
        (
            [("ab" * 32, "ab" * 32), ("cd" * 32, "cd" * 32)],
            0,
            "simulation cdcdcdcdcdcd: the same in every round",
        ),
        ([("ab" * 32, "ab" * 32), ("cd" * 32, "ef" * 32)], 1, "DIFFERENT from round 1 on"),
        ([("ab" * 32, "ab" * 32), ("cd" * 32, "")], 1, "DIFFERENT from round 1 on"),
    ],
)
def test_rehearse_compares_every_round_and_ends_with_1_where_models_differ(
    call, launched, monkeypatch, pairs, code, words
):
    monkeypatch.setattr(rehearsing, "prepare", lambda folder, _config: rehearsing.Rehearsal(folder, (), folder))
    monkeypatch.setattr(rehearsing, "run_consortium", lambda *_: nullcontext({}))
    monkeypatch.setattr(rehearsing, "model_hashes", lambda *_: {"lesion-segmentation": pairs})
    runs = []
    monkeypatch.setattr("server.commands.run.run_federation", lambda *what, **more: runs.append((what[2], more)))
    status, out, _ = call("rehearse", "toy.toml", "--name", "one")
    assert status == code
    assert words in out
    assert [(name, "server" in more) for name, more in runs] == [("one", True), ("one-simulation", False)]
