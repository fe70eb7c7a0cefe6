"""The sections on how a run is carried out: its rounds, its cores, and where it is followed."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from shared.config.sections import Fraction, Section


class FederationConfig(Section):
    """The rounds and who must take part."""

    rounds: int = Field(default=10, ge=1, description="Of each segmentation task; a classifier's section has its own.")
    strategy: Literal["fedavg", "fedprox", "fedadam"] = "fedavg"
    proximal_mu: float = Field(default=0.01, ge=0.0, description="FedProx's mu; used when strategy is fedprox.")
    server_learning_rate: float = Field(default=0.01, gt=0.0, description="FedAdam's eta.")
    server_beta_1: Fraction = 0.9
    server_beta_2: Fraction = 0.99
    server_tau: float = Field(default=1e-3, gt=0.0, description="FedAdam's degree of adaptability.")
    min_sites: int = Field(default=1, ge=1, description="Fewer good replies than this end the run with an error.")
    round_timeout_s: float = Field(
        default=3600.0, gt=0.0, description="A site that has not judged and trained by then is absent this round."
    )
    join_timeout_s: float = Field(
        default=120.0,
        gt=0.0,
        description="How long sites may take to connect; others wait no longer for one that joins.",
    )
    retries: int = Field(default=1, ge=0, description="How often a site that failed or was refused is asked once more.")


class ComputeConfig(Section):
    """Cores; clients x threads <= cores."""

    threads: int = Field(default=1, ge=1, description="torch threads a client: part of what makes bytes reproducible.")
    server_workers: int = Field(default=1, ge=1, description="Studies of the external centre prepared at once.")
    device: Literal["auto", "cpu", "cuda"] = "auto"


class TrackingConfig(Section):
    """Whether MLflow is told of the run; needs the extra `tracking`."""

    mlflow: bool = False
    uri: str = Field(
        default="", description="Address of an MLflow server; empty: `runs/mlflow.db`, with `runs/mlflow-artifacts`."
    )
    experiment: str = Field(default="fedbreast", min_length=1, max_length=100)

    @field_validator("uri")
    @classmethod
    def _a_server_without_its_password(cls, uri: str) -> str:
        parts = urlsplit(uri)
        if uri and (parts.scheme not in {"http", "https"} or not parts.hostname):
            raise ValueError("is no address of an MLflow server: http(s)://HOST:PORT, or empty for a file in runs/")
        if "@" in parts.netloc or parts.query:
            # The configuration travels to the sites and stands in the report.
            raise ValueError(
                "holds a password: put it into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                "MLFLOW_TRACKING_TOKEN"
            )
        return uri
