"""CONSORTIUM.toml: the members of a consortium and its server's address; production has stricter rules."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from shared.config.sections import Section, SiteName
from shared.config.strict_toml import read_toml, validated
from shared.errors import ConfigError
from shared.runtime.kit import AgreedCases, Port

Days = Annotated[int, Field(ge=1, strict=True)]
Flag = Annotated[bool, Field(strict=True)]

RESERVED = ("authority", "server", "observer")
"""Folders of a consortium that are not a site's."""
FEWEST_SITES = 2
LONGEST_DAYS = 398
"""The longest that browsers accept (CA/Browser Forum, Baseline Requirements 6.3.2)."""
_LABEL = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
_LONGEST_NAME = 253


class ServerSection(Section):
    """The server's address and ports."""

    address: str = Field(description="DNS name or IPv4 address by which hospitals reach the server.")
    port: Port = Field(default=9443, description="nginx: the only port hospitals need, outbound from them.")
    status_port: Port = Field(default=9444, description="Status and health over gRPC, for observers.")
    superlink_port: Port = Field(default=9445, description="Flower's SuperLink, on loopback only.")

    @field_validator("address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        labels = value.split(".")
        # A last label of digits is an IPv4 address, whole or mistyped (RFC 3696, section 2).
        if labels[-1].isdigit():
            try:
                number = ipaddress.IPv4Address(value)
            except ValueError:
                raise ValueError(f"'{value}' is no IPv4 address") from None
            if number.is_unspecified:
                raise ValueError("0.0.0.0 is where a server listens, not where hospitals find it: name its address")
            return value
        if len(value) > _LONGEST_NAME or not all(_LABEL.match(label) for label in labels):
            raise ValueError(f"'{value}' is no DNS name in small letters or IPv4 address; leave out https:// and port")
        return value

    @model_validator(mode="after")
    def _ports_differ(self) -> ServerSection:
        ports = (self.port, self.status_port, self.superlink_port)
        if len(set(ports)) != len(ports):
            raise ValueError("port, status_port and superlink_port must differ")
        return self


class Validity(Section):
    """How long certificates are valid, in days."""

    valid_days: Days = Field(default=365, description="Of server, sites and observer.")
    authority_days: Days = Field(default=3650, description="Of the authority; no certificate outlives it.")
    warn_days: Days = Field(default=30, description="`fedbreast expiry` warns from so many days before the end.")

    @model_validator(mode="after")
    def _authority_is_valid_longest(self) -> Validity:
        if self.valid_days > self.authority_days:
            raise ValueError("valid_days is longer than authority_days: no certificate outlives its authority")
        return self


class Member(Section):
    """A hospital."""

    name: SiteName = Field(description="As in data.sites of the runs and in the site's own site.toml.")
    most_cases: AgreedCases | None = Field(default=None, description="Training cases it may claim, as agreed with all.")


class Privacy(Section):
    """What every run of the consortium must satisfy."""

    differential_privacy: Flag = Field(default=False, description="Hospitals refuse a run without it.")


class Consortium(Section):
    """The whole file, as `fedbreast provision` reads it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")
    profile: Literal["trial", "production"] = "trial"
    contact: str = Field(
        default="", max_length=120, pattern=r"^[^\x00-\x1f`<>]*$", description="Whom hospitals tell of a lost key."
    )
    insecure: Flag = Field(default=False, description="Without TLS: only for experiments by hand; kits never are.")
    server: ServerSection
    certificates: Validity = Validity()
    privacy: Privacy = Privacy()
    sites: tuple[Member, ...] = Field(min_length=1)

    @property
    def site_names(self) -> tuple[str, ...]:
        """Names of the hospitals, in the file's order."""
        return tuple(site.name for site in self.sites)

    @property
    def most_cases(self) -> dict[str, int]:
        """Training cases that a hospital may claim, of those with whom a number was agreed."""
        return {site.name: site.most_cases for site in self.sites if site.most_cases is not None}

    @model_validator(mode="after")
    def _names_are_unique(self) -> Consortium:
        if twice := [name for name, times in Counter(self.site_names).items() if times > 1]:
            raise ValueError(f"sites names {', '.join(twice)} twice")
        if taken := set(self.site_names) & set(RESERVED):
            raise ValueError(f"a site cannot be called '{min(taken)}': that folder holds something else")
        return self


def load_consortium(path: Path) -> Consortium:
    """Read and check CONSORTIUM.toml; a `ConfigError` names each faulty key with its full path, and the remedy."""
    consortium = validated(Consortium, read_toml(path, "consortium's file"), path.name)
    if consortium.profile == "production" and (faults := _unfit_for_production(consortium)):
        raise ConfigError(f"{path.name}: profile 'production' refuses this: " + "; ".join(faults))
    return consortium


def _unfit_for_production(consortium: Consortium) -> list[str]:
    faults = []
    if consortium.insecure:
        faults.append("'insecure' is true: take it out, hospitals talk to the server over TLS only")
    if not consortium.privacy.differential_privacy:
        faults.append("'privacy.differential_privacy' is false: set it true, or set profile = \"trial\"")
    if len(consortium.sites) < FEWEST_SITES:
        faults.append(f"'sites' lists {len(consortium.sites)}: an average of one is that hospital's own model; add one")
    if consortium.certificates.valid_days > LONGEST_DAYS:
        days = consortium.certificates.valid_days
        faults.append(f"'certificates.valid_days' is {days}: a lost key would hold too long; {LONGEST_DAYS} or fewer")
    return faults
