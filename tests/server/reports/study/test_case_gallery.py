"""Single cases: the stored pictures and volumes of each centre, with the figure that chose them."""

import pandas as pd

from server.reports.study.case_gallery import galleries, volumes
from tests.server.reports.study.invented_study import SEGMENTATION


def test_a_case_has_the_figure_that_chose_it_and_its_four_views(study):
    (gallery,) = galleries(study)
    (group,) = gallery["groups"]
    (picture,) = group["pictures"]
    table = pd.read_parquet(study.path / "predictions" / f"{SEGMENTATION}.parquet")
    own = table.query("arm == 'federated' and seed == 0 and role == 'external'").set_index("case")
    assert picture["title"] == f"Worst: Dice {own.loc[picture['case'], 'dice']:.3f}"
    assert [view["caption"] for view in picture["views"]] == [
        "axial", "coronal", "sagittal", "maximum intensity projection",
    ]  # fmt: skip
    assert (group["centre"], group["n"]) == ("centre-a", 20)
    assert (gallery["title"], gallery["field"]) == ("Lesion outlines", "90")
    assert gallery["background"].startswith("First post-contrast minus")


def test_volumes_stand_under_their_task_and_centre(study):
    (group,) = volumes(study)
    assert (group["name"], group["n"]) == ("Lesion outlines, centre-a", 1)
    assert group["figures"].count("<figure") == 1


def test_without_stored_pictures_there_is_no_gallery(study, tmp_path):
    from dataclasses import replace

    empty = replace(study, path=tmp_path)
    assert galleries(empty) == []
    assert volumes(empty) == []
