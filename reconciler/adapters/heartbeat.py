"""Whether the loop goes round, told to whoever would restart us if it did not.

The loop gives a sign of life at every call of a port and promises how long it will sleep. A thread of its own, the
heart, passes that on. A loop that is silent for longer than any step may take is hung; one that waits for a slow disk
is not: a new process would wait for the same disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from reconciler.adapters import clock
from reconciler.ports import Ports

HANG_S = 180.0
"""More than the longest step takes when it uses up its deadlines: five calls of 30 s to try nginx's configuration."""
TELL_EVERY_S = 10.0
_NOT_THE_WORLD = ("clock", "instance")


class Pulse:
    """When the loop last gave a sign. `got_on` and `rest` may be called from any thread, `silent_s` from one."""

    def __init__(
        self,
        monotonic: Callable[[], float] = clock.monotonic,
        waits_for_disk: Callable[[], bool] = lambda: waits_for_disk(),
    ) -> None:
        self._monotonic = monotonic
        self._waits_for_disk = waits_for_disk
        self._silent_from = self._looked_at = monotonic()
        self._lock = threading.Lock()

    def got_on(self) -> None:
        """A step was begun or done."""
        with self._lock:
            self._silent_from = self._monotonic()

    def rest(self, at_most_s: float) -> None:
        """Nothing is to be expected for `at_most_s`."""
        with self._lock:
            self._silent_from = self._monotonic() + at_most_s

    def silent_s(self, look_every_s: float) -> float:
        """For how long a sign has been due, asked every `look_every_s`.

        Of the time since the last look nothing counts where a thread waits for a disk, and not more than two looks'
        where this one is late: the process was frozen, or got no processor, and the loop with it.
        """
        now = self._monotonic()
        since_last_look, self._looked_at = now - self._looked_at, now
        excused = max(0.0, since_last_look - 2 * look_every_s)
        with self._lock:
            if now > self._silent_from:
                excused = since_last_look if self._waits_for_disk() else excused
                self._silent_from = min(now, self._silent_from + excused)
            return max(0.0, now - self._silent_from)


class Heart:
    """Calls `tell` every `every_s` while the loop goes round, and `hung` once when it was silent for `limit_s`."""

    def __init__(
        self, pulse: Pulse, tell: Callable[[], None], hung: Callable[[float], None], *, every_s: float, limit_s: float
    ) -> None:
        self._pulse = pulse
        self._tell = tell
        self._hung = hung
        self._every_s = every_s
        self._limit_s = limit_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)

    def start(self) -> None:
        """It beats from now on."""
        self._thread.start()

    def stop(self) -> None:
        """It beats no more when this returns."""
        self._stopped.set()
        self._thread.join()

    def _beat(self) -> None:
        while (silent_s := self._pulse.silent_s(self._every_s)) < self._limit_s:
            self._tell()
            if self._stopped.wait(self._every_s):
                return
        self._hung(silent_s)


def seen_by(got_on: Callable[[], None], ports: Ports) -> Ports:
    """The same ports; `got_on` is called when one of their methods is called and when it has returned."""
    names = [field.name for field in fields(ports) if field.name not in _NOT_THE_WORLD]
    seen: dict[str, Any] = {name: _Seen(getattr(ports, name), got_on) for name in names}
    return replace(ports, **seen)


class _Seen:
    def __init__(self, port: object, got_on: Callable[[], None]) -> None:
        self._port = port
        self._got_on = got_on

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._port, name)
        if not callable(attribute):
            return attribute

        def call(*positional: object, **named: object) -> object:
            self._got_on()
            try:
                return attribute(*positional, **named)
            finally:
                self._got_on()

        return call


def waits_for_disk(tasks: Path = Path("/proc/self/task")) -> bool:
    """Whether a thread of this process is in a sleep that no signal ends (state D); False where that cannot be told."""
    for stat in tasks.glob("*/stat"):
        with suppress(OSError, IndexError):
            if stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0] == "D":
                return True
    return False
