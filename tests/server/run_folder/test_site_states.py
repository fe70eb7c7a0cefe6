"""Where each site stands: the time of its last change, and what the end of a run makes of it."""

import json

from server.run_folder.site_states import SiteStates

SITES = ("a", "b")


def test_states_keep_the_time_of_their_change_and_the_absent_do_not_end_as_done(tmp_path):
    def read():
        return json.loads((tmp_path / "sites.json").read_text())["sites"]

    states = SiteStates(tmp_path, SITES)
    assert {item["state"] for item in read().values()} == {"absent"}
    states.change({"a": ("training", "")})
    first = (tmp_path / "sites.json").stat().st_mtime_ns, read()["a"]["since"]
    states.change({"a": ("training", "")})
    assert ((tmp_path / "sites.json").stat().st_mtime_ns, read()["a"]["since"]) == first  # nothing to write
    states.change({"a": ("connected", "weights are not finite")})
    assert read()["a"]["since"] > first[1]
    states.finish()
    assert {name: item["state"] for name, item in read().items()} == {"a": "done", "b": "absent"}
