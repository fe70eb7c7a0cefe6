"""Where a network of mammograms looks, on the page: what was stored is drawn, and told with its numbers."""

import numpy as np
import pandas as pd
import pytest

from server.evaluation.heat_shares import AREA, LEARNT, TRAINED, UNTRAINED, heat_shares
from server.reports.sections.task_section import explanation
from server.reports.templates import environment
from shared.errors import RunError
from shared.tasks import task_named
from shared.tasks.explanation import REST
from shared.tasks.mammogram_heat import LESION, LEVEL
from tests.server.reports.invented_classifiers import finished

HER2 = "mammography-her2"


def write(folder, name, probability, *, outlined=True):
    rng = np.random.default_rng(0)
    outline = np.zeros((2, 32, 32), bool)
    outline[:, 8:24, 8:24] = outlined
    np.savez_compressed(
        folder / "pictures" / f"grad-cam-{HER2}-{name}.npz",
        views=np.array(["CC", "MLO"]), image=rng.random((2, 32, 32)).astype(np.float16), outline=outline,
        heat=rng.random((2, 2, 3), np.float32), untrained=rng.random((2, 2, 3), np.float32),
        probability=np.float64(probability), **{LEVEL + "level1": rng.random((2, 16, 16), np.float32)},
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Two classes of four cases each."""
    for name in ("pictures", "predictions"):
        (tmp_path / name).mkdir()
    write(tmp_path, "her2", 0.731)
    write(tmp_path, REST, 0.642)
    rng = np.random.default_rng(1)
    table(rng.random).to_parquet(tmp_path / "predictions" / f"grad-cam-{HER2}.parquet")
    return tmp_path


def table(draw, cases=8):
    return pd.DataFrame(
        [
            (f"d-{case}-e-L", f"d-{case}", ("her2", REST)[case % 2], reader, region, draw(), network)
            for network in (TRAINED, UNTRAINED)
            for case in range(cases)
            for reader in ("CC", "MLO")
            for region in (LESION, AREA)
        ],
        columns=["case", "patient", "class", "reader", "region", "value", "network"],
    ).astype({"value": "float64"})


def shown(part):
    """The section's text, as a page has it."""
    template = environment().get_template(part["template"])
    return " ".join(template.render(part={"explanation": part}, phantom=True, confidence="95%").split())


def test_classes_are_drawn_in_order_with_what_the_network_gave_them(folder):
    part = explanation(finished(None, [], HER2, path=folder))
    assert [case["title"] for case in part["cases"]] == ["HER2: yes", "HER2: no"]
    first, second = (str(case["heat"]) for case in part["cases"])
    assert "HER2: yes, predicted with probability 0.73" in first
    assert "HER2: no, predicted with probability 0.64" in second
    assert "level1" in str(part["cases"][0]["levels"])
    page = shown(part)
    assert page.count("<svg") == 4
    assert "2 x 3 places" in page
    assert "no proof of what the network learnt" in page
    assert page.count("(phantom)") == 4


def test_shares_stand_in_the_table(folder):
    run = finished(None, [], HER2, path=folder)
    kept = pd.read_parquet(folder / "predictions" / f"grad-cam-{HER2}.parquet")
    tables = {name: kept[kept["network"] == name] for name in (TRAINED, UNTRAINED)}
    shares = heat_shares(tables, run.config.evaluation, run.config.seed)
    page = shown(explanation(run))
    for name in (TRAINED, AREA, UNTRAINED, LEARNT):
        one = shares[name]
        cells = f"{one.value:.3f}|{one.low:.3f} to {one.high:.3f}|8".replace("-", "\N{MINUS SIGN}").split("|")
        assert "".join(f'<td class="num">{cell}</td>' for cell in cells) in page


def test_without_outlines_no_share_is_told(folder):
    table(lambda: None).to_parquet(folder / "predictions" / f"grad-cam-{HER2}.parquet")
    write(folder, "her2", 0.7, outlined=False)
    page = shown(explanation(finished(None, [], HER2, path=folder)))
    assert "<table>" not in page
    assert "the lesion outlined" in page
    write(folder, REST, 0.7, outlined=False)
    assert "the lesion outlined" not in shown(explanation(finished(None, [], HER2, path=folder)))


def test_a_network_without_maps_is_told(folder):
    table(float, cases=0).to_parquet(folder / "predictions" / f"grad-cam-{HER2}.parquet")
    for path in (folder / "pictures").iterdir():
        path.unlink()
    assert "no heat map can be drawn" in shown(explanation(finished(None, [], HER2, path=folder)))


def test_nothing_stored_is_no_section_and_a_torn_file_is_told(folder, tmp_path):
    assert explanation(finished(None, [], HER2, path=tmp_path / "nowhere")) is None
    assert explanation(finished(None, [], "mammography-luminal", path=folder)) is None
    assert task_named("receptor-status").explained is None
    torn = folder / "pictures" / f"grad-cam-{HER2}-her2.npz"
    torn.write_bytes(torn.read_bytes()[:-50])
    with pytest.raises(RunError, match="delete it, or run again"):
        explanation(finished(None, [], HER2, path=folder))
