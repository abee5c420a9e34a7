"""Wakes the loop when the engine says that something of ours changed: a hint, never a fact.

The engine keeps few events and promises none, so nothing is decided from what is heard here; whoever is woken looks for
himself. After every (re)connection the loop is woken too, since anything may have happened in between.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import docker

from reconciler.adapters import docker_decode as decode
from reconciler.adapters.engine_connection import TROUBLE, Connect, connect_to, default_address

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
CONTAINER_EVENTS = ("start", "die", "destroy", "oom", "kill", "health_status", "pause", "unpause")
NETWORK_EVENTS = ("disconnect", "destroy")


class EngineEvents:
    """Follows the engine's events on a thread of its own, for ever.

    `wake` gets a few words and must return at once; it is called from that thread. `networks` answers the names
    of the networks that matter now (events about networks carry no labels).
    """

    def __init__(
        self,
        project: str,
        wake: Callable[[str], None],
        *,
        networks: Callable[[], frozenset[str]] = frozenset,
        base_url: str | None = None,
        connect: Connect = connect_to,
    ) -> None:
        self._project = project
        self._wake = wake
        self._networks = networks
        self._base_url = default_address(base_url)
        self._connect = connect
        self._stopped = threading.Event()
        self._stream: Any = None
        self._thread = threading.Thread(target=self._follow_for_ever, name="engine-events", daemon=True)

    def start(self) -> None:
        """Follow from now on."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Wake nobody any more; the thread has ended, or will with the process."""
        self._stopped.set()
        self._hang_up()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _follow_for_ever(self) -> None:
        delay_s = BACKOFF_FIRST_S
        while not self._stopped.is_set():
            try:
                if self._follow():
                    delay_s = BACKOFF_FIRST_S
            except (*TROUBLE, AttributeError):
                pass  # whatever broke, the answer is the same: wait and connect again
            self._stopped.wait(delay_s)
            delay_s = min(BACKOFF_MAX_S, delay_s * 2)

    def _follow(self) -> bool:
        """Follow one connection to its end; whether there was one."""
        client = self._connect(self._base_url, "auto", 10.0)
        try:
            client.timeout = None  # type: ignore[assignment]  # an engine with nothing to say is silent
            self._stream = client.events(decode=True, filters=_filters())
            self._tell("connected")
            for event in self._stream:
                words = self.of_interest(decode.table(event))
                if words is not None:
                    self._tell(words)
        finally:
            self._hang_up()
            client.close()
        return True

    def _tell(self, words: str) -> None:
        if not self._stopped.is_set():
            self._wake(words)

    def _hang_up(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(*TROUBLE, AttributeError, docker.errors.DockerException):
                stream.close()

    def of_interest(self, event: Mapping[str, Any]) -> str | None:
        """An event in a few words, where it is about something of ours; else None."""
        kind, action = decode.text(event.get("Type")), decode.text(event.get("Action"))
        about = decode.table(decode.table(event.get("Actor")).get("Attributes"))
        name = decode.text(about.get("name"))
        if kind == "container" and about.get(decode.PROJECT) == self._project:
            return f"{name} {action}" if action.partition(":")[0] in CONTAINER_EVENTS else None
        if kind == "network" and name in self._networks():
            return f"network {name} {action}" if action in NETWORK_EVENTS else None
        return None


def _filters() -> dict[str, list[str]]:
    return {"type": ["container", "network"], "event": sorted({*CONTAINER_EVENTS, *NETWORK_EVENTS})}
