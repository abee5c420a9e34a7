"""A desk with a whole host in memory behind it, and a manifest in a real file."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from reconciler.adapters.file_source import FileSource
from reconciler.core.record import Trigger
from reconciler.core.rollout import Phase, ServiceRollout
from reconciler.core.words import LookAgain
from reconciler.loop import Loop, Wake
from reconciler.operations import Exit, Request
from reconciler.operations.desk import Operations, Place
from tests.cycle.cycle_world import World

GOOD = """\
services:
  image: demo:1   # the one
  port: 3000
nginx: {image: "nginx:1.30", port: 8080}
network: {name: web, driver_type: bridge}
"""


class QuickLoop(Loop):
    """Sleeps by the clock of the world, so that minutes pass in no time."""

    def _next_wakes(self, delay_s: float) -> list[Wake]:
        self.ports.clock.seconds += max(delay_s, 0.1)  # type: ignore[attr-defined]
        return super()._next_wakes(0.0)


class Desk:
    def __init__(self, folder: Path) -> None:
        self.world = World()
        self.path = folder / "manifest.yaml"
        self.write(GOOD)
        source = FileSource(self.path, self.world.clock)
        self.world.ports = dataclasses.replace(self.world.ports, source=source)
        self.loop = QuickLoop(self.world.ports, self.world.setting, self.world.memory, lambda _cycle: None)
        self.answer: tuple[int, dict[str, str], bytes] | None = (200, {"x-mode": "canary"}, b'{"mode": "canary"}')
        self.sent: list[tuple[str, int, str, str, bytes]] = []
        place = Place(self.path, folder / "state", "2026-01-01T00:00:00+00:00")
        self.operations = Operations(place, source, lambda _acts: self.loop, self._replace, self._send)

    def write(self, text: str) -> None:
        self.path.write_text(text, encoding="utf-8")
        os.utime(self.path, (0, 0))

    def _replace(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        os.utime(path, (0, 0))

    def _send(self, *request: Any) -> tuple[int, dict[str, str], bytes] | None:
        self.sent.append(request)
        return self.answer

    def ask(self, verb: str, **args: Any) -> tuple[Exit, list[Any]]:
        """The exit code, and all events."""
        events = list(self.operations.run(Request(verb, args, "ann")))
        assert [event["event"] for event in events].count("end") == 1
        assert events[-1]["event"] == "end"
        return Exit(events[-1]["exit"]), events  # type: ignore[arg-type]

    def images(self) -> list[str]:
        return self.world.images()

    def wants(self, image: str = "demo:1", mode: str = "stable") -> None:
        """Somebody saves another manifest."""
        self.write(GOOD.replace("demo:1", image).replace("  port: 3000", f"  port: 3000\n  mode: {mode}"))

    @property
    def app(self) -> ServiceRollout:
        return self.loop.memory.rollout.of("app")

    def status(self) -> dict[str, Any]:
        return self.ask("status")[1][-1]["value"]

    def goes_on(self, seconds: float) -> None:
        """Cycles of a loop that nobody talks to."""
        until = self.world.clock.seconds + seconds
        for cycle in self.loop.follow(Trigger("interval"), LookAgain()):
            if cycle is not None and self.world.clock.seconds >= until:
                return

    def reaches(self, phase: Phase) -> None:
        for cycle in self.loop.follow(Trigger("interval"), LookAgain()):
            if cycle is not None and self.app.phase is phase:
                return
            assert self.world.clock.seconds < 10_000, f"never {phase}: {self.app}"


def steps(events: list[Any]) -> list[str]:
    return [event["text"] for event in events if event["event"] == "step"]


def lines(events: list[Any]) -> str:
    return "\n".join(event["text"] for event in events if event["event"] == "line")
