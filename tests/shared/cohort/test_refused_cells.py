import pytest

from shared.cohort.refused_cells import keeping_the_cell
from shared.errors import TableError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refuse(folder, cell):
    with pytest.raises(TableError) as caught, keeping_the_cell(folder):
        raise TableError("not understood", file="cases.csv", row=4, column="er", cell=cell)
    return caught.value


def test_the_cell_lies_in_a_file_for_its_owner_alone_and_the_message_names_that(tmp_path, cache):
    error = refuse(tmp_path / "site", "Erika Muster\x1b[2J")
    (file,) = (cache / "logs").iterdir()
    assert str(file) in str(error)
    assert "Erika" not in str(error)
    assert file.read_text() == "row 4, column 'er': Erika Muster\\x1b[2J\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert (error.row, error.column) == (4, "er")


def test_it_goes_once_the_table_is_read_and_another_sites_stays(tmp_path, cache):
    refuse(tmp_path / "one", "x")
    refuse(tmp_path / "two", "y")
    with keeping_the_cell(tmp_path / "one"):
        pass
    assert [path.read_text() for path in (cache / "logs").iterdir()] == ["row 4, column 'er': y\n"]


def test_a_fault_of_no_cell_writes_nothing(tmp_path, cache):
    assert "never leaves" not in str(refuse(tmp_path / "site", ""))
    assert not (cache / "logs").exists()
