"""The site's own log: its place, what goes there and nowhere else."""

import json
import logging

import pytest

from client.site_log import own_log
from shared.errors import RunError


@pytest.mark.parametrize(
    ("site", "name"),
    [("centre-a",) * 2, ("", "node"), ("../../etc/x", "node"), ("A B", "node"), ("x" * 33, "node")],
)
def test_a_log_is_named_after_its_site_and_lies_below_the_cache(tmp_path, monkeypatch, site, name):
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))
    with own_log(site) as log:
        log.info("hello")
    (path,) = tmp_path.rglob("*.jsonl")
    assert path == tmp_path / "cache" / "logs" / f"{name}.jsonl"
    assert json.loads(path.read_text())["message"] == "hello"


def test_records_of_both_packages_go_there_and_nowhere_else(tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path))
    with own_log("centre-a"):
        for name in ("client.local_round", "shared.training", "flwr"):
            logging.getLogger(name).warning("from %s", name)
    lines = [json.loads(line)["message"] for line in (tmp_path / "logs" / "centre-a.jsonl").read_text().splitlines()]
    assert lines == ["from client.local_round", "from shared.training"]
    assert caplog.messages == ["from flwr"]
    assert "client.local_round" not in "".join(capfd.readouterr())


def test_a_cache_that_cannot_be_written_to_is_an_error_without_its_path(tmp_path, monkeypatch):
    (tmp_path / "cache").touch()
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RunError, match="cannot write below the site's cache") as caught, own_log("centre-a"):
        pytest.fail("opened")
    assert str(tmp_path) not in str(caught.value)
