"""Made downloads: a spreadsheet of two parts, and rows of a site located as a modality does."""

import zipfile
from xml.sax.saxutils import escape

from shared.cohort.manifest import read_manifest
from shared.cohort.preflight import locate_exams
from shared.cohort.site_folder import open_site_folder
from shared.modalities.mammography.tags import is_mammogram
from shared.modalities.mammography.views import lies_at

NAMESPACE = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def write_sheet(path, rows):
    """A spreadsheet as Excel saves it: texts are shared, numbers stand in their cell, blank cells are absent."""
    texts = list(dict.fromkeys(cell for row in rows for cell in row if isinstance(cell, str) and cell))
    lines = []
    for number, row in enumerate(rows, start=1):
        cells = []
        for letter, cell in zip("ABCDEFGHIJ", row, strict=False):
            if isinstance(cell, str) and cell:
                cells.append(f'<c r="{letter}{number}" t="s"><v>{texts.index(cell)}</v></c>')
            elif cell != "":
                cells.append(f'<c r="{letter}{number}"><v>{cell}</v></c>')
        lines.append(f'<row r="{number}">{"".join(cells)}</row>')
    items = "".join(f"<si><t>{escape(text)}</t></si>" for text in texts)
    write_parts(path, f"<sheetData>{''.join(lines)}</sheetData>", items)


def write_parts(path, sheet, strings=None):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", f"<worksheet {NAMESPACE}>{sheet}</worksheet>")
        if strings is not None:
            archive.writestr("xl/sharedStrings.xml", f"<sst {NAMESPACE}>{strings}</sst>")


def cases_of(folder):
    """Cases of a written site folder and those left out, by patient and side."""
    site = open_site_folder(folder)
    rows = read_manifest(site.path, site.images)
    cases, left_out = locate_exams(
        site, rows, frozenset(), modality="mammography", is_image=is_mammogram, lies_at=lies_at
    )
    return {(case.row.patient_id, case.row.side): case for case in cases}, left_out
