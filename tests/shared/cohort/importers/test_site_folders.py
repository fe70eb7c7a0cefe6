"""Site folders from an importer's rows: read back as the project does, pointing at images that stay where they are."""

import csv
import tomllib

import pytest

from shared.cohort.importers import ImportedRow, Importer, LeftOut
from shared.cohort.importers.site_folders import import_dataset, site_name
from shared.cohort.manifest import read_manifest
from shared.cohort.site_folder import open_site_folder
from shared.errors import SiteError, TableError


def read(root):
    """A made dataset: `list.csv` with id, site and side; images below `images/`."""
    if not (root / "list.csv").is_file():
        raise SiteError(f"{root} has no list.csv")
    with (root / "list.csv").open(newline="") as stream:
        for line in csv.DictReader(stream):
            if not line["side"]:
                yield LeftOut("no side")
                continue
            cells = {"patient_id": line["id"], "side": line["side"], "path": f"images/{line['id']}", "er": line["er"]}
            yield ImportedRow(line["site"], cells)


MADE = Importer("made", "Made set", "CC0", "nowhere", "list.csv beside images/", read)


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / "download"
    for name in ("p1", "p2", "p3"):
        (root / "images" / name).mkdir(parents=True)
    (root / "list.csv").write_text("id,site,side,er\np1,AAN ,left,1\np2,Site B,right,0\np3,AAN ,right,\np4,AAN ,,1\n")
    return root


def test_each_centre_becomes_a_site_that_points_at_the_images(dataset, tmp_path):
    before = sorted(path for path in dataset.rglob("*"))
    imported = import_dataset(MADE, dataset, tmp_path / "sites")
    assert (dict(imported.cases), dict(imported.left_out)) == ({"aan": 2, "site-b": 1}, {"no side": 1})
    site = open_site_folder(tmp_path / "sites" / "aan")
    assert (site.name, site.images) == ("aan", dataset.resolve())
    rows = read_manifest(site.path, site.images)
    assert [(row.patient_id, row.side, row.er) for row in rows] == [("p1", "left", True), ("p3", "right", None)]
    assert all((site.images / row.path).is_dir() for row in rows)
    assert sorted(path for path in dataset.rglob("*")) == before
    assert {path.name for path in (tmp_path / "sites" / "aan").iterdir()} == {"site.toml", "cases.csv"}
    assert tomllib.loads((tmp_path / "sites" / "aan" / "site.toml").read_text())["site"]["kind"] == "hospital"


def test_a_wrong_folder_says_what_was_expected(tmp_path):
    with pytest.raises(SiteError, match=r"does not exist; Made set is expected there: list\.csv beside images/"):
        import_dataset(MADE, tmp_path / "absent", tmp_path / "sites")
    (tmp_path / "set.zip").touch()
    with pytest.raises(SiteError, match="is a file; unpack it and name the folder; Made set is expected there"):
        import_dataset(MADE, tmp_path / "set.zip", tmp_path / "sites")
    (tmp_path / "list.csv").write_text("id,site,side,er\n")
    with pytest.raises(SiteError, match=r"holds no case of Made set; expected there: list\.csv"):
        import_dataset(MADE, tmp_path, tmp_path / "sites")
    (tmp_path / "list.csv").write_text("id,site,side,er\np1,A,,1\n")
    with pytest.raises(SiteError, match=r"holds no case of Made set; left out: 1 \(no side\); expected there"):
        import_dataset(MADE, tmp_path, tmp_path / "sites")


def test_nothing_that_is_there_is_overwritten(dataset, tmp_path):
    import_dataset(MADE, dataset, tmp_path / "sites")
    with pytest.raises(SiteError, match="already holds aan, site-b"):
        import_dataset(MADE, dataset, tmp_path / "sites")


def test_a_table_that_check_would_refuse_is_refused_at_once(dataset, tmp_path):
    (dataset / "list.csv").write_text("id,site,side,er\np1,A,left,perhaps\n")
    with pytest.raises(TableError, match="er"):
        import_dataset(MADE, dataset, tmp_path / "sites")


@pytest.mark.parametrize(
    ("centre", "name"),
    [("AAN ", "aan"), ("(I-SPY2, UCSF)", "i-spy2-ucsf"), ("***", "centre"), ("x" * 40, "x" * 32)],
)
def test_a_centre_gets_a_name_that_a_federation_takes(centre, name):
    assert site_name(centre) == name


def test_images_elsewhere_need_an_absolute_path_that_exists(dataset, tmp_path):
    import_dataset(MADE, dataset, tmp_path / "sites")
    file = tmp_path / "sites" / "aan" / "site.toml"
    file.write_text('[site]\nname = "aan"\nimages = "download"\n')
    with pytest.raises(SiteError, match="needs an absolute path"):
        open_site_folder(file.parent)
    file.write_text(f'[site]\nname = "aan"\nimages = "{tmp_path / "gone"}"\n')
    with pytest.raises(SiteError, match="does not exist here"):
        open_site_folder(file.parent)
