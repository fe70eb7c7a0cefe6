"""`cbis-ddsm`: digitised films with outlined masses and calcifications, and the pathology of each.

A line of its four tables is one abnormality in one view; a case is one breast, malignant if one of its abnormalities
is. One of them is its region, in both views: of the breast's pathology, then in the most views, then a mass, then the
lowest number; the others are left out. The set names no hospital, so all of it is one centre. Patients of its test
tables keep that split, also the 31 who stand in a training table of the other kind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from shared.cohort.importers import ImportedRow, Importer, LeftOut
from shared.cohort.importers.tcia import image_folder
from shared.cohort.table import read_table
from shared.errors import TableError

_TABLES = [f"{kind}_case_description_{part}_set.csv" for kind in ("mass", "calc") for part in ("train", "test")]
_COLUMNS = (
    *("patient_id", "breast_density", "left_or_right_breast", "image_view", "abnormality_id", "pathology"),
    "image_file_path",
)
_MALIGNANT = {"MALIGNANT": True, "BENIGN": False, "BENIGN_WITHOUT_CALLBACK": False}
_DENSITIES = frozenset("1234")  # two lines say 0

Line = dict[str, str]
Abnormality = tuple[str, str]
"""Folder of its images without the view, and its number: `Mass-Training_P_00001_LEFT`, `1`."""


def read(root: Path) -> Iterator[ImportedRow | LeftOut]:
    """Every breast of the tables of which a view was downloaded."""
    images = image_folder(root, "CBIS-DDSM", _TABLES)
    breasts: dict[tuple[str, str], dict[Abnormality, list[Line]]] = defaultdict(lambda: defaultdict(list))
    tested = set()
    for name in _TABLES:
        for row, line in read_table(root / name, known=_COLUMNS, required=_COLUMNS).rows:
            if line["pathology"] not in _MALIGNANT:
                words = ", ".join(_MALIGNANT)
                raise TableError(f"none of {words}", file=name, row=row, column="pathology", cell=line["pathology"])
            folder = line["image_file_path"].partition("/")[0].removesuffix(f"_{line['image_view']}")
            breast = breasts[line["patient_id"], line["left_or_right_breast"]]
            breast[folder, line["abnormality_id"]].append(line)
            if name.endswith("test_set.csv"):
                tested.add(line["patient_id"])
    for (patient, side), abnormalities in breasts.items():
        folder, number = min(abnormalities, key=lambda item: _rank(item, abnormalities[item]))
        for _ in range(sum(map(len, abnormalities.values())) - len(abnormalities[folder, number])):
            yield LeftOut("a further abnormality of a breast, counted in each view")
        if not any((root / images / f"{folder}_{view}").is_dir() for view in ("CC", "MLO")):
            yield LeftOut("no images were downloaded")
            continue
        chosen = abnormalities[folder, number]
        density = chosen[0]["breast_density"]
        cells = {
            "patient_id": patient,
            "side": side,
            "modality": "MG",
            "path": (images / folder).as_posix(),
            "mask": (images / f"{folder}_{{view}}_{number}").as_posix(),
            "malignant": "yes" if _is_malignant(chosen) else "no",
            "density": density if density in _DENSITIES else "",
            "split": "test" if patient in tested else "",
        }
        yield ImportedRow("cbis-ddsm", cells)


def _is_malignant(lines: list[Line]) -> bool:
    return any(_MALIGNANT[line["pathology"]] for line in lines)


def _rank(abnormality: Abnormality, lines: list[Line]) -> tuple[bool, int, bool, int, str]:
    """The least stands for the breast: malignant ones come first, so its pathology is the breast's."""
    folder, number = abnormality
    return not _is_malignant(lines), -len(lines), not folder.startswith("Mass"), int(number), folder


IMPORTER = Importer(
    name="cbis-ddsm",
    title="CBIS-DDSM",
    licence="CC BY 3.0",
    source="https://doi.org/10.7937/K9/TCIA.2016.7O02S9CY",
    expects="mass_case_description_train_set.csv and the three other tables beside the folder CBIS-DDSM, which has a "
    "folder for each view (Mass-Test_P_00016_LEFT_CC) and mask (Mass-Test_P_00016_LEFT_CC_1)",
    read=read,
)
