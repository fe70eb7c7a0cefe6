"""A server that asks a hospital by configurations of its own choice: real messages, 60 patients, tiny X-ray images."""

import shutil

import numpy as np
import pydicom
import pytest

from client import local_round
from client.guarded_site import _digest
from client.ledger import Ledger
from shared.cohort.manifest import CaseRow
from shared.cohort.preflight import Case
from shared.messages.payload import FEW
from shared.modalities import modality_named
from shared.policy import Policy
from shared.tasks import task_named
from shared.training import TrainSummary
from tests.shared.modalities.test_toy_modality import MODALITY, TASK

pytestmark = pytest.mark.usefixtures("flower_task")


SHARES = {"validation": 0.3, "test": 0.2}


def test_shares_that_grow_patient_by_patient_ask_about_the_same_patients(attacker):
    server = attacker()
    first = server.ask("prepare", splits=SHARES)
    assert first.error == ""
    assert first.included == {"train": 30, "validation": 18, "test": 12}
    reply = server.ask("evaluate", splits=SHARES)
    assert reply.error == ""
    sums = reply.sums
    assert (sums.n, sum(sums.histogram("er").positives)) == (18, sums.histogram("er").n // 2)
    for share in np.arange(0.02, 0.9, 0.1):
        grown = {"validation": float(share), "test": 0.05}
        assert server.ask("prepare", splits=grown).included == first.included
        assert server.ask("evaluate", splits=grown).sums == sums


def test_a_patient_who_comes_goes_or_is_corrected_is_in_no_difference_of_two_sums(attacker, tmp_path):
    server = attacker()
    server.ask("prepare", splits=SHARES)
    known = list(server.patients)
    before = {split: server.ask("evaluate", split, splits=SHARES).sums for split in ("validation", "test")}
    (ledger,) = (tmp_path / "cache" / "ledgers").glob("*.json")
    answered = ledger.read_bytes()
    changed = [
        [*known, ("late", 1)],
        *([item for item in known if item != gone] for gone in known[:6]),
        *([(name, 1 - er if name == wrong else er) for name, er in known] for wrong, _ in known[6:12]),
    ]
    smaller = 0
    for patients in changed:
        ledger.write_bytes(answered)
        server.write(patients)
        for split, sums in before.items():
            reply = server.ask("evaluate", split, splits=SHARES)
            assert reply.error == ""
            now = reply.sums
            assert now.n == sums.n or sums.n - now.n >= 5 or now.n == 0
            smaller += now.n < sums.n
    assert smaller  # some of them were validation or test patients: others rest with them
    reply = server.ask("prepare", splits=SHARES)
    assert reply.excluded.get("too_few_changed", 0) >= 4


def test_fewer_patients_than_the_policy_says_are_never_told_of(attacker, tmp_path):
    server = attacker(14)
    shares = {"validation": 0.15, "test": 0.1}
    assert server.ask("prepare", splits=shares).included == {"train": 11, "validation": 0, "test": 0}
    answer = server.ask("evaluate", splits=shares)
    assert answer.sums == type(answer.sums).zero(task_named(TASK).kinds)
    assert "both_roles" in server.ask("evaluate", "external", external="north", splits=shares).error
    next((tmp_path / "cache" / "ledgers").glob("*.json")).unlink()
    few = server.ask("evaluate", "external", external="north", splits=shares)
    assert few.sums.n == 14
    server.write(server.patients[:4])
    assert server.ask("evaluate", "external", external="north").sums.n == 0


@pytest.mark.parametrize("action", ["fingerprint", "prepare", "train"])
def test_a_site_with_few_training_patients_gives_neither_statistics_nor_an_update(attacker, action):
    reply = attacker(14).ask(action, splits={"validation": 0.5, "test": 0.0})
    assert "fewer than the 10 training patients of its policy" in reply.error
    assert (reply.weights, dict(reply.fingerprints), reply.included or {}) == (None, {}, {})


def test_a_class_of_few_patients_is_hidden_with_all_that_is_made_of_it(attacker):
    server = attacker()
    rare = {f"p{number:02d}" for number in (0, 2, 4)}
    server.write([(name, int(name in rare)) for name, _ in server.patients])
    reply = server.ask("prepare", splits=SHARES)
    assert reply.classes == {"er/positive": FEW, "er/negative": FEW}  # the other one with the total would tell it
    for split in ("validation", "test"):
        sums = server.ask("evaluate", split, splits=SHARES).sums
        positives = sum(sums.histogram("er").positives)
        assert sums.n > 10
        assert positives == 0
        # Those of whom some are positive hide the histogram, and the loss beside it, as a whole.
        assert sums.histogram("er").n == sums.moments("log_loss_er").n


def test_a_label_that_few_patients_have_is_as_if_unknown(attacker):
    server = attacker()
    server.write([(name, er if int(name[1:]) < 4 else "") for name, er in server.patients])
    reply = server.ask("prepare", splits=SHARES)
    assert reply.labelled == {TASK: 0}
    assert "fewer than the 10 training patients" in server.ask("train", splits=SHARES).error


def test_what_few_patients_have_of_a_label_reaches_no_training_and_no_sum(attacker):
    server = attacker()
    for few, known in (({"p00", "p01", "p02", "p03"}, 0), ({f"p{number:02d}" for number in range(40)}, 40)):
        server.write(server.patients, pr=few)
        plan = modality_named(MODALITY).plan(side=5, level=1200.0)
        prepared = server.site(splits={"validation": 0.0, "test": 0.0}).prepare(MODALITY, plan)
        assert sum(case.labels.pr is not None for case in prepared["train"]) == known
        assert sum(case.labels.er is not None for case in prepared["train"]) == 60


@pytest.mark.parametrize(
    ("loop", "words"),
    [
        ({"steps_per_round": 1}, "steps_per_round = 1, this hospital's policy allows no less than 5"),
        ({"gradient_clip": 1e-12}, "gradient_clip = 1e-12, this hospital's policy allows no less than 0.1"),
    ],
)
def test_training_that_bares_single_gradients_is_refused(attacker, loop, words):
    server = attacker()
    assert words in server.ask("train", training=loop).error
    reply = server.ask("train", splits=SHARES)
    assert reply.error == ""
    assert reply.cases == 30


def test_questions_are_counted_and_end(attacker, tmp_path, monkeypatch):
    import client.policy
    from shared.policy import Policy

    monkeypatch.setattr(client.policy, "Policy", lambda: Policy(questions_per_run=3, questions_per_month=4))
    server = attacker()
    more = {"a": SHARES, "b": SHARES | {"test": 0.3}, "c": SHARES | {"test": 0.4}}
    asked = ("a", "a", "a", "a", "b", "c")
    answers = [server.ask("evaluate", run=f"run-{number}", splits=more[key]) for number, key in enumerate(asked)]
    assert [bool(reply.error) for reply in answers] == [False, False, False, True, False, True]
    assert "3 questions in 31 days under one configuration" in answers[3].error
    assert "4 questions in 31 days" in answers[5].error


def test_of_phantoms_everything_is_answered(attacker):
    server = attacker(6)
    text = (server.data / "site.toml").read_text()
    (server.data / "site.toml").write_text(text + 'kind = "phantom"\n')
    assert server.ask("prepare", splits={"validation": 0.2, "test": 0.2}).included["validation"] == 1
    assert server.ask("evaluate", splits={"validation": 0.2, "test": 0.2}).sums.n == 1
    assert server.ask("train", training={"steps_per_round": 1}).error == ""


def test_whoever_knows_seed_and_round_does_not_know_which_cases_a_step_sees(attacker, monkeypatch):
    seen = []
    monkeypatch.setattr(
        local_round, "train_round", lambda *_, site, **__: seen.append(site) or TrainSummary(0.0, 1, 0.0)
    )
    server = attacker()
    for kind in ("", 'kind = "phantom"\n'):
        text = (server.data / "site.toml").read_text()
        (server.data / "site.toml").write_text(text + kind)
        assert server.ask("train", splits=SHARES).error == ""
    patients, phantoms = seen
    assert phantoms == "north"  # simulation and consortium train phantoms to the same bytes
    assert len(patients) == 64
    assert "north" not in patients


def ledger(tmp_path):
    (path,) = (tmp_path / "cache" / "ledgers").glob("*.json")
    return path


def test_two_registrations_tell_of_nobody_who_came_between_them(attacker):
    server = attacker(40)
    before = server.ask("register").facts[0]
    assert (before.cases, before.labelled) == (40, {TASK: 40})
    known = list(server.patients)
    for changed in ([*known, ("late", 1)], known[1:], [(known[0][0], ""), *known[1:]]):
        server.write(changed)
        now = server.ask("register").facts[0]
        assert now.cases == now.labelled[TASK]
        assert now.cases == 40 or 40 - now.cases >= 5
    server.write([*known, *((f"p{number}", 1) for number in range(50, 55))])
    assert server.ask("register").facts[0].cases == 45


@pytest.mark.parametrize("group", ["validation", "train"])
def test_an_image_that_is_replaced_on_disk_is_in_no_difference_of_two_sums(attacker, images, tmp_path, group):
    server = attacker()
    folder = shutil.copytree(images, tmp_path / "own")
    text = (server.data / "site.toml").read_text()
    (server.data / "site.toml").write_text(text.replace(str(images), str(folder)))
    weights = np.r_[np.full(50, 0.3, np.float32), np.float32(0)]  # of all pixels
    first = server.ask("prepare", splits=SHARES)
    before = {
        "evaluate": server.ask("evaluate", weights=weights, splits=SHARES).sums.n,
        "fingerprint": server.ask("fingerprint", splits=SHARES).fingerprints[MODALITY].n,
    }
    site = server.site(splits=SHARES)
    case = next(case for case in site.cohort.cases if site.splits[case.row.patient_id] == group)
    image = folder / case.row.path / "1.dcm"
    ds = pydicom.dcmread(image)
    ds.PixelData = (ds.pixel_array + 700).astype(np.uint16).tobytes()
    ds.save_as(image)
    again = server.ask("prepare", splits=SHARES)
    assert first.included[group] - again.included[group] == 5  # the patient, and four others
    assert again.excluded["too_few_changed"] >= 5
    now = {
        "evaluate": server.ask("evaluate", weights=weights, splits=SHARES).sums.n,
        "fingerprint": server.ask("fingerprint", splits=SHARES).fingerprints[MODALITY].n,
    }
    changed = "evaluate" if group == "validation" else "fingerprint"
    assert before[changed] - now[changed] == 5
    assert {name: count for name, count in before.items() if name != changed} == {
        name: count for name, count in now.items() if name != changed
    }


def test_how_many_wait_is_told_by_fives(attacker):
    server = attacker(40)
    server.ask("prepare", splits=SHARES)
    known = list(server.patients)
    for came in (1, 2, 3):
        server.write([*known, *((f"p{number}", 1) for number in range(40, 40 + came))])
        assert server.ask("prepare", splits=SHARES).excluded["too_few_changed"] % 5 == 0


def test_what_is_refused_leaves_no_set_behind(attacker, tmp_path):
    server = attacker(14)
    shares = {"validation": 0.5, "test": 0.0}
    for action in ("fingerprint", "prepare", "train"):
        assert "fewer than the 10 training patients" in server.ask(action, splits=shares).error
    assert Ledger(ledger(tmp_path), Policy())._change(lambda entries: (entries, entries.sets)) == {
        f"{MODALITY}/fingerprint": [], f"{MODALITY}/train": []
    }  # fmt: skip


def test_cases_that_are_prepared_anew_are_guarded_once(attacker, tmp_path):
    server = attacker()
    server.write(server.patients, pr={"p00", "p01", "p02"})  # so few that it is as if nobody had it
    server.ask("prepare", splits=SHARES)
    before = server.ask("evaluate", splits=SHARES)
    shutil.rmtree(tmp_path / "cache" / "sites")
    assert server.ask("evaluate", splits=SHARES).sums == before.sums
    sets = Ledger(ledger(tmp_path), Policy())._change(lambda own: (own, own.sets))
    assert {len(known) for known in sets.values()} == {1}


@pytest.mark.parametrize("changed", ["mask/CC.dcm", "films_CC/a.dcm", "films_MLO/deep/b.dcm"])
def test_a_files_bytes_count_wherever_a_row_leads_to_them(tmp_path, changed):
    for name in ("mask/CC.dcm", "mask/MLO.dcm", "films_CC/a.dcm", "films_MLO/deep/b.dcm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    row = CaseRow(row=2, patient_id="p", exam="", side="left", modality="MG", path="films", mask="mask")
    case = Case("k", "mammography", row, tmp_path, tmp_path / "films")
    before = _digest(case)
    assert _digest(case) == before
    (tmp_path / changed).write_bytes(b"y")
    assert _digest(case) != before
