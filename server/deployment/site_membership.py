"""The sites that a server's kit lists, made known to nginx and to Flower while both run.

Files of the kit come one after the other when they are copied, and half of one may be there for a while. So only what
has stood still is acted on; what cannot be read or is refused is noted once, the site stays as it was, and everything
is tried again at the next change, or after a pause that grows.
"""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable, Mapping

from server.deployment.nginx import reload
from server.deployment.server_kit import ServerKit, SiteKey
from server.deployment.superlink import register, unregister
from shared.errors import ConfigError, RunError

PAUSES_S = (5.0, 300.0)
"""The first pause before trying again, and the longest."""
_LONGEST_REASON = 300

_Member = tuple[str, bytes]
"""A site's name and its node key: another key is another member to Flower. A certificate is nginx's affair alone."""


class Membership:
    """Who takes part, as the kit says it.

    Parameters
    ----------
    kit
        The server's kit.
    environment
        For Flower's command line.
    host
        Address that nginx listens on.
    note
        Called with an event's name and its facts.

    """

    def __init__(self, kit: ServerKit, environment: Mapping[str, str], host: str, note: Callable[..., None]) -> None:
        self.kit, self.environment, self.host, self._note = kit, environment, host, note
        self._view: dict[str, SiteKey] = {}
        self._numbers: dict[_Member, str] = {}
        """Flower's number of each member; empty where Flower has forgotten it."""
        self._left: list[str] = []
        """Sites that Flower has forgotten; nginx may not know it yet."""
        self._loaded = self._seen = self._done = kit.stamp()
        self._pause, self._due = PAUSES_S[0], math.inf
        self._begun = False
        self._said: dict[tuple[str, str], str] = {}
        self._said_before: dict[tuple[str, str], str] = {}

    @property
    def registered(self) -> int:
        """How many sites Flower knows."""
        return sum(1 for number in self._numbers.values() if number)

    def start_over(self, nginx: subprocess.Popen[bytes]) -> None:
        """Make everybody known to a SuperLink that has just started, and knows nobody.

        Raises
        ------
        ConfigError, RunError
            At the very first start: a kit that cannot be used is told at once.

        """
        self._numbers = dict.fromkeys(self._numbers, "")
        self._meet(self.kit.stamp(), nginx)
        self._begun = True

    def glance(self, nginx: subprocess.Popen[bytes]) -> None:
        """Act on a change of the kit that has stood still since the last glance, or on what is left to be done."""
        now = self.kit.stamp()
        settled, self._seen = now == self._seen, now
        if settled and (now != self._done or time.monotonic() >= self._due):
            self._meet(now, nginx)

    def _meet(self, stamp: tuple[object, ...], nginx: subprocess.Popen[bytes]) -> None:
        """Have exactly the listed sites known: in nginx first, so that a revoked one is out at once."""
        self._pause = PAUSES_S[0] if stamp != self._done else min(2 * self._pause, PAUSES_S[1])
        self._done = stamp
        self._said_before, self._said = self._said, {}
        self._look()
        self._load(stamp, nginx)
        self._dismiss(loaded=stamp == self._loaded)
        self._welcome()
        self._due = time.monotonic() + self._pause if self._said else math.inf

    def _look(self) -> None:
        try:
            found, faults = self.kit.look()
        except ConfigError as error:
            self._fault("kit-not-read", error)
            return
        kept = {name: self._view[name] for name in faults if name in self._view}
        self._view = kept | {site.name: site for site in found}
        for name, fault in faults.items():
            self._fault("site-not-read", fault, name)

    def _load(self, stamp: tuple[object, ...], nginx: subprocess.Popen[bytes]) -> None:
        if stamp == self._loaded:
            return
        try:
            reload(self.kit, nginx, self.host, tuple(self._view.values()))
        except RunError as error:
            self._fault("reload-refused", error)
            return
        self._loaded = stamp
        if ("reload-refused", "") in self._said_before:
            self._note("reloaded")

    def _dismiss(self, *, loaded: bool) -> None:
        wanted = {(site.name, site.public_key) for site in self._view.values()}
        for member in [member for member in self._numbers if member not in wanted]:
            try:
                if self._numbers[member]:
                    unregister(self._numbers[member], self.environment)
            except (RunError, OSError) as error:
                self._fault("site-not-removed", error, member[0])
                continue
            del self._numbers[member]
            self._left.append(member[0])
        if loaded:
            for name in self._left:
                self._note("site-removed", site=name)
            self._left = []

    def _welcome(self) -> None:
        for site in self._view.values():
            member = (site.name, site.public_key)
            if self._numbers.get(member):
                continue
            try:
                self._numbers[member] = register(site, self.environment)
            except (RunError, OSError) as error:
                self._fault("site-refused", error, site.name)
            else:
                self._note("site-registered", site=site.name)

    def _fault(self, event: str, error: ConfigError | RunError | OSError, site: str = "") -> None:
        """Note what is wrong unless that was noted the last time; before anything is known, it ends the server."""
        if not self._begun:
            raise error
        why = " ".join(str(error).replace(f"{self.kit.folder}/", "").split())[:_LONGEST_REASON]
        self._said[event, site] = why
        if self._said_before.get((event, site)) != why:
            self._note(event, **({"site": site} if site else {}), why=why)
