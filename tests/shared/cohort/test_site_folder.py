"""Opening a site folder: wrong folders named with the remedy, pseudonyms, the key that never leaves."""

import codecs
import errno
import hashlib
import hmac
import os
import pwd
import re
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.cohort.manifest import read_manifest
from shared.cohort.site_folder import _PHANTOM_RECORDS, open_site_folder, pseudonym
from shared.errors import SiteError
from shared.phantom.marker import RECORDS

ROWS = ("patient_id,exam,side", "SECRET1,20210203,left", "SECRET1,20210203,right", "SECRET1,20220101,left", "P2,,left")


def fault(path):
    with pytest.raises(SiteError) as caught:
        open_site_folder(path)
    return str(caught.value)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBREAST_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_site_folder_is_opened(site):
    site.settings('[site]\nname = "north"\nkind = "phantom"\n')
    opened = open_site_folder(site.table(*ROWS))
    assert (opened.name, opened.kind) == ("north", "phantom")


def test_a_policy_of_before_is_refused_with_its_new_place_and_a_phantoms_is_passed_over(site):
    former = "[policy]\nmax_excluded_share = 0.25\nleast_count = 3\n"
    site.settings(f'[site]\nname = "north"\nkind = "phantom"\n{former}')
    assert open_site_folder(site.table(*ROWS)).kind == "phantom"
    site.settings(f'[site]\nname = "north"\n{former}')
    with pytest.raises(SiteError, match=r"stands in the kit's node\.toml now, with 'least_patients'"):
        open_site_folder(site.table(*ROWS))


def test_a_phantom_is_known_by_its_settings_or_by_what_its_generator_left(site, tmp_path):
    assert RECORDS == _PHANTOM_RECORDS
    assert not open_site_folder(site.table(*ROWS)).phantom
    (site.path / RECORDS).mkdir()
    assert open_site_folder(site.path).phantom
    (site.path / RECORDS).rmdir()
    (tmp_path / "images" / RECORDS).mkdir(parents=True)
    site.settings(f'[site]\nname = "north"\nimages = "{tmp_path / "images"}"\n')
    assert open_site_folder(site.path).phantom
    site.settings('[site]\nname = "north"\nkind = "phantom"\n')
    assert open_site_folder(site.path).phantom


def test_pseudonyms_are_keyed_hashes_safe_in_file_names(site):
    folder = open_site_folder(site.table(*ROWS))
    rows = read_manifest(site.path)
    names = [pseudonym(folder, row) for row in rows]
    key = bytes.fromhex("00112233445566778899aabbccddeeff")
    patient = hmac.new(key, b"patient\x1fSECRET1", hashlib.sha256).hexdigest()[:10]
    assert [name.startswith(f"north-{patient}-") for name in names] == [True, True, True, False]
    assert len(set(names)) == 4
    assert names[0][:-1] == names[1][:-1]
    assert all(re.fullmatch(r"north-[0-9a-f]{10}-[0-9a-f]{6}-[LR]", name) for name in names)
    assert not any("SECRET1" in name for name in names)


def test_the_key_stays_out_of_repr(site):
    folder = open_site_folder(site.table(*ROWS))
    assert "00112233" not in repr(folder)
    assert repr(folder.pseudonym_key) not in repr(folder)


def test_without_a_key_one_is_made_outside_and_found_again(site, home):
    site.settings('[site]\nname = "north"\n')
    site.table(*ROWS)
    before = sorted(site.path.rglob("*"))
    first = open_site_folder(site.path)
    assert open_site_folder(site.path / "." / "").pseudonym_key == first.pseudonym_key
    assert sorted(site.path.rglob("*")) == before
    (key,) = (home / "keys").iterdir()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_bytes() == first.pseudonym_key
    assert len(first.pseudonym_key) == 32


def test_two_sites_have_two_keys(site, home, tmp_path):
    site.settings('[site]\nname = "north"\n')
    site.table(*ROWS)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("site.toml", "cases.csv"):
        (other / name).write_bytes((site.path / name).read_bytes())
    assert open_site_folder(site.path).pseudonym_key != open_site_folder(other).pseudonym_key


def test_many_openings_at_once_share_one_key(site, home):
    site.settings('[site]\nname = "north"\n')
    site.table(*ROWS)
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: open_site_folder(site.path).pseudonym_key, range(24)))
    assert len(keys) == 1
    assert len(list((home / "keys").iterdir())) == 1


def test_a_home_without_hard_links_keeps_one_key_too(site, home, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    site.settings('[site]\nname = "north"\n')
    site.table(*ROWS)
    first = open_site_folder(site.path).pseudonym_key
    assert open_site_folder(site.path).pseudonym_key == first
    (key,) = (home / "keys").iterdir()
    assert (stat.S_IMODE(key.stat().st_mode), len(first)) == (0o600, 32)


def test_an_account_without_a_home_is_told_what_to_set(site, monkeypatch):
    """HOME is unset, and the account has no line in /etc/passwd."""

    def unknown(_):
        raise KeyError("uid not found")

    for name in ("FEDBREAST_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    site.settings('[site]\nname = "north"\n')
    site.table(*ROWS)
    with pytest.raises(SiteError, match=r"no home .* set FEDBREAST_HOME"):
        open_site_folder(site.path)


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(site, home):
    site.table(*ROWS)
    path = site.path / "site.toml"
    path.write_bytes(codecs.BOM_UTF8 + b'[site]\r\nname = "north"\r\n')
    assert open_site_folder(site.path).name == "north"


def test_a_damaged_key_is_not_replaced_silently(site, home):
    site.settings('[site]\nname = "north"\n')
    open_site_folder(site.table(*ROWS))
    (key,) = (home / "keys").iterdir()
    key.write_bytes(b"short")
    assert "damaged" in fault(site.path)


def test_a_home_inside_the_site_folder_is_refused(site, monkeypatch):
    site.settings('[site]\nname = "north"\n')
    site.table(*ROWS)
    monkeypatch.setenv("FEDBREAST_HOME", str(site.path / "home"))
    assert "only read" in fault(site.path)
    assert not (site.path / "home").exists()


def test_an_absent_folder_is_named(tmp_path):
    assert f"site folder {tmp_path / 'nowhere'} does not exist" in fault(tmp_path / "nowhere")


def test_the_parent_of_sites_names_them(site, tmp_path):
    site.table(*ROWS)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "site.toml").write_text("")
    assert "it holds 2 site folders (b, site); name one of them" in fault(tmp_path)


def test_a_folder_inside_a_site_names_the_site(site):
    site.table(*ROWS)
    (site.path / "dicom" / "SECRET1").mkdir(parents=True)
    message = fault(site.path / "dicom")
    assert f"it lies inside the site folder {site.path}; name that one" in message


def test_what_is_missing_is_named_without_listing_entries(site):
    (site.path / "SECRET1").mkdir()
    message = fault(site.path)
    assert "has no cases.csv" in message
    assert "cases.csv is missing among 2 entries" in message
    assert "SECRET1" not in message
    (site.path / "site.toml").unlink()
    assert "site.toml and cases.csv are missing" in fault(site.path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[site]\nnaem = "north"\n', "unknown key 'site.naem'; did you mean 'name'?"),
        ('[site]\nname = "north"\n[polcy]\n', "unknown key 'polcy'; did you mean 'policy'?"),
        ('[site]\nname = "north"\nzzz = 1\n', "valid here: name, pseudonym_key, kind"),
        ('[site]\nname = "North Hospital"\n', "'site.name'"),
        ("[policy]\n", "'site'"),
        ("[site\n", "not valid TOML"),
        ('[site]\nname = "north"\npseudonym_key = "beefcafe, in words"\n', "at least 32 hexadecimal digits"),
        ('[site]\nname = "north"\npseudonym_key = "beefcafe"\n', "at least 32 hexadecimal digits"),
    ],
)
def test_a_fault_in_site_toml_is_named_by_key(site, text, expected):
    site.table(*ROWS)
    site.settings(text)
    message = fault(site.path)
    assert expected in message
    assert "beefcafe" not in message


def test_a_site_toml_that_is_no_text_is_refused(site):
    site.table(*ROWS)
    (site.path / "site.toml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read as UTF-8 text" in fault(site.path)


def test_a_home_that_cannot_be_written_names_the_remedy(site, tmp_path, monkeypatch):
    site.settings('[site]\nname = "north"\n')
    site.table(*ROWS)
    (tmp_path / "home").write_text("a file where a folder should be")
    monkeypatch.setenv("FEDBREAST_HOME", str(tmp_path / "home"))
    assert "set FEDBREAST_HOME" in fault(site.path)
