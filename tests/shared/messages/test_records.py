"""What travels, packed and read again: round trips, refusals, and that nothing else gets through."""

import io
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.config.run_config import parse_config
from shared.errors import ConfigError, RunError, UpdateError, safe_error
from shared.messages.instruction_reply import Instruction, Reply, SiteFacts
from shared.messages.payload import FEW
from shared.messages.records import read_instruction, read_reply, write_instruction, write_instructions, write_reply
from shared.metrics.sums import Moments, Sums
from shared.modalities.mri.fingerprint import SiteFingerprint
from shared.modalities.mri.plan import Extraction, MriPlan
from shared.tasks import TASKS, task_named

TASKS_OF_THE_RUN = ("lesion-segmentation", "breast-segmentation", "receptor-status")
CONFIG = parse_config({"name": "t", "tasks": TASKS_OF_THE_RUN, "data": {"root": "d", "sites": ["a", "b"]}}, "t")
KINDS = task_named("lesion-segmentation").kinds
PLAN = MriPlan(
    mode="whole_breast",
    spacing_mm=(0.1 + 0.2, 1.0, 1.0),
    crop_voxels=(8, 8, 8),
    least_voxels=(8, 8, 8),
    low=(-9.0,) * 4,
    high=(9.0,) * 4,
    scale=(0.7, 0.3, 0.3, 0.3),
    extraction=Extraction.of(CONFIG.preprocessing),
)


pytestmark = pytest.mark.usefixtures("flower_task")


def message(records):
    return Message(records, dst_node_id=1, message_type="train")


def test_an_instruction_survives_the_message():
    sent = Instruction(
        "run", 3, {"mri": PLAN}, "test", np.arange(5, dtype=np.float32), "m", task="subtype-ensemble", evaluating=True
    )
    got = read_instruction(message(write_instruction(sent)))
    assert np.array_equal(got.weights, sent.weights)
    assert (got.run, got.round, got.split, got.manifest, got.plans) == ("run", 3, "test", "m", {"mri": PLAN})
    assert (got.task, got.evaluating) == ("subtype-ensemble", True)
    assert not read_instruction(message(write_instruction(Instruction("run", 3)))).evaluating


def test_an_answer_survives_the_message():
    sums = Sums.zero(KINDS) + Sums({"n": 2, "dice": Moments(2, 1.5, 1.2), "lesions_tp": 9})
    sent = Reply(
        site="a", run="r", round=2, manifest="m", weights=np.arange(3, dtype=np.float32), cases=5, loss=0.25,
        seconds=1.5, sums=sums, included={"train": 5}, excluded={"empty_mask": 1},
        labelled={"receptor-status/er": 4}, classes={"er/positive": 4, "er/negative": FEW},
        skipped=1, versions={"torch": (2, 13, 0), "monai": ()}, evaluation_skipped=4, evaluation_seconds=0.5,
    )  # fmt: skip
    got = read_reply(message(write_reply(sent)), CONFIG, task="lesion-segmentation")
    assert got.sums == sums
    assert np.array_equal(got.weights, sent.weights)
    assert (got.site, got.round, got.cases, got.loss) == ("a", 2, 5, 0.25)
    assert (got.included, got.excluded) == ({"train": 5}, {"empty_mask": 1})
    assert (got.labelled, got.classes) == (sent.labelled, sent.classes)
    assert (got.skipped, got.versions) == (sent.skipped, sent.versions)
    evaluated = got.evaluation()
    assert (evaluated.sums, evaluated.cases, evaluated.skipped, evaluated.seconds) == (sums, 2, 4, 0.5)
    assert (evaluated.site, evaluated.run, evaluated.round, evaluated.weights) == ("a", "r", 2, None)


FACTS = SiteFacts(phantom=True, cases=7, labelled={"receptor-status": 6, "receptor-status/er": FEW}, disk_mb=5)


def test_what_sites_tell_of_themselves_survives_the_message():
    sent = Reply("", "r", 0, sites=(0, 1), facts={0: FACTS, 1: SiteFacts()})
    assert read_reply(message(write_reply(sent)), CONFIG, task="lesion-segmentation").facts == sent.facts


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("facts.0.phantom", 2),
        ("facts.0.phantom", None),
        ("facts.0.cases", -2),
        ("facts.0.cases", 0.5),
        ("facts.0.memory_mb", -1),
        ("facts.0.disk_mb", 2**63 - 1),
        ("facts.0.labelled.JANE DOE", 3),
        ("facts.0.labelled.receptor-status", -2),
        ("facts.0.JANE", 3),
        ("facts.JANE.cases", 3),
        ("facts.-1.cases", 3),
    ],
)
def test_what_a_site_cannot_tell_of_itself_is_refused(name, value):
    records = write_reply(Reply("", "r", 0, sites=(0,), facts={0: FACTS}))
    numbers = dict(records["numbers"]) | {name: value}
    records["numbers"] = MetricRecord({key: item for key, item in numbers.items() if item is not None})
    with pytest.raises(UpdateError, match="not the agreed form") as caught:
        read_reply(message(records), CONFIG, task="lesion-segmentation")
    assert "JANE" not in str(caught.value)


def test_tissue_sums_survive_the_message_and_are_no_other_tasks():
    tissues = task_named("breast-segmentation")
    row = {"dice_breast": 0.9, "dice_fibroglandular": 0.5, "density_percent": 10.0, "reference_density_percent": 12.5}
    sums = Sums.zero(tissues.kinds) + tissues.sums(row) + tissues.sums(row | {"density_percent": None})
    sent = Reply(site="a", run="r", round=1, sums=sums, labelled={"breast-segmentation": 3})
    got = read_reply(message(write_reply(sent)), CONFIG, task="breast-segmentation")
    assert (got.sums, got.labelled) == (sums, sent.labelled)
    for task in ("lesion-segmentation", "subtype-ensemble"):
        with pytest.raises(UpdateError, match="not the agreed form"):
            read_reply(message(write_reply(sent)), CONFIG, task=task)


@pytest.mark.parametrize("name", TASKS)
def test_the_sums_of_every_task_survive_the_message_also_those_of_no_case(name):
    zero = Sums.zero(task_named(name).kinds)
    got = read_reply(message(write_reply(Reply("a", "r", 1, sums=zero))), CONFIG, task=name)
    assert got.sums == zero


def test_sums_of_which_a_part_is_missing_are_not_the_agreed_form():
    records = write_reply(Reply("a", "r", 1, sums=Sums.zero(KINDS)))
    numbers = dict(records["numbers"])
    del numbers["sums.dice.total"]
    records["numbers"] = MetricRecord(numbers)
    with pytest.raises(UpdateError, match="not the agreed form"):
        read_reply(message(records), CONFIG, task="lesion-segmentation")


def fingerprint_records():
    return write_reply(Reply(site="a", run="r", round=0, fingerprints={"mri": SiteFingerprint.empty(3)}))


def test_a_fingerprint_of_each_modality_survives_the_message():
    got = read_reply(message(fingerprint_records()), CONFIG, task="lesion-segmentation")
    assert dict(got.fingerprints) == {"mri": SiteFingerprint.empty(3)}
    bare = read_reply(message(write_reply(Reply("a", "r", 0))), CONFIG, task="lesion-segmentation")
    assert not bare.fingerprints


@pytest.mark.parametrize("word", ["fingerprint.JANE DOE.cases", "fingerprint.mri.JANE DOE", "fingerprint.cases"])
def test_a_fingerprint_of_no_known_modality_or_form_is_refused(word):
    records = fingerprint_records()
    records["numbers"] = MetricRecord({**records["numbers"], word: [1]})
    with pytest.raises(UpdateError, match="agreed form") as caught:
        read_reply(message(records), CONFIG, task="lesion-segmentation")
    assert "JANE" not in str(caught.value)


def test_a_plan_of_no_known_modality_is_refused():
    sent = write_instruction(Instruction("run", 1, {"JANE": PLAN}))
    with pytest.raises(ConfigError, match="unknown modality is named; there are mri") as caught:
        read_instruction(message(sent))
    assert "JANE" not in str(caught.value)


def test_a_plan_out_of_its_bounds_is_refused_at_the_site():
    sent = write_instruction(Instruction("run", 1, {"mri": PLAN.model_copy(update={"spacing_mm": (0.01, 1.0, 1.0)})}))
    with pytest.raises(UpdateError, match="the server's preprocessing plan is not within its bounds"):
        read_instruction(message(sent))


@pytest.mark.parametrize(
    "arrays",
    [
        {"flat": np.ones(3, np.float64)},
        {"flat": np.ones((3, 1), np.float32)},
        {"flat": np.ones(3, np.int64)},
        {"other": np.ones(3, np.float32)},
        {"flat": np.ones(3, np.float32), "extra": np.ones(1, np.float32)},
    ],
    ids=["float64", "matrix", "integers", "other key", "extra key"],
)
def test_scenario_40_weights_of_another_form_are_refused(arrays):
    records = write_reply(Reply(site="a", run="r", round=1))
    records["weights"] = ArrayRecord({name: Array(value) for name, value in arrays.items()})
    with pytest.raises(UpdateError, match="weights must be one"):
        read_reply(message(records), CONFIG, task="lesion-segmentation")


def test_scenario_47_a_pickle_is_never_deserialised():
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle from outside was loaded",))

    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb()], dtype=object), allow_pickle=True)
    records = write_reply(Reply(site="a", run="r", round=1))
    array = Array(dtype="float32", shape=(1,), stype="numpy.ndarray", data=buffer.getvalue())
    records["weights"] = ArrayRecord({"flat": array})
    with pytest.raises(UpdateError, match=r"agreed form|come in"):
        read_reply(message(records), CONFIG, task="lesion-segmentation")


def array_message(shape, data):
    records = write_reply(Reply(site="a", run="r", round=1))
    records["weights"] = ArrayRecord({"flat": Array(dtype="float32", shape=shape, stype="numpy.ndarray", data=data)})
    return message(records)


def npy(shape, values=b""):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue() + values


@pytest.mark.parametrize(
    ("said", "data"),
    [((10**13,), npy((10**13,))), ((2,), npy((10**13,), bytes(8))), ((10**13,), npy((2,), bytes(8)))],
    ids=["both", "the bytes' own header", "Flower's header"],
)
def test_scenario_64_a_header_that_claims_terabytes_takes_no_memory(said, data):
    tracemalloc.start()
    try:
        with pytest.raises(UpdateError, match="come in"):
            read_reply(array_message(said, data), CONFIG, task="lesion-segmentation")
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


@given(shape=st.lists(st.integers(-5, 10**15), max_size=2), data=st.binary(max_size=300), cut=st.integers(0, 200))
@settings(max_examples=200, deadline=None)
def test_scenario_5_bytes_of_any_kind_are_refused_as_an_answer_and_break_nothing(shape, data, cut):
    for sent in (data, npy((2,), bytes(8))[:cut], npy((3,), bytes(12))[:cut] + data):
        with suppress(UpdateError):
            got = read_reply(array_message(tuple(shape), sent), CONFIG, task="lesion-segmentation")
            assert got.weights.nbytes + 128 == len(sent)


def test_a_sites_error_is_a_line_of_limited_length_without_control_characters():
    sent = Reply(site="a", run="r", round=1, error="\x1b[2J\nlost" + "x" * 20000)
    error = read_reply(message(write_reply(sent)), CONFIG, task="lesion-segmentation").error
    shown = r"\x1b[2J\nlost"
    assert error == shown + "x" * (200 - len(shown))


def test_no_word_of_an_answer_or_a_question_holds_a_control_character():
    words = "a\x1b[2J\x07\x9b\u202e\u2066\u2028"
    shown = r"a\x1b[2J\x07\x9b\u202e\u2066\u2028"
    reply = read_reply(message(write_reply(Reply(words, words, 1, words, error=words))), CONFIG, "lesion-segmentation")
    assert (reply.site, reply.run, reply.manifest, reply.error) == (shown,) * 4
    sent = Instruction(words, 1, split=words, manifest=words, site=words, task=words)
    got = read_instruction(message(write_instruction(sent)))
    assert (got.run, got.split, got.manifest, got.site, got.task) == (shown,) * 5


@pytest.mark.parametrize("change", ["missing", "text", "fraction", "bool"])
def test_scenario_41_counts_that_are_no_counts_are_refused(change):
    records = write_reply(Reply(site="a", run="r", round=1, cases=4))
    numbers = dict(records["numbers"])
    if change == "missing":
        del numbers["cases"]
        records["numbers"] = MetricRecord(numbers)
    elif change == "text":
        records["numbers"] = ConfigRecord({"cases": "4"})
    else:
        records["numbers"] = MetricRecord({**numbers, "cases": 4.5 if change == "fraction" else [1, 2]})
    with pytest.raises(UpdateError, match="agreed form"):
        read_reply(message(records), CONFIG, task="lesion-segmentation")


def test_the_reason_of_a_crashed_site_is_not_passed_on():
    failed = Message(Error(code=1, reason="ValueError: JANE DOE"), reply_to=message(RecordDict()))
    with pytest.raises(UpdateError) as caught:
        read_reply(failed, CONFIG, task="lesion-segmentation")
    assert "DOE" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (ErrorCode.INVALID_FAB, "has not approved the app"),
        (ErrorCode.NODE_UNAVAILABLE, "connection was lost"),
        (ErrorCode.MESSAGE_UNAVAILABLE, "upload broke off"),
        (ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "process failed \\(Flower error 2\\)"),
    ],
)
def test_flowers_codes_of_a_failure_are_told_in_words(code, words):
    failed = Message(Error(code=code, reason=""), reply_to=message(RecordDict()))
    with pytest.raises(UpdateError, match=words):
        read_reply(failed, CONFIG, task="lesion-segmentation")


def test_a_librarys_text_never_becomes_an_answer():
    assert safe_error(ValueError("JANE DOE")) == "ValueError"
    assert safe_error(ConfigError("unknown key 'x'")) == "ConfigError: unknown key 'x'"


@pytest.mark.parametrize("path", ["/mnt/DOE^JANE/x", "'/mnt/DOE'", "C:\\DOE\\x"])
def test_a_message_that_names_a_path_stays_at_the_site(path):
    assert "DOE" not in safe_error(RunError(f"site folder {path} has no site.toml and/or cases.csv"))
    assert "and/or" in safe_error(RunError("write site.toml and/or cases.csv"))


def test_the_configuration_travels_with_the_instruction():
    config = parse_config({"name": "t", "seed": 7, "data": {"root": "d", "sites": ["a", "b"]}}, "t")
    got = read_instruction(message(write_instruction(Instruction("run", 0, site="b", config=config))))
    assert (got.config, got.site) == (config, "b")


def test_weights_are_packed_once_for_all_sites():
    sent = Instruction("run", 1, weights=np.arange(5, dtype=np.float32), manifest="m")
    packed = write_instructions(sent, ["a", "b"])
    assert packed["a"]["weights"] is packed["b"]["weights"]
    got = {name: read_instruction(message(records)) for name, records in packed.items()}
    assert {name: item.site for name, item in got.items()} == {"a": "a", "b": "b"}
    assert all(np.array_equal(item.weights, sent.weights) for item in got.values())


@pytest.mark.parametrize("word", ["excluded.JANE DOE", "included.JANE DOE", "labelled.JANE DOE", "classes.JANE DOE"])
def test_a_word_of_a_site_that_is_in_no_closed_list_is_refused(word):
    records = write_reply(Reply(site="a", run="r", round=1))
    records["numbers"] = MetricRecord({**records["numbers"], word: 1})
    with pytest.raises(UpdateError, match="agreed form") as caught:
        read_reply(message(records), CONFIG, task="lesion-segmentation")
    assert "JANE" not in str(caught.value)
