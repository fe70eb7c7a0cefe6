"""What a site tells of itself before any image is read: its table's counts, as its policy lets it."""

import pytest

from client import local_round
from shared.config.run_config import parse_config
from shared.errors import TableError
from shared.messages.instruction_reply import Instruction
from shared.messages.payload import FEW
from shared.policy import Policy
from shared.site_facts import site_facts

TASK = "lesion-segmentation"
TWO_TASKS = parse_config(
    {"name": "t", "tasks": [TASK, "breast-segmentation", "receptor-status"], "data": {"root": "d", "sites": ["north"]}},
    "t",
)


@pytest.fixture
def ward(tmp_path, monkeypatch):
    """A hospital's folder of eight cases, six with ER, two with HER2, one with both masks of tissues; no image."""
    monkeypatch.setenv("FEDBREAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "ward"
    folder.mkdir()
    rows = [f"P{n},left,m,{'positive' if n < 6 else ''},{'3+' if n < 2 else ''}" for n in range(8)]
    rows = [f"{row},{'b,f' if n == 0 else 'b,' if n == 1 else ','}" for n, row in enumerate(rows)]
    header = "patient_id,side,mask,er,her2,breast_mask,fibroglandular_mask"
    (folder / "cases.csv").write_text("\n".join([header, *rows, ""]))
    (folder / "site.toml").write_text('[site]\nname = "north"\n')
    return folder


def test_a_site_tells_what_its_table_has_as_far_as_its_policy_lets_it(ward):
    told = site_facts(ward, TWO_TASKS, Policy())
    assert (told.phantom, told.cases) == (False, 8)
    assert told.labelled == {
        TASK: 8, "breast-segmentation": FEW, "receptor-status": 6,
        "receptor-status/er": 6, "receptor-status/pr": 0, "receptor-status/her2": FEW,
    }  # fmt: skip
    assert told.disk_mb > 0
    assert told.memory_mb > 0
    (ward / "site.toml").write_text('[site]\nname = "north"\nkind = "phantom"\n')
    hidden = site_facts(ward, TWO_TASKS, Policy(least_patients=9))
    assert hidden.phantom
    assert {hidden.cases, *hidden.labelled.values()} == {FEW, 0}


def test_a_node_that_holds_several_sites_tells_of_those_that_can_be_read(ward, tmp_path, caplog):
    config = parse_config({"name": "t", "data": {"root": "d", "sites": ["south", "north"]}}, "t")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "site.toml").write_text('[site]\nname = "south"\n')
    (tmp_path / "broken" / "cases.csv").write_text("patient_id,side\nJANE-DOE,up\n")
    with pytest.raises(TableError):
        site_facts(tmp_path / "broken", config)
    reply = local_round.register(Instruction("r", 0, config=config), {"south": tmp_path / "broken", "north": ward})
    assert reply.sites == (0, 1)
    assert set(reply.facts) == {1}
    assert reply.facts[1].cases == 8
    assert "south cannot tell what it has" in caplog.text
    assert "JANE" not in caplog.text
