"""Tracking of a run in MLflow, if its configuration asks for it: parameters, metrics of each round, results.

The run folder remains the complete record of a run. What MLflow missed, because it did not answer or the run was
killed, is added from the folder when the run is resumed. MLflow gets what configuration, journal and results hold, none
of which identifies a patient. The report stays in the run folder, because it shows pictures of cases.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from server.monitoring.mlflow_metrics import external_metrics, parameters, round_metrics
from server.run_folder.journal import RunFolder
from server.run_folder.participation import FILE as PARTICIPATION
from server.run_folder.results import is_finished, read_results
from server.run_folder.round_record import RoundRecord
from shared.config.run_config import RunConfig
from shared.errors import ConfigError
from shared.runtime.project import project_root

log = logging.getLogger(__name__)

KEPT = "mlflow.json"
"""File of the run folder with the run's identifier in MLflow, where a resumed run continues."""

ARTIFACTS = ("results.csv", "results.json", PARTICIPATION, "plan.json")

_PARAMS_AT_ONCE, _METRICS_AT_ONCE = 100, 1000  # what MLflow takes in one request
_PATIENCE = {
    # Wait once for a server that does not answer, not five minutes at each request.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "20",
}


class Tracking:
    """A run's entry in MLflow. If the run is not tracked, or MLflow has failed, every method does nothing."""

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        self._config = config
        self._folder = folder
        self._client: Any = None
        self._run = ""
        self._told: dict[str, set[int]] = {}

    def open(self, facts: Callable[[], Mapping[str, str]]) -> None:
        """Find the run's entry or make one, with `facts` among its tags, and tell what it lacks of evaluated rounds."""
        with self._survive_failures():
            from mlflow import MlflowClient
            from mlflow.telemetry import set_telemetry_client

            # MONAI may have imported MLflow before `open_tracking` could switch its telemetry off.
            set_telemetry_client()
            # Its messages quote statements, values and a server's answers.
            logging.getLogger("mlflow").setLevel(logging.CRITICAL)
            client = MlflowClient(tracking_uri=self._config.tracking.uri or _own_store())
            kept = self._folder.path / KEPT
            if kept.is_file():
                self._run = str(json.loads(kept.read_bytes())["run_id"])
                if client.get_run(self._run).info.status == "FINISHED":
                    return
                client.update_run(self._run, status="RUNNING")
            else:
                self._run = self._create(client, facts())
                self._folder.write(KEPT, json.dumps({"run_id": self._run}).encode())
            self._client = client
            self._tell_parameters()  # the same again changes nothing
            for name in self._config.tasks:
                self._told[name] = {item.step for item in client.get_metric_history(self._run, f"{name}/seconds")}
        for name in self._config.tasks:
            records = self._folder.records(name)
            # Of a run that goes on the last model may be still to be evaluated: it is told when it has a score.
            waits = records and records[-1].is_unevaluated() and not is_finished(self._folder.path)
            for record in records[:-1] if waits else records:
                self.evaluated(record)

    def tell_data(self, phantom: bool, which: Sequence[str]) -> None:
        """Tell what the sites' data are, once they told it: phantoms, patients', or both, and which are phantoms."""
        if self._client is None:
            return
        with self._survive_failures():
            said = f"some: {', '.join(which)}" if which else "yes" if phantom else "no"
            self._client.set_tag(self._run, "phantom", said)

    def evaluated(self, record: RoundRecord) -> None:
        """Tell an evaluated round: score, seconds, each site's loss and score. One that was told is passed over."""
        if self._client is None or record.round == 0 or record.round in self._told[record.task]:
            return
        with self._survive_failures():
            # In one request: `seconds` is there exactly when the rest is.
            self._tell(round_metrics(record), record.round)
            self._told[record.task].add(record.round)

    def finish(self) -> None:
        """Send the external centre's metrics and the result files, and finish the entry."""
        if self._client is None:
            return
        with self._survive_failures():
            told = self._client.get_run(self._run).data.metrics
            figures = external_metrics(read_results(self._folder.path))
            self._tell({key: value for key, value in figures.items() if key not in told}, 0)
            for name in ARTIFACTS:
                if (self._folder.path / name).is_file():
                    self._client.log_artifact(self._run, str(self._folder.path / name))
            self._client.set_terminated(self._run, "FINISHED")
            self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None and error is not None:
            with self._survive_failures():
                self._client.set_terminated(self._run, "FAILED" if isinstance(error, Exception) else "KILLED")

    @contextmanager
    def _survive_failures(self) -> Iterator[None]:
        """Let the run go on whatever MLflow does; after a failure MLflow is not called again."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of MLflow's own libraries
                yield
        except Exception as error:  # noqa: BLE001 - an MLflow server can fail in any way
            self._client = None
            # Only the class: the text may contain what the server sent.
            log.warning(
                "MLflow failed (%s) and is told no more; the run goes on, and resuming it makes up for what is missing",
                type(error).__name__,
            )

    def _create(self, client: Any, facts: Mapping[str, str]) -> str:
        settings = self._config.tracking
        known = client.get_experiment_by_name(settings.experiment)
        # An MLflow server has its own folder for artifacts.
        place = None if settings.uri else (_runs() / "mlflow-artifacts").as_uri()
        experiment = known.experiment_id if known else client.create_experiment(settings.experiment, place)
        name = self._folder.path.name
        tags = {"run": name, "seed": str(self._config.seed), "use": "research software", **facts}
        return str(client.create_run(experiment, tags=tags, run_name=name).info.run_id)

    def _tell_parameters(self) -> None:
        from mlflow.entities import Param

        params = [Param(*item) for item in parameters(self._config).items()]
        for start in range(0, len(params), _PARAMS_AT_ONCE):
            self._client.log_batch(self._run, params=params[start : start + _PARAMS_AT_ONCE])

    def _tell(self, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        items = [Metric(key, value, now, step) for key, value in metrics.items()]
        for start in range(0, len(items), _METRICS_AT_ONCE):
            self._client.log_batch(self._run, metrics=items[start : start + _METRICS_AT_ONCE])


def open_tracking(config: RunConfig, folder: RunFolder, facts: Callable[[], Mapping[str, str]]) -> Tracking:
    """Open a run's entry in MLflow if the configuration asks for it; see `Tracking.open`.

    Raises
    ------
    ConfigError
        It asks for it, and MLflow is not installed.

    """
    tracking = Tracking(config, folder)
    if config.tracking.mlflow:
        if find_spec("mlflow") is None:
            raise ConfigError(
                "tracking.mlflow needs MLflow, which is not installed: "
                "pip install -c constraints.txt 'fedbreast[tracking]'"
            )
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        tracking.open(facts)
    return tracking


def _runs() -> Path:
    return project_root().resolve() / "runs"


def _own_store() -> str:
    """Address of our own database, after checking that it opens: MLflow itself would try for 100 s."""
    place = _runs() / "mlflow.db"
    with closing(sqlite3.connect(place)) as store:
        store.execute("PRAGMA schema_version")
    return f"sqlite:///{place}"
