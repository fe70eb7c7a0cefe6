import shutil
import threading
import time

from shared.runtime import flower_home
from shared.runtime.flower_home import fresh_home


def test_every_start_has_a_home_of_its_own(tmp_path):
    first = fresh_home(tmp_path)
    (first / "config.toml").write_text("")
    shutil.rmtree(first)
    second = fresh_home(tmp_path)
    assert second != first
    assert list(second.iterdir()) == []
    assert second.stat().st_mode & 0o077 == 0


def test_a_start_waits_until_the_guard_of_a_killed_one_has_removed_its_home(tmp_path):
    old = fresh_home(tmp_path)
    threading.Timer(0.5, shutil.rmtree, (old,)).start()
    started = time.monotonic()
    fresh_home(tmp_path)
    assert 0.4 < time.monotonic() - started < 5


def test_what_a_killed_guard_left_is_removed_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(flower_home, "_GUARD_S", 0.2)
    old = fresh_home(tmp_path)
    (old / "config.toml").write_text("")
    found = fresh_home(tmp_path)
    assert list(tmp_path.iterdir()) == [found]
