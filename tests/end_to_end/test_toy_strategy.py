"""A strategy of one file and one line of the table, through a federation: server step, loss term, state at sites."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tomli_w
import torch
from safetensors.torch import load_file

from client import local_round
from client.site_state import SiteState
from shared.config.run_config import parse_config
from shared.messages.payload import flatten, unflatten
from shared.strategies import STRATEGIES
from tests.end_to_end.study_in_place import study_in_place
from tests.end_to_end.wire import TASK, Killed, Wire, federate, hashes, killed_at

ROOT = Path(__file__).resolve().parents[2]
SITES = ("centre-a", "centre-b", "centre-c")
ROUNDS = 3


def with_toy(patch, root, toy_config, toy_cache, **federation):
    """A project whose strategy is the toy; what sites keep lies in a cache of its own."""
    patch.setitem(STRATEGIES, "toy", "tests.shared.strategies.toy")
    patch.setenv("FEDBREAST_ROOT", str(root))
    patch.setenv("FEDBREAST_CACHE", str(toy_cache))
    patch.setattr("client.site_state.cache_root", lambda: root / "cache")
    chosen = {"strategy": "toy", "rounds": ROUNDS, "toy": {"alpha": 0.2}} | federation
    (root / "toy.toml").write_text(tomli_w.dumps(toy_config(federation=chosen)))
    return root


@pytest.fixture
def toy_project(tmp_path, toy_config, toy_cache, monkeypatch):
    return with_toy(monkeypatch, tmp_path, toy_config, toy_cache)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, toy_config, toy_cache):
    """One run for several tests: its project, what went over the wire, the federation and its records."""
    with pytest.MonkeyPatch.context() as patch:
        root, wire = with_toy(patch, tmp_path_factory.mktemp("toy"), toy_config, toy_cache), Recording()
        yield root, wire, *federate(root, grid=wire)


def norms(state):
    return {name: value for name, value in state.items() if ".norm" in name and not name.startswith("gradient.")}


class Recording(Wire):
    """What is asked for and answered, as the wire carries it."""

    def __init__(self):
        super().__init__(on_answer=self.record)
        self.trained = {}

    def record(self, message, answers):
        if message.metadata.message_type == "train":
            header = message.content["header"]
            sent = message.content["weights"]["flat"].numpy()
            self.trained[header["round"], header["site"]] = sent, answers[0].content["weights"]["flat"].numpy()
        return answers


def test_a_toy_strategy_runs_and_what_stays_at_a_site_never_leaves_it(recorded):
    root, wire, federation, records = recorded
    assert federation.config.federation.algorithm.alpha == 0.2
    assert {entry.status for item in records[1:] for entry in item.sites.values()} == {"accepted"}
    assert len(records[1:]) == ROUNDS
    first = like = federation.folder.model(records[0])
    assert norms(like)
    for (number, site), arrays in wire.trained.items():
        sent, answer = (unflatten(item, like) for item in arrays)
        kept = SiteState("one", site, TASK).after(number)
        for name, value in norms(like).items():
            assert torch.equal(answer[name], sent[name])  # the values that came go back
            assert torch.equal(sent[name], first[name])  # and so no round changes them
            assert value.shape == kept[name].shape
        # They were trained all the same, at each site in its own way.
        assert any(not torch.equal(kept[name], sent[name]) for name in norms(like))
        assert any(not torch.equal(answer[name], sent[name]) for name in like.keys() - norms(like).keys())
    one, other = (SiteState("one", site, TASK).after(ROUNDS) for site in SITES[:2])
    assert any(not torch.equal(one[name], other[name]) for name in norms(like))
    # No value of theirs is in anything that the server wrote.
    written = b"".join(path.read_bytes() for path in (root / "runs").rglob("*") if path.is_file())
    for site in SITES:
        for value in SiteState("one", site, TASK).after(ROUNDS).values():
            if value.numel() > 1 and not torch.equal(value, torch.zeros_like(value)):
                assert value.numpy().tobytes() not in written


def test_a_site_trains_and_is_evaluated_with_what_it_kept(toy_project, monkeypatch):
    seen, load = [], local_round._model

    def loading(site, task, config, instruction):
        model, *others = load(site, task, config, instruction)
        seen.append((site.name, instruction.round, {name: value.clone() for name, value in model.state_dict().items()}))
        return model, *others

    monkeypatch.setattr(local_round, "_model", loading)
    federation, records = federate(toy_project)
    # Three rounds train the models of rounds 0 to 2 and evaluate those of 1 to 3.
    assert sorted(item[:2] for item in seen) == sorted(
        (site, number) for site in SITES for number in (0, 1, 1, 2, 2, 3)
    )
    for site, number, state in seen:
        expected = federation.folder.model(records[number]) | norms(SiteState("one", site, TASK).after(number))
        assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_the_servers_step_and_state_are_the_formulas(recorded):
    _, wire, federation, records = recorded
    like = federation.folder.model(records[0])
    cases = {site: entry.cases for site, entry in records[-1].sites.items()}
    places = flatten({name: torch.full_like(value, ".norm" not in name) for name, value in like.items()}) == 1
    drift = np.zeros(places.size)
    for number in range(1, ROUNDS + 1):
        current = flatten(federation.folder.model(records[number - 1])).astype(np.float64)
        answers = {site: wire.trained[number, site][1].astype(np.float64) for site in SITES}
        mean = sum(answers[site] * cases[site] for site in SITES) / sum(cases.values())
        drift -= 0.2 * (mean - current)
        new = flatten(federation.folder.model(records[number]))
        assert np.allclose(new[places], (mean - drift / 0.2)[places], rtol=0, atol=1e-6)
        state = federation.folder.strategy_state(records[number])
        assert np.allclose(state["drift"], drift, rtol=0, atol=1e-6)


def test_a_killed_run_goes_on_with_what_sites_kept_and_ends_with_the_same_bytes(toy_project):
    reference = hashes(federate(toy_project, "whole")[1])
    with pytest.raises(Killed):
        federate(toy_project, "cut", grid=Wire(killed_at("train", 3)))
    # The server died while the sites were at work: one had trained the round that is asked for again.
    SiteState("cut", "centre-a", TASK).keep(3, {"encoder.0.norm1.weight": torch.zeros(1)})
    assert hashes(federate(toy_project, "cut", resume=True)[1]) == reference
    # And it is used: without it the rounds that follow are others.
    with pytest.raises(Killed):
        federate(toy_project, "lost", grid=Wire(killed_at("train", 3)))
    for site in SITES:
        SiteState("lost", site, TASK).keep(0, {})
    assert hashes(federate(toy_project, "lost", resume=True)[1])[-1] != reference[-1]


def test_the_files_at_a_site_hold_no_more_than_the_strategy_keeps(recorded):
    root, _, federation, records = recorded
    like = federation.folder.model(records[0])
    files = sorted((root / "cache" / "site-state").rglob("*.safetensors"))
    assert [path.name for path in files] == [f"round-{number:03d}.safetensors" for number in (1, 2, 3)] * len(SITES)
    expected = set(norms(like)) | {f"gradient.{name}" for name in like}
    assert all(set(load_file(path)) == expected for path in files)


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedadam"])
def test_a_run_whose_strategy_keeps_nothing_at_the_sites_writes_nothing_there(
    tmp_path, toy_config, toy_cache, monkeypatch, strategy
):
    root = with_toy(monkeypatch, tmp_path, toy_config, toy_cache, strategy=strategy, rounds=1)
    federate(root)
    assert not (root / "cache").exists()


def test_a_study_trains_its_federated_and_pooled_arms_with_the_strategy(
    toy_project, toy_config, toy_cache, monkeypatch
):
    shutil.copy(ROOT / "pyproject.toml", toy_project)
    raw = toy_config(federation={"strategy": "toy", "rounds": ROUNDS, "toy": {"alpha": 0.2}},
                     study={"held_out": ["centre-d"]})  # fmt: skip
    out = toy_project / "study"
    study_in_place(out, parse_config(raw, "toy.toml"), monkeypatch)
    rows = pd.read_csv(out / "results.csv")
    rows = rows[(rows["metric"] == "dice") & (rows["role"] == "external")]
    assert set(rows["arm"]) == {"federated", "pooled", "ensemble", *(f"local:{site}" for site in SITES)}
    # The federated arm is the run itself: the same strategy, sites and seed end with the same model.
    reference = hashes(federate(toy_project, "alone")[1])
    federated = set(rows[rows["arm"] == "federated"]["model_hash"].dropna())
    assert federated
    assert federated <= set(reference)
    with_toy(monkeypatch, toy_project, toy_config, toy_cache, strategy="fedavg")
    assert not federated & set(hashes(federate(toy_project, "plain")[1]))
    assert "toy" in (out / "MODEL_CARD.md").read_text()
