"""Where a downloaded collection's images lie; what is missing is named, and no entry of the folder is."""

import pytest

from shared.cohort.importers.tcia import image_folder
from shared.errors import SiteError


@pytest.mark.parametrize("place", ["SET", "manifest-1616439774456/SET"])
def test_images_lie_beside_the_tables_or_in_the_downloaders_folder(tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / "table.csv").touch()
    assert image_folder(tmp_path, "SET", ["table.csv"]).as_posix() == place


def test_what_is_missing_is_named(tmp_path):
    (tmp_path / "SMITH^JOHN").mkdir()
    (tmp_path / "one.csv").touch()
    with pytest.raises(SiteError, match=r"lacks two\.csv, the folder SET \(entries there: 2\); the tables,") as caught:
        image_folder(tmp_path, "SET", ["one.csv", "two.csv"])
    assert "SMITH" not in str(caught.value)
    (tmp_path / "SET").touch()  # a file is no folder
    with pytest.raises(SiteError, match=r"lacks the folder SET \("):
        image_folder(tmp_path, "SET", ["one.csv"])


@pytest.mark.parametrize("given", [".", "SET/manifest-1", "SET/manifest-1/SET"])
def test_the_folder_above_or_below_that_was_meant_is_named(tmp_path, given):
    whole = tmp_path / "SET"  # what was unpacked often lies in a folder of its own name
    (whole / "manifest-1" / "SET" / "SMITH^JOHN").mkdir(parents=True)
    (whole / "table.csv").touch()
    with pytest.raises(SiteError, match=rf"lacks .*; {whole} has all of it: name that folder") as caught:
        image_folder(tmp_path / given, "SET", ["table.csv"])
    assert "SMITH" not in str(caught.value)
    assert image_folder(whole, "SET", ["table.csv"]).as_posix() == "manifest-1/SET"


def test_a_collection_in_parts_is_refused(tmp_path):
    for place in ("manifest-1/SET", "manifest-2/SET"):
        (tmp_path / place).mkdir(parents=True)
    with pytest.raises(SiteError, match="holds SET 2 times; move all of it into one folder SET"):
        image_folder(tmp_path, "SET", [])
