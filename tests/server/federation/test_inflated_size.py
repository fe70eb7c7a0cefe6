"""What an answer becomes in memory is reckoned before it is put together; against the bytes that were sent."""

import json

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_id
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from server.federation.inflated_size import MOST_WORDS, check_inflated
from shared.errors import UpdateError
from shared.messages.instruction_reply import Reply
from shared.messages.records import write_reply
from shared.modalities.mri.fingerprint import SiteFingerprint
from tests.memory import peak_mb

pytestmark = pytest.mark.usefixtures("flower_task")


def contents(records):
    message = Message(records, dst_node_id=1, message_type="train")
    return message.object_id, {name: item.deflate() for name, item in get_all_nested_objects(message).items()}


def flat(values):
    return RecordDict({"weights": ArrayRecord({"flat": Array(np.arange(values, dtype=np.float32))})})


def an_object(kind, children, body):
    """One object as Flower writes it, and its identifier."""
    content = f"{kind} {','.join(children)} {len(body)}\0".encode() + body
    return get_object_id(content), content


def bomb(times, chunk=4_900_000):
    """An answer of one chunk that its array names so often."""
    parts = {}

    def put(kind, children, body):
        name, content = an_object(kind, children, body)
        parts[name] = content
        return name

    piece = put("ArrayChunk", [], bytes(chunk))
    facts = {"dtype": "float32", "shape": [times], "stype": "numpy.ndarray", "arraychunk_ids": [0] * times}
    array = put("Array", [piece], json.dumps(facts).encode())
    record = put("ArrayRecord", [array], json.dumps({"flat": array}).encode())
    return put("RecordDict", [record], json.dumps({"weights": record}).encode()), parts


def test_the_bomb_is_of_flowers_form():
    root, parts = bomb(3, chunk=100)
    answer = inflate_object_from_contents(root, parts)
    assert len(answer["weights"]["flat"].data) == 300


@pytest.mark.parametrize(("values", "most"), [(3_000_000, 12_000_128), (10, 168)])
def test_honest_weights_pass_up_to_their_own_size_with_a_header(values, most):
    _, parts = contents(flat(values))
    chunks = sum(len(item) for item in parts.values() if item.startswith(b"ArrayChunk"))
    check_inflated(parts, chunks)
    with pytest.raises(UpdateError, match="its weights would be"):
        check_inflated(parts, values * 4)
    assert chunks <= most + 64


def test_equal_chunks_count_as_often_as_they_are_named():
    _, parts = contents(RecordDict({"weights": ArrayRecord({"flat": Array(np.zeros(30_000_000, np.float32))})}))
    assert sum(map(len, parts.values())) < 30_000_000  # zeros travel once
    check_inflated(parts, 121_000_000)
    with pytest.raises(UpdateError):
        check_inflated(parts, 119_000_000)


def test_a_chunk_that_is_named_many_times_takes_no_memory():
    setup = """
        from tests.server.federation.test_inflated_size import bomb
        from server.federation.inflated_size import check_inflated
        # In the last, the list of chunks alone is not too long.
        bombs = [bomb(times)[1] for times in (400, 2_000_000, 300_000)]
    """
    code = """
        from shared.errors import UpdateError
        for parts in bombs:
            try:
                check_inflated(parts, 32 << 20)
            except UpdateError:
                continue
            raise SystemExit("not refused")
    """
    assert peak_mb(setup, code) < 100


def test_words_of_sixteen_megabytes_are_refused_before_they_are_read():
    for record in (
        ConfigRecord({"error": "x" * (16 << 20)}),
        MetricRecord({"cases": [1] * (1 << 20)}),
        ConfigRecord({f"{number:0100}": "" for number in range(20_000)}),
    ):
        _, parts = contents(RecordDict({"header": record}))
        with pytest.raises(UpdateError, match="beside the weights"):
            check_inflated(parts, 1 << 40)


def test_the_longest_honest_answer_is_a_tenth_of_what_is_taken():
    fingerprint = SiteFingerprint.empty(8)
    for name in fingerprint.__slots__:
        getattr(fingerprint, name)[:] = 10**15
    reply = Reply("s" * 256, "r" * 256, 1, "m" * 256, error="e" * 200, fingerprints={"mri": fingerprint})
    _, parts = contents(write_reply(reply))
    assert sum(map(len, parts.values())) < MOST_WORDS / 10
    check_inflated(parts, 0)
