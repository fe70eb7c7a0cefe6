"""What MLflow would be told, against values by hand; all without MLflow."""

import pytest

from server.monitoring.mlflow_metrics import external_metrics, parameters, round_metrics
from server.run_folder.results import Provenance, ResultRow, Results, TrainedTask
from server.run_folder.round_record import RoundRecord, SiteEntry
from shared.config.run_config import parse_config
from shared.errors import ConfigError
from shared.metrics.sums import Moments, Sums

LESION, SUBTYPE = "lesion-segmentation", "subtype-ensemble"
MINIMAL = {"name": "tiny", "data": {"root": "/home/jane/sites", "sites": ["a", "b"], "external": "c"}}


def config_with(**sections):
    return parse_config(MINIMAL | sections, "run.toml")


def sums_of(*dice):
    return Sums({"n": len(dice), "dice": sum(map(Moments.of, dice), Moments())}).to_flat()


def row(arm, metric, value, model_hash, task=LESION, role="external", bounds=(None, None)):
    return ResultRow(
        task=task, arm=arm, seed=1, centre="c", role=role, metric=metric, unit="1", value=value, ci_low=bounds[0],
        ci_high=bounds[1], n=3, model_hash=model_hash,
    )  # fmt: skip


def results(*rows):
    provenance = Provenance(
        name="one", created="2026-01-02T03:04:05+00:00", git="", versions={}, seeds={}, seconds=1.0,
        peak_memory_mb=1.0, phantom=True,
        tasks={
            LESION: TrainedTask(best="aa", final="bb", best_round=1, rounds=2),
            SUBTYPE: TrainedTask(best="cc", final="cc", best_round=2, rounds=2),
        },
    )  # fmt: skip
    return Results(rows=rows, provenance=provenance)


def test_parameters_are_the_resolved_configuration_under_its_keys():
    found = parameters(config_with(tasks=[LESION, SUBTYPE], federation={"rounds": 7, "strategy": "fedprox"}, seed=3))
    assert found["name"] == "tiny"
    assert found["seed"] == "3"
    assert found["tasks"] == "lesion-segmentation, subtype-ensemble"
    assert found["data.sites"] == "a, b"
    assert found["data.external"] == "c"
    assert found["federation.rounds"] == "7"
    assert found["federation.fedprox.mu"] == "0.01"  # a default: nothing in the file says so
    assert found["inference.flip_averaging"] == "False"
    assert found["subtype_ensemble.training.batch_size"] == "16"  # of the task's own section
    assert not [key for key in found if key.startswith("receptor_status")]  # of a task that the run does not have
    assert parameters(config_with(tasks=[SUBTYPE]))["subtype_ensemble.pretrained"] == "hub"


def test_parameters_hold_no_path_nor_where_the_run_is_tracked():
    found = parameters(
        config_with(
            subtype_ensemble={"pretrained": "/home/jane/weights.pt"},
            tracking={"mlflow": True, "uri": "https://mlflow.house.example"},
        )
    )
    assert found["subtype_ensemble.pretrained"] == "a file"
    assert not [key for key in found if key.startswith("tracking") or key == "data.root"]
    assert not [value for value in found.values() if "jane" in value or "house" in value or "/" in value]


def test_a_parameter_is_cut_where_mlflow_would_refuse_it():
    sites = [f"hospital-number-{number:03d}" for number in range(30)]
    found = parameters(config_with(data=MINIMAL["data"] | {"sites": sites}))["data.sites"]
    assert found == ", ".join(sites)[:250]


def test_a_rounds_figures_are_those_of_the_sites_that_have_them():
    sites = {
        "a": SiteEntry("accepted", cases=3, loss=0.75, validation=sums_of(0.5, 1.0)),
        "b": SiteEntry("accepted", cases=3, loss=0.25, validation=sums_of(0.0)),
        "c": SiteEntry("accepted", cases=1, loss=1.5, validation=sums_of()),  # no case of its own to validate
        "d": SiteEntry("absent", reason="never connected"),
    }
    assert round_metrics(RoundRecord(LESION, 1, "aa", 12.5, sites)) == {
        "lesion-segmentation/seconds": 12.5,
        "lesion-segmentation/validation": 0.5,  # of three cases, not the mean of two sites
        "lesion-segmentation/a/loss": 0.75,
        "lesion-segmentation/a/validation": 0.75,
        "lesion-segmentation/b/loss": 0.25,
        "lesion-segmentation/b/validation": 0.0,
        "lesion-segmentation/c/loss": 1.5,
    }


def test_external_figures_tell_the_chosen_model_from_the_last_one_and_name_other_arms():
    found = external_metrics(
        results(
            row("federated", "dice", 0.9, "aa", bounds=(0.8, 0.95)),
            row("federated", "dice", 0.7, "bb", bounds=(0.6, 0.75)),
            row("federated", "dice", 0.1, "aa", role="validation"),
            row("federated", "hd95", None, "aa"),
            row("federated", "auc_er", 0.6, "cc", SUBTYPE),  # its last round was the best: no second name
            row("federated:end-to-end", "auc_er", 0.5, "cc", SUBTYPE, bounds=(0.4, None)),
            row("fusion", "auc_er", 0.65, "cc+dd", SUBTYPE),
            row("oracle", "auc_er", 0.99, "", SUBTYPE),
        )
    )
    assert found == {
        "lesion-segmentation/external/dice": 0.9,
        "lesion-segmentation/external/dice_low": 0.8,
        "lesion-segmentation/external/dice_high": 0.95,
        "lesion-segmentation/final/external/dice": 0.7,
        "lesion-segmentation/final/external/dice_low": 0.6,
        "lesion-segmentation/final/external/dice_high": 0.75,
        "subtype-ensemble/external/auc_er": 0.6,
        "subtype-ensemble/external/federated.end-to-end/auc_er": 0.5,
        "subtype-ensemble/external/federated.end-to-end/auc_er_low": 0.4,
        "subtype-ensemble/external/fusion/auc_er": 0.65,
        "subtype-ensemble/external/oracle/auc_er": 0.99,
    }


@pytest.mark.parametrize("uri", ["", "http://localhost:5000", "https://mlflow.house.example/breast"])
def test_a_servers_address_is_taken(uri):
    assert config_with(tracking={"mlflow": True, "uri": uri}).tracking.uri == uri


@pytest.mark.parametrize("uri", ["https://jane:secret@host", "https://secret@host", "https://host/?token=secret"])
def test_an_address_with_a_password_is_refused_and_not_repeated(uri):
    with pytest.raises(ConfigError, match=r"'tracking\.uri': holds a password: .*MLFLOW_TRACKING_PASSWORD") as caught:
        config_with(tracking={"uri": uri})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["sqlite:////tmp/m.db", "file:///tmp/mlruns", "mlruns", "databricks", "http://"])
def test_what_is_no_address_of_a_server_is_refused(uri):
    with pytest.raises(ConfigError, match=r"'tracking\.uri': is no address of an MLflow server"):
        config_with(tracking={"uri": uri})
