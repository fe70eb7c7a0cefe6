"""Table 1 counts known and missing cases."""

from dataclasses import replace

import pandas as pd

from server.reports.study import cohort_table


def test_table_1_counts_known_and_missing_cases(study):
    rows = [
        ("centre-a", "<50", 1.0, 2.0), ("centre-a", "", 0.0, 4.0), ("centre-a", ">=70", None, 9.0),
        ("centre-b", "<50", 1.0, None),
    ]  # fmt: skip
    cohort = pd.DataFrame(rows, columns=["centre", "age_band", "er", "reference_volume_ml"])
    cohort["case"] = cohort["patient"] = [f"p{index}" for index in range(4)]
    table = cohort_table.table_1(replace(study, cohort=cohort))
    assert table["columns"] == [*study.centres, "all"]
    cells = [(line["name"], line["cells"][0], line["cells"][1], line["cells"][-1]) for line in table["lines"]]
    assert cells[:2] == [("Patients", "3", "1", "4"), ("Cases (breasts)", "3", "1", "4")]
    assert cells[3:6] == [
        ("<50", "1 (50%)", "1 (100%)", "2 (67%)"), ("\u226570", "1 (50%)", "0 (0%)", "1 (33%)"),
        ("missing", "1", "0", "1"),
    ]  # fmt: skip
    assert cells[7:10] == [
        ("positive", "1 (50%)", "1 (100%)", "2 (67%)"), ("negative", "1 (50%)", "0 (0%)", "1 (33%)"),
        ("missing", "1", "0", "1"),
    ]  # fmt: skip
    assert cells[-2][:2] == ("median (quartiles)", "4.00 (3.00 to 6.50)")
    assert cells[-1] == ("missing", "0", "1", "1")
