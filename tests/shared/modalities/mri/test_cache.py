import hashlib
import json
import threading

import numpy as np
import pytest

from shared.errors import StudyError
from shared.modalities.mri import cache as cache_module
from shared.modalities.mri.cache import cached_case
from shared.modalities.mri.plan import Extraction, MriPlan
from shared.modalities.mri.study import image_files, read_case
from shared.preprocessing import cache as entries
from shared.preprocessing.cache import content_digest
from tests.mri_cases import mri_cohort, preprocess

PLAN = MriPlan(
    mode="whole_breast",
    spacing_mm=(4.0, 3.0, 3.0),
    crop_voxels=(32, 32, 48),
    least_voxels=(16, 16, 16),
    low=(-9.0,) * 4,
    high=(9.0,) * 4,
    scale=(0.7, 0.3, 0.3, 0.3),
    extraction=Extraction(post_phases=3, n4=False, n4_shrink=4, n4_iterations=(20, 20, 20, 20)),
)


@pytest.fixture
def site(make_site):
    return make_site({"side": "left"}, {"side": "right"})


@pytest.fixture
def cases(site):
    return mri_cohort(site).cases


@pytest.fixture
def made(monkeypatch):
    """Cases extracted, one entry each time."""
    calls = []
    original = cache_module.extract_region

    def counted(*arguments):
        calls.append(arguments[2])
        return original(*arguments)

    monkeypatch.setattr(cache_module, "extract_region", counted)
    return calls


def digest_of(case):
    return content_digest(case, image_files(case))


def tree(folder):
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_cached_case_holds_what_preprocess_makes(cases, tmp_path):
    case = cases[0]
    found = cached_case(case, PLAN, tmp_path / "cache")
    study = read_case(case)
    lesion = case.load_mask(study.grid)
    expected = preprocess(study, lesion, "left", PLAN)
    np.testing.assert_array_equal(found.image, expected.image)
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_array_equal(found.native_mask, lesion)
    assert isinstance(found.image, np.memmap)
    assert found.image.dtype == np.float16
    assert found.mask.dtype == np.uint8
    assert found.foreground.dtype == np.int32
    rebuilt = np.zeros(found.mask.shape, bool)
    rebuilt[tuple(found.foreground.T)] = True
    np.testing.assert_array_equal(rebuilt, expected.mask)
    assert found.place == expected.place
    assert found.native_grid == study.grid
    assert (found.key, found.side) == (case.key, "left")
    assert found.seconds > 0


def test_a_second_call_makes_nothing_and_a_new_plan_only_resamples(cases, tmp_path, made):
    cache = tmp_path / "cache"
    first = cached_case(cases[0], PLAN, cache)
    before = tree(tmp_path / "cache")
    again = cached_case(cases[0], PLAN, tmp_path / "cache")
    assert (made, tree(tmp_path / "cache")) == (["left"], before)
    assert again.folder == first.folder
    other = cached_case(cases[0], PLAN.model_copy(update={"spacing_mm": (4.0, 3.5, 3.5)}), cache)
    assert other.folder != first.folder
    assert made == ["left"]
    cached_case(
        cases[0], PLAN.model_copy(update={"extraction": PLAN.extraction.model_copy(update={"n4": True})}), cache
    )
    assert made == ["left", "left"]


def test_the_key_is_content_not_place(site, cases, tmp_path):
    digest = digest_of(cases[0])
    assert digest != digest_of(cases[1])
    moved = tmp_path / "elsewhere"
    site.rename(moved)
    assert digest_of(mri_cohort(moved).cases[0]) == digest
    table = moved / "cases.csv"
    table.write_text(table.read_text().replace("-60.0 90.0", "-60.0 95.0", 1))
    assert digest_of(mri_cohort(moved).cases[0]) != digest
    # Two phases that change places are another study, though the same bytes.
    first, second = (moved / "study1" / f"s_000{number}.nii.gz" for number in (1, 2))
    before = digest_of(mri_cohort(moved).cases[1])
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    assert digest_of(mri_cohort(moved).cases[1]) != before


def test_a_changed_mask_misses(site, cases, tmp_path, make_site):
    other = make_site({"side": "left", "lesion_at": (8.0, 24.0, 70.0)}, name="site-b")
    before = digest_of(cases[0])
    (site / "study0" / "lesion.nii.gz").write_bytes((other / "study0" / "lesion.nii.gz").read_bytes())
    assert digest_of(cases[0]) != before


@pytest.mark.parametrize("damage", ["flip", "cut", "meta", "lost"])
def test_a_damaged_entry_is_made_anew(cases, tmp_path, damage, made):
    cache = tmp_path / "cache"
    first = cached_case(cases[0], PLAN, cache)
    expected = np.array(first.image)
    path = first.folder / ("meta.json" if damage == "meta" else "image.npy")
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    if damage == "lost":
        path.unlink()
    np.testing.assert_array_equal(cached_case(cases[0], PLAN, tmp_path / "cache").image, expected)
    assert made == ["left"]  # the extracted breast was whole


def test_killed_half_way_leaves_no_torn_entry(cases, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    saved = []
    original = np.save

    def killed(path, array, **options):
        saved.append(path.name)
        if path.name == "mask.npy":
            raise KeyboardInterrupt
        original(path, array, **options)

    with monkeypatch.context() as patch:
        patch.setattr(entries.np, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            cached_case(cases[0], PLAN, cache)
    assert "image.npy" in saved
    assert list((tmp_path / "cache" / "cases").iterdir()) == []
    # A process that dies without a word leaves its scratch folder: the next one clears it.
    done = cached_case(cases[0], PLAN, cache)
    scratch = done.folder.with_name(f".making-{done.folder.name}")
    (done.folder / "meta.json").unlink()
    scratch.mkdir()
    (scratch / "image.npy").write_bytes(b"torn")
    assert cached_case(cases[0], PLAN, cache).image.shape == (4, 32, 32, 48)
    assert not scratch.exists()


def test_two_at_once_make_a_case_once(cases, tmp_path, made):
    found = []
    workers = [
        threading.Thread(target=lambda: found.append(cached_case(cases[0], PLAN, tmp_path / "cache"))) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert made == ["left"]
    assert len({case.folder for case in found}) == 1
    assert len(found) == 4


def test_the_input_folder_stays_as_it_was(site, cases, tmp_path):
    before = tree(site)
    cached_case(cases[0], PLAN, tmp_path / "cache")
    assert tree(site) == before


def test_an_unsound_study_leaves_no_entry(make_site, tmp_path):
    site = make_site({"side": "left", "missing": ("left",)})
    with pytest.raises(StudyError, match="no_breast_found"):
        cached_case(mri_cohort(site).cases[0], PLAN, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_nothing_that_names_the_patient_is_kept(cases, tmp_path):
    root = tmp_path / "cache"
    cached_case(cases[0], PLAN, root)
    for path in root.rglob("*"):
        assert "P0" not in path.name
        assert "study0" not in path.name
    facts = json.loads((next((root / "cases").iterdir()) / "meta.json").read_text())
    assert "study0" not in json.dumps(facts)
