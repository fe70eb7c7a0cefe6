import threading
from types import SimpleNamespace

import numpy as np
import pytest

from shared.preprocessing.cache import content_digest, entry_name, get_or_make
from shared.preprocessing.store import open_array


def test_dicom_files_count_by_content_alone(tmp_path):
    def digest(*contents):
        files = []
        for number, content in enumerate(contents):
            files.append(tmp_path / f"{number}.dcm")
            files[-1].write_bytes(content)
        row = SimpleNamespace(side="left", mask="", acquisition_times_s=None)
        return content_digest(SimpleNamespace(row=row, mask_path=lambda: None), files)

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
