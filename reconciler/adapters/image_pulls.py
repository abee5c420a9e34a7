"""Images fetched beside the loop, or built here where none can be fetched."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from reconciler.adapters import docker_decode as decode
from reconciler.adapters.engine_connection import TROUBLE, Connections
from reconciler.adapters.errands import Errand, Errands
from reconciler.core.errors import EngineError
from reconciler.core.plan import OK, Outcome, Result

PULLS_AT_ONCE = 3
PULL_DEADLINE_S = 1800.0
PULL_SILENCE_S = 300.0
BACKOFF_FIRST_S = 10.0
BACKOFF_MAX_S = 600.0
LOOK_AGAIN_S = 0.5


class LocalBuilds(Protocol):
    """Images that can be built on this machine in place of ones that cannot be pulled."""

    def substitute_for(self, reference: str) -> str | None:
        """The image that may stand in, built or not; without a tag it means the newest of that repository."""
        ...

    def build(self, reference: str) -> None:
        """The substitute for `reference` is on the engine. Raises EngineError."""
        ...


class NoLocalBuilds:
    """Nothing stands in for anything."""

    def substitute_for(self, reference: str) -> str | None:
        """Always None."""
        return None

    def build(self, reference: str) -> None:
        """Never asked for."""
        raise EngineError(f"Nothing on this machine can be built in place of {reference}.")


@dataclass(frozen=True, slots=True)
class PullFailure:
    """Why an image could not be had, how many times in a row, and when (monotonic seconds) it may be tried again."""

    reason: str
    times: int
    not_before_s: float


class ImagePulls:
    """Pulls, a few at once, one for each image. What failed is tried again after a pause that doubles."""

    def __init__(
        self, connections: Connections, errands: Errands, builds: LocalBuilds, monotonic: Callable[[], float]
    ) -> None:
        self._connections = connections
        self._errands = errands
        self._builds = builds
        self._monotonic = monotonic
        self._slots = threading.Semaphore(PULLS_AT_ONCE)
        self._failures: dict[str, PullFailure] = {}

    def failures(self, wanted: Iterable[str], here: Iterable[str]) -> dict[str, str]:
        """Why images are not to be had; the failures of those that are here are forgotten."""
        for reference in here:
            self._failures.pop(reference, None)
        return {name: failure.reason for name in wanted if (failure := self._failures.get(name)) is not None}

    def forget_failures(self) -> None:
        """What failed may be tried again at once."""
        self._failures.clear()

    def pull(self, reference: str) -> Result:
        """PENDING while it runs (started when it does not), FAILED with the reason until the pause is over."""
        key = f"pull {reference}"
        errand = self._errands.running(key)
        if errand is None:
            failure = self._failures.get(reference)
            wait_s = failure.not_before_s - self._monotonic() if failure is not None else 0.0
            if failure is not None and wait_s > 0:
                return Result(Outcome.FAILED, f"{failure.reason} Tried again in {wait_s:.0f} s.")
            errand = self._errands.start(key, lambda own: self._obtain(reference, own))
        return Result(Outcome.PENDING, errand.words or f"pulling {reference}", LOOK_AGAIN_S)

    def _obtain(self, reference: str, errand: Errand) -> Result:
        """Runs beside the loop: pull, and where that fails build what may stand in."""
        try:
            with self._slots:
                reason = self._pull_now(reference, errand)
                if reason is not None and self._builds.substitute_for(reference) is not None:
                    errand.words = f"{reference} cannot be pulled; building a substitute here"
                    reason = self._build_now(reference, reason)
        except Exception:
            self._remember_failure(reference, f"{reference}: a bug of ours stopped the pull.")
            raise
        if reason is None:
            self._failures.pop(reference, None)
            return OK
        self._remember_failure(reference, reason)
        return Result(Outcome.FAILED, reason)

    def _pull_now(self, reference: str, errand: Errand) -> str | None:
        """Why it could not be pulled, or None."""
        errand.words = f"pulling {reference}"
        give_up = self._monotonic() + PULL_DEADLINE_S
        layers: dict[str, str] = {}
        try:
            client = self._connections.fresh(PULL_SILENCE_S)
            with closing(client):
                for event in map(decode.table, client.pull(reference, stream=True, decode=True)):
                    reason = decode.pull_failure(event)
                    if reason is not None:
                        return f"{reference} cannot be pulled: {' '.join(reason.split())[: decode.MAX_WORDS]}"
                    if self._monotonic() > give_up:
                        return f"{reference} cannot be pulled: not finished after {PULL_DEADLINE_S:.0f} s."
                    if event.get("id") and "Pulling from" not in decode.text(event.get("status")):
                        layers[decode.text(event.get("id"))] = decode.text(event.get("status"))
                    errand.words = f"pulling {reference}: {decode.layers_done(layers)}"
        except TROUBLE as trouble:
            return f"{reference} cannot be pulled: {self._connections.noted(trouble).words}"
        return None

    def _build_now(self, reference: str, pull_reason: str) -> str | None:
        try:
            self._builds.build(reference)
        except EngineError as failed:
            return f"{pull_reason} The build in its stead failed too: {failed}"
        return None

    def _remember_failure(self, reference: str, reason: str) -> None:
        before = self._failures.get(reference)
        times = before.times + 1 if before is not None else 1
        wait_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(times - 1, 16))
        self._failures[reference] = PullFailure(reason, times, self._monotonic() + wait_s)
