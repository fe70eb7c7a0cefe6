"""`cmmd`: the Chinese Mammography Database, full-field digital mammograms with pathology and subtype.

A row of its table is one breast. Its two cohorts, D1 and D2, become two centres: nothing else in the set tells
hospitals or devices apart. D1 has no subtype and takes part in malignancy alone. A folder holds all views of a patient;
those of the other breast are left out by their tags.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shared.cohort.importers import ImportedRow, Importer, LeftOut
from shared.cohort.importers.spreadsheet import read_sheet
from shared.cohort.importers.tcia import image_folder
from shared.errors import TableError

_TABLE = "CMMD_clinicaldata_revision.xlsx"
_COLUMNS = ("ID1", "LeftRight", "Age", "classification", "subtype")
_COHORTS = ("D1", "D2")


def read(root: Path) -> Iterator[ImportedRow | LeftOut]:
    """Every breast of the table whose patient was downloaded."""
    images = image_folder(root, "CMMD", [_TABLE])
    for number, line in read_sheet(root / _TABLE):
        if missing := [name for name in _COLUMNS if name not in line]:
            raise TableError("required but missing", file=_TABLE, row=1, column=missing[0])
        patient = line["ID1"]
        cohort = patient.partition("-")[0]
        if cohort not in _COHORTS:
            raise TableError("no patient of D1 or D2", file=_TABLE, row=number, column="ID1", cell=patient)
        if not (root / images / patient).is_dir():
            yield LeftOut("no images were downloaded")
            continue
        cells = {
            "patient_id": patient,
            "side": line["LeftRight"],
            "modality": "MG",
            "path": (images / patient).as_posix(),
            "malignant": line["classification"],
            "subtype": line["subtype"],
            "age": line["Age"],
        }
        yield ImportedRow(f"cmmd-{cohort}", cells)


IMPORTER = Importer(
    name="cmmd",
    title="CMMD",
    licence="CC BY 4.0",
    source="https://doi.org/10.7937/tcia.eqde-4b16",
    expects=f"{_TABLE} beside the folder CMMD, which has a folder for each patient (D1-0001)",
    read=read,
)
