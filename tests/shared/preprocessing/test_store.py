"""Folders of arrays: complete or absent, whatever happens on the way."""

import threading

import numpy as np
import pytest

from shared.errors import RunError
from shared.preprocessing import store
from shared.preprocessing.store import entry_lock, open_array, pack_mask, read_entry, unpack_mask, write_entry

ARRAYS = {"image": np.arange(24, dtype=np.float16).reshape(2, 3, 4), "mask": np.ones(5, np.uint8)}


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

    monkeypatch.setattr(store.np, "save", full)
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
