"""The disks of the tests: what is written while one is stalled arrives when it goes on."""

import os
import signal
import time

from tests.mounts import own_disk, stalled


def test_who_writes_to_a_stalled_disk_waits_until_it_goes_on(tmp_path):
    with own_disk(tmp_path / "disk", tmp_path / "image", "16M") as disk:
        (disk / "before").write_text("there")
        with stalled(disk):
            if (writer := os.fork()) == 0:
                (disk / "meanwhile").write_text("late")
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.5)
            assert os.waitpid(writer, os.WNOHANG) == (0, 0)
            assert (disk / "before").read_text() == "there"
        os.waitpid(writer, 0)
        assert (disk / "meanwhile").read_text() == "late"
