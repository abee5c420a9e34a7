"""nginx in a simulated world: what is on disk, what runs, who still serves an older text, and who gets the requests."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from reconciler.core.errors import RenderError
from reconciler.core.observed import ObservedContainer, ObservedProxy
from reconciler.core.plan import OK, Outcome, PrepareProxy, ReloadProxy, Result, SetTraffic, TestProxyConfig
from tests.sim.clock import SimClock
from tests.sim.files import SimFiles

CONFIG = "nginx/live/nginx.conf"


class Routes(NamedTuple):
    """What one text says: each service's default slot, the addresses of each of its slots, and the text's hash."""

    default: Mapping[str, str]
    members: Mapping[str, frozenset[str]]
    hash: str


@functools.lru_cache(maxsize=4096)
def routes(text: str) -> Routes:
    """Read nginx's text as nginx would; RenderError where it is not one of ours."""
    found = re.search(r'return 200 "([0-9a-f]{64}) \$pid', text)
    if found is None:
        raise RenderError("nginx: [emerg] unexpected end of file")
    default = {name: slot for name, slot in re.findall(r"set \$up ([a-z0-9]+)-(blue|green);\n +if", text)}
    blocks = re.findall(r"upstream (\S+) \{(.*?)\}", text, re.DOTALL)
    members = {name: frozenset(re.findall(r"server ([0-9.]+):", block)) for name, block in blocks}
    return Routes(default, members, found[1])


def shares(text: str, weights: Mapping[str, int], service: str) -> Iterator[tuple[str, float]]:
    """How a service's requests are split over addresses; those that nobody takes are left out."""
    found = routes(text)
    slot = found.default.get(service)
    if slot is None:
        return
    weight = weights.get(service, 0) / 100
    for place, part in ((slot, 1.0 - weight), ("green" if slot == "blue" else "blue", weight)):
        there = found.members.get(f"{service}-{place}", frozenset())
        if part > 0:
            for address in sorted(there):
                yield address, part / len(there)


class SimProxy:
    """nginx. `lag_s` is how late a reload shows, `drain_s` how long old workers go on after it.

    `ignores` reloads are taken and not carried out, as when a port cannot be bound. `hangs`: nobody answers.
    """

    def __init__(self, files: SimFiles, clock: SimClock) -> None:
        self.files, self.clock = files, clock
        self.weights: dict[str, int] = {}
        self.live: str | None = None
        self.old: list[tuple[str, float, float]] = []
        self.lag_s, self.drain_s = 0.15, 0.15
        self.ignores = 0
        self.hangs = False
        self.reloads = 0
        self._coming: tuple[float, str] | None = None
        self._reloaded = 0.0
        self._run: tuple[str, int] | None = None

    def clone(self, files: SimFiles, clock: SimClock) -> SimProxy:
        """The same nginx in another world."""
        twin = SimProxy(files, clock)
        for name in ("live", "lag_s", "drain_s", "ignores", "hangs", "reloads", "_coming", "_reloaded", "_run"):
            setattr(twin, name, getattr(self, name))
        twin.weights, twin.old = dict(self.weights), list(self.old)
        return twin

    def can_start(self) -> bool:
        """What is on disk is a configuration."""
        text = self.files.texts.get(CONFIG)
        return text is not None and _is_fit(text)

    def is_new(self, container_id: str, pid: int) -> bool:
        """Another process than the one that was seen last."""
        return self._run != (container_id, pid)

    def settle(self, container_id: str, pid: int) -> None:
        """nginx follows its container: another process reads what is on disk, none serves nobody."""
        run = (container_id, pid) if pid else None
        if run != self._run:
            self._run, self.old, self._coming = run, [], None
            text = self.files.texts.get(CONFIG) if run else None
            self.live = text if text is not None and _is_fit(text) else None
        now = self.clock.seconds
        if self._coming is not None and now >= self._coming[0]:
            at, text = self._coming
            self.old += [(self.live, at, at + self.drain_s)] if self.live else []
            self.live, self._coming = text, None
        if self.old:
            self.old = [each for each in self.old if now < each[2]]

    def observe(self, container: ObservedContainer | None, services: Sequence[str]) -> ObservedProxy:
        """What runs and which weights the flags say. Never raises."""
        weights = {name: self.weights[name] for name in services if name in self.weights}
        if container is None or self._run is None or container.id != self._run[0]:
            return ObservedProxy(weights=weights)
        retiring = len(self.old) + (self._coming is not None)
        for_s = self.clock.seconds - self.retired_at() if retiring else 0.0
        live = routes(self.live).hash if self.live and not self.hangs else None
        return ObservedProxy(live, retiring, for_s, weights)

    def retired_at(self) -> float:
        """When the last reload took place, or was asked for where it is still to come; seconds of the clock."""
        return self._reloaded if self._coming is not None or not self.old else self.old[-1][1]

    def apply(self, action: PrepareProxy | TestProxyConfig | ReloadProxy | SetTraffic) -> Result:
        """Prepare for a start, test a configuration, reload, or move weights. Never raises."""
        match action:
            case PrepareProxy():
                self.weights = dict.fromkeys(action.services, 0) | self.weights
            case TestProxyConfig():
                if not _is_fit(action.content):
                    return Result(Outcome.FAILED, "nginx refuses the configuration")
            case ReloadProxy():
                return self._reload(action.container_id)
            case SetTraffic():
                self.weights[action.service] = action.weight_pct
        return OK

    def _reload(self, container_id: str) -> Result:
        if self._run is None or self._run[0] != container_id:
            return Result(Outcome.FAILED, "nginx does not run; there is nothing to reload.")
        self.reloads += 1
        text = self.files.texts.get(CONFIG)
        if self.ignores:
            self.ignores -= 1
        elif text is not None and _is_fit(text):
            self._reloaded = self.clock.seconds
            self._coming = (self._reloaded + self.lag_s, text)
        return OK

    def generations(self, patience_s: float) -> Iterator[str]:
        """The texts by which workers serve now; those that outlived `patience_s` since they were retired left out."""
        if self.live is not None:
            yield self.live
        for text, since, _ in self.old:
            if self.clock.seconds - since < patience_s:
                yield text


@functools.lru_cache(maxsize=4096)
def _is_fit(text: str) -> bool:
    try:
        routes(text)
    except RenderError:
        return False
    return True
