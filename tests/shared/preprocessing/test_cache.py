"""The cache's entries: made once, complete or absent, whatever happens on the way."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from shared.errors import RunError
from shared.preprocessing import cache
from shared.preprocessing.cache import (
    content_digest,
    entry_lock,
    entry_name,
    get_or_make,
    open_array,
    pack_mask,
    read_entry,
    unpack_mask,
    write_entry,
)

ARRAYS = {"image": np.arange(24, dtype=np.float16).reshape(2, 3, 4), "mask": np.ones(5, np.uint8)}


def test_dicom_files_count_by_content_alone(tmp_path):
    def digest(*contents):
        files = []
        for number, content in enumerate(contents):
            files.append(tmp_path / f"{number}.dcm")
            files[-1].write_bytes(content)
        row = SimpleNamespace(side="left", mask="", acquisition_times_s=None)
        return content_digest(SimpleNamespace(row=row, mask_files=list), files)

    assert digest(b"one", b"two", b"three") == digest(b"three", b"one", b"two")
    assert digest(b"one", b"two") != digest(b"one", b"twO")


@pytest.mark.parametrize("damage", ["bytes", "facts", "lost"])
def test_an_entry_is_made_once_and_anew_where_it_is_damaged(tmp_path, damage):
    folder, made = tmp_path / "kind" / entry_name("a", "b"), []

    def make():
        made.append(1)
        return {"values": np.arange(3)}, {"sides": (1, 2)}

    # The facts of the first call are what a later one reads: JSON has no tuples.
    assert [get_or_make(tmp_path, folder, make) for _ in range(2)] == [{"sides": [1, 2]}] * 2
    assert len(made) == 1
    if damage == "lost":
        (folder / "values.npy").unlink()
    else:
        (folder / ("meta.json" if damage == "facts" else "values.npy")).write_bytes(b"torn")
    assert get_or_make(tmp_path, folder, make) == {"sides": [1, 2]}
    assert open_array(folder, "values").tolist() == [0, 1, 2]
    assert len(made) == 2


def test_several_at_once_make_an_entry_once(tmp_path):
    made, barrier = [], threading.Barrier(4)

    def work():
        barrier.wait()
        get_or_make(tmp_path, tmp_path / "kind" / "entry", lambda: ({"values": np.ones(made.append(1) or 1)}, {}))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert made == [1]


def test_the_name_depends_on_every_part_and_their_order():
    assert len({entry_name("a", "b"), entry_name("b", "a"), entry_name("a"), entry_name("a", "c")}) == 4


def test_an_entry_comes_back_as_it_was(tmp_path):
    folder = tmp_path / "cases" / "a"
    write_entry(folder, ARRAYS, {"seconds": 1.5, "shape": (1, 2)})
    assert read_entry(folder) == {"seconds": 1.5, "shape": [1, 2]}
    image = open_array(folder, "image")
    assert isinstance(image, np.memmap)
    assert not image.flags.writeable
    np.testing.assert_array_equal(image, ARRAYS["image"])


def test_a_second_entry_replaces_the_first_completely(tmp_path):
    write_entry(tmp_path / "a", ARRAYS, {"n": 1})
    write_entry(tmp_path / "a", {"image": ARRAYS["image"] + 1}, {"n": 2})
    assert read_entry(tmp_path / "a") == {"n": 2}
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["image.npy", "meta.json"]


@pytest.mark.parametrize("damage", ["flip", "cut", "lose", "facts"])
def test_a_damaged_entry_is_no_entry(tmp_path, damage):
    folder = tmp_path / "a"
    write_entry(folder, ARRAYS, {})
    path = folder / ("meta.json" if damage == "facts" else "image.npy")
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
    path.write_bytes(data[:-3] if damage in {"cut", "facts"} else data)
    if damage == "lose":
        path.unlink()
    assert read_entry(folder) is None


def test_a_write_that_fails_leaves_the_old_entry_and_no_rest(tmp_path, monkeypatch):
    write_entry(tmp_path / "a", ARRAYS, {"n": 1})

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.np, "save", full)
    with pytest.raises(RunError, match="space"):
        write_entry(tmp_path / "a", ARRAYS, {"n": 2})
    assert read_entry(tmp_path / "a") == {"n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_lock_keeps_others_out(tmp_path):
    order = []

    def second():
        with entry_lock(tmp_path, tmp_path / "cases" / "a"):
            order.append("second")

    with entry_lock(tmp_path, tmp_path / "cases" / "a"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 1, 1), (2, 4, 8)])
def test_a_packed_mask_comes_back(shape):
    mask = np.random.default_rng(0).random(shape) > 0.5
    bits = pack_mask(mask)
    assert bits.nbytes == -(-mask.size // 8)
    np.testing.assert_array_equal(unpack_mask(bits, shape), mask)
