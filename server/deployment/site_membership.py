"""Keeps nginx and Flower in step with the sites that the server's kit lists, while both run.

When a kit is copied its files arrive one after the other, and half of one may be there for a while. So a change is
acted on only once the files have stopped changing. A site whose files cannot be read, or that Flower refuses, is noted
once and stays as it was; everything is tried again at the next change, or after a growing pause.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from server.deployment.nginx import reload_nginx
from server.deployment.server_kit import ServerKit, SiteKey
from server.deployment.superlink import register_all, unregister
from shared.errors import ConfigError, RunError
from shared.runtime.children import Child

PAUSES_S = (5.0, 300.0)
"""The first pause before everything is tried again, and the longest."""
_LONGEST_REASON = 300

_Member = tuple[str, bytes]
"""A site's name and its node key: to Flower another key is another node. Certificates concern nginx alone."""


class Membership:
    """The sites that nginx, which listens on `host`, and Flower know; `note` is called with an event and its facts."""

    def __init__(self, kit: ServerKit, environment: Mapping[str, str], host: str, note: Callable[..., None]) -> None:
        self.kit, self.environment, self.host, self._note = kit, environment, host, note
        self._sites: dict[str, SiteKey] = {}
        self._numbers: dict[_Member, str] = {}
        """Flower's number of each member; empty while Flower does not know it."""
        self._removed: list[str] = []
        """Sites that Flower has removed and nginx may still let in."""
        self._in_nginx = self._last = self._applied = kit.stamp()
        """The kit's stamp when nginx last read it, at the last look, and when it was last acted on."""
        self._pause, self._retry_at = PAUSES_S[0], math.inf
        self._started = False
        self._faults: dict[tuple[str, str], str] = {}
        self._faults_before: dict[tuple[str, str], str] = {}

    @property
    def registered(self) -> int:
        """How many sites Flower knows."""
        return sum(1 for number in self._numbers.values() if number)

    def register_all(self, nginx: Child) -> None:
        """Register every site with a SuperLink that has just started, and knows none.

        Raises
        ------
        ConfigError, RunError
            Only at the first start: the kit cannot be used.

        """
        self._numbers = dict.fromkeys(self._numbers, "")
        self._apply(self.kit.stamp(), nginx)
        self._started = True

    def update(self, nginx: Child) -> None:
        """Act on a change of the kit if nothing has changed since the last call, or try again what has failed."""
        now = self.kit.stamp()
        settled, self._last = now == self._last, now
        if settled and (now != self._applied or time.monotonic() >= self._retry_at):
            self._apply(now, nginx)

    def _apply(self, stamp: tuple[object, ...], nginx: Child) -> None:
        """Let in and register exactly the listed sites: nginx first, so that a revoked site is shut out at once."""
        self._pause = PAUSES_S[0] if stamp != self._applied else min(2 * self._pause, PAUSES_S[1])
        self._applied = stamp
        self._faults_before, self._faults = self._faults, {}
        self._read_kit()
        self._reload(stamp, nginx)
        self._unregister(nginx_knows=stamp == self._in_nginx)
        self._register()
        self._retry_at = time.monotonic() + self._pause if self._faults else math.inf

    def _read_kit(self) -> None:
        try:
            sites, faults = self.kit.read_sites()
        except ConfigError as error:
            self._fault("kit-not-read", error)
            return
        unchanged = {name: self._sites[name] for name in faults if name in self._sites}
        self._sites = unchanged | {site.name: site for site in sites}
        for name, fault in faults.items():
            self._fault("site-not-read", fault, name)

    def _reload(self, stamp: tuple[object, ...], nginx: Child) -> None:
        if stamp == self._in_nginx:
            return
        try:
            reload_nginx(self.kit, nginx, self.host, tuple(self._sites.values()))
        except RunError as error:
            self._fault("reload-refused", error)
            return
        self._in_nginx = stamp
        if ("reload-refused", "") in self._faults_before:
            self._note("reloaded")

    def _unregister(self, *, nginx_knows: bool) -> None:
        listed = {(site.name, site.public_key) for site in self._sites.values()}
        for member in [member for member in self._numbers if member not in listed]:
            try:
                if self._numbers[member]:
                    unregister(self._numbers[member], self.environment)
            except (RunError, OSError) as error:
                self._fault("site-not-removed", error, member[0])
                continue
            del self._numbers[member]
            self._removed.append(member[0])
        if nginx_knows:
            for name in self._removed:
                self._note("site-removed", site=name)
            self._removed = []

    def _register(self) -> None:
        left = [site for site in self._sites.values() if not self._numbers.get((site.name, site.public_key))]
        try:
            numbers = register_all(left, self.environment) if left else []
        except OSError as error:
            self._fault("site-refused", error, left[0].name)
            return
        for site, number in zip(left, numbers, strict=True):
            if isinstance(number, RunError):
                self._fault("site-refused", number, site.name)
            else:
                self._numbers[site.name, site.public_key] = number
                self._note("site-registered", site=site.name)

    def _fault(self, event: str, error: ConfigError | RunError | OSError, site: str = "") -> None:
        """Note what is wrong, unless it was noted the last time too; at the first start it is raised instead."""
        if not self._started:
            raise error
        why = " ".join(str(error).replace(f"{self.kit.folder}/", "").split())[:_LONGEST_REASON]
        self._faults[event, site] = why
        if self._faults_before.get((event, site)) != why:
            self._note(event, **({"site": site} if site else {}), why=why)
