"""Made downloads of CMMD and CBIS-DDSM, with the folders and tables that the archive has and small drawn images."""

import csv

import numpy as np
from pydicom.uid import SecondaryCaptureImageStorage

from tests.shared.cohort.importers.conftest import write_sheet
from tests.shared.modalities.mammography.conftest import Mammogram, drawing, film, shown

CMMD_TABLE = "CMMD_clinicaldata_revision.xlsx"
CMMD_HEADER = ["ID1", "LeftRight", "Age", "number", "abnormality", "classification", "subtype"]
CBIS_HEADER = ["patient_id", "breast_density", "left or right breast", "image view", "abnormality id", "pathology"]
CBIS_PATHS = ["image file path", "cropped image file path", "ROI mask file path"]
CBIS_SETS = {
    "mass_train": "Mass-Training",
    "mass_test": "Mass-Test",
    "calc_train": "Calc-Training",
    "calc_test": "Calc-Test",
}


def write_cmmd(root, rows, images):
    """CMMD with these rows of its table; `images` are the sides of which each patient's folder has both views."""
    for number, (patient, sides) in enumerate(images.items()):
        series = root / "manifest-1616439774456" / "CMMD" / patient / "07-18-2010-NA-NA-79377" / "1.000000-NA-70244"
        series.mkdir(parents=True)
        for side in sides:
            for view in ("CC", "MLO"):
                item = Mammogram(
                    shown(drawing(view, seed=number)[0], side),
                    side,
                    view,
                    without=("Manufacturer", "ViewPosition"),
                    tags={"PatientID": patient, "WindowCenter": 2048, "WindowWidth": 4096},
                )
                item.write(series / f"1-{len(list(series.iterdir())) + 1}.dcm")
    write_sheet(root / CMMD_TABLE, [CMMD_HEADER, *rows])
    return root


def write_cbis(root, lines, without=()):
    """CBIS-DDSM with these lines: table, patient, density, side, view, number, pathology; `without` have no images.

    Mask and cut-out of an abnormality lie in one series, in either order, or in a series each.
    """
    images = root / "CBIS-DDSM"
    for place, line in enumerate(lines):
        if line[1] in without:
            continue
        side, name = line[3][0], cbis_folder(line)
        series = images / name / "10-04-2016-DDSM-NA-89998" / "1.000000-full mammogram images-29934"
        series.mkdir(parents=True, exist_ok=True)
        film(drawing(line[4], seed=int(line[1][-3:]))[0], side, line[4], PatientID=name).write(series / "1-1.dcm")
        mask = cbis_region(line) if side == "L" else np.ascontiguousarray(cbis_region(line)[:, ::-1])
        cut_out = np.arange(30 * 40, dtype=np.uint16).reshape(30, 40)
        study = images / f"{name}_{line[5]}" / "10-04-2016-DDSM-NA-09887"
        folders = [study / "1.000000-ROI mask images-18515"] * 2
        if place % 3 == 2:
            folders[1] = study / "1.000000-cropped images-26184"
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        order = ("1-1.dcm", "1-2.dcm") if place % 2 else ("1-2.dcm", "1-1.dcm")
        for folder, pixels, bits, file in zip(folders, (mask, cut_out), (8, 16), order, strict=True):
            tags = {"PatientID": f"{name}_{line[5]}", "SeriesDescription": "ROI mask images"}
            item = Mammogram(pixels, sop_class=SecondaryCaptureImageStorage, bits=bits, tags=tags)
            item.write(folder / file)
    write_cbis_tables(root, lines)
    return root


def write_cbis_tables(root, lines):
    for table in CBIS_SETS:
        kind, part = table.split("_")
        # The tables of calcifications write one column in another way, and some cells end in a line break.
        header = ["breast density" if kind == "calc" and name == "breast_density" else name for name in CBIS_HEADER]
        with (root / f"{kind}_case_description_{part}_set.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow([*header, *CBIS_PATHS])
            for line in lines:
                if line[0] == table:
                    roi = f"{cbis_folder(line)}_{line[5]}/1.2/1.3"
                    paths = [f"{cbis_folder(line)}/1.2/1.3/000000.dcm", f"{roi}/000001.dcm\n", f"{roi}/000000.dcm"]
                    writer.writerow([*line[1:], *paths])


def cbis_folder(line):
    table, patient, _, side, view, _, _ = line
    return f"{CBIS_SETS[table]}_{patient}_{side}_{view}"


def cbis_region(line):
    """The mask of an abnormality as a film is shown, chest wall at the left."""
    mask = np.zeros((240, 180), np.uint8)
    mask[80 + 20 * int(line[5]) :, 20:50] = 255
    mask[130:] = 0
    return mask
