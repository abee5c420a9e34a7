"""A stack whose daemon dies on request, and is started again at once, as systemd would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker

from reconciler.adapters.history_file import HistoryReader
from reconciler.control import ask
from reconciler.core.errors import ReconcilerError
from tests.e2e.stack import Stack, wait_for

LAUNCH = Path(__file__).with_name("launch.py")
JOURNAL_TAIL_BYTES = 65536
LOAD = Path(__file__).parents[1] / "steady.py"


class CrashStack(Stack):
    """A project whose daemon runs under the crash switch; deaths by SIGKILL are mended until `stop`."""

    def __init__(self, folder: Path, engine: docker.DockerClient, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, engine)
        self.deaths: list[float] = []
        self.environment = {**os.environ, **(environment or {})}
        self._keeping: threading.Thread | None = None
        self._ends = threading.Event()
        self._armed = 0
        self._read_to = 0
        self._last: dict[str, Any] = {}

    # -------------------------------------------------------- the daemon

    def start(self) -> None:
        """Start it, keep it running, and wait until it answers."""
        self._ends.clear()
        self._spawn()
        self._keeping = threading.Thread(target=self._keep, daemon=True)
        self._keeping.start()
        wait_for("the daemon answers", lambda: (self.folder / "state/run/control.sock").exists())

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self.daemon = subprocess.Popen(
                [sys.executable, str(LAUNCH), ".", "--state-dir", "state", "--metrics-port", "0"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def _keep(self) -> None:
        while not self._ends.is_set():
            daemon = self.daemon
            assert daemon is not None
            if daemon.wait() == 0 or self._ends.is_set():
                return
            self._spawn()
            self.deaths.append(time.monotonic())

    def daemon_dies(self) -> None:
        """SIGKILL from outside; returns when the next one was started."""
        deaths = len(self.deaths)
        assert self.daemon is not None
        self.daemon.kill()
        wait_for("the next daemon", lambda: len(self.deaths) > deaths, 10)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it for good; its exit code."""
        self._ends.set()
        code = super().stop(how)
        if self._keeping is not None:
            self._keeping.join()
        return code

    # -------------------------------------------------------- looking

    def status(self) -> dict[str, Any]:
        """As the daemon tells it, without a process for each question. Raises ConnectionError while there is none."""
        try:
            *_, end = ask(self.folder / "state/run/control.sock", "status", {}, silence_s=10)
        except ReconcilerError as error:
            raise ConnectionError(str(error)) from error
        return dict(end["value"])  # type: ignore[arg-type]

    def last_cycle(self) -> dict[str, Any]:
        """What the running daemon's last cycle saw; empty before its first one. The daemon is not disturbed."""
        with (self.folder / "journal").open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            if end != self._read_to:
                file.seek(max(0, end - JOURNAL_TAIL_BYTES))
                self._read_to, self._last = end, self._last_told(file.read().splitlines()[1:])
        return self._last if self._is_alive(self._last.get("pid")) else {}

    def _is_alive(self, pid: int | None) -> bool:
        """Whether that one is the daemon now; a process that has died has no program any more."""
        try:
            return self.daemon is not None and self.daemon.pid == pid and bool(os.readlink(f"/proc/{pid}/exe"))
        except OSError:
            return False

    def cycles(self) -> int:
        """How many cycles all its daemons have finished."""
        return (self.folder / "journal").read_bytes().count(b'"kind": "cycle"')

    def _last_told(self, lines: list[bytes]) -> dict[str, Any]:
        for line in reversed(lines):
            if b'"kind": "cycle"' in line or b'"kind": "started"' in line:
                told = dict(json.loads(line))
                return told if told["kind"] == "cycle" else {}
        return {}

    def rests(self, version: str | None = None) -> bool:
        """The daemon found nothing to do in its last cycle, with a stable release (of that version)."""
        seen = self.last_cycle()
        is_right = version is None or seen.get("version") == [version]
        return bool(seen) and is_right and seen["is_idle"] and seen["phase"] == "stable" and not seen["errors"]

    def history_is_whole(self) -> str:
        """ "" or what is wrong with the history."""
        reader = HistoryReader(self.folder / "state")
        report = reader.verify(full=True)
        return "" if report.is_whole and not reader.damage() else f"{report} {reader.damage()}"

    # -------------------------------------------------------- the switch

    def arm(self, *deaths: tuple[str | int, str]) -> None:
        """From now on effects are counted anew; the daemon dies at each of these (see launch.py), in any order."""
        self._armed += 1
        new = self.folder / ".arm"
        new.write_text(json.dumps({"id": str(self._armed), "deaths": deaths}))
        os.replace(new, self.folder / "arm")

    @property
    def has_struck(self) -> bool:
        return not (self.folder / "arm").exists()

    def disarm(self) -> None:
        (self.folder / "arm").unlink(missing_ok=True)

    def journal(self) -> list[dict[str, Any]]:
        try:
            text = (self.folder / "journal").read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines()]


class Client:
    """Steady keep-alive traffic in a process of its own that never retries."""

    def __init__(self, port: int, rate: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(LOAD), str(port), str(rate)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.counts: dict[str, int] = {}

    def stop(self) -> None:
        out, _ = self._process.communicate("stop\n", timeout=60)
        self.counts = json.loads(out)

    @property
    def failed(self) -> dict[str, int]:
        """Everything that was no answer of 200."""
        return {what: count for what, count in self.counts.items() if not what.startswith("200")}


@contextmanager
def traffic(port: int, rate: float = 60.0) -> Iterator[Client]:
    client = Client(port, rate)
    try:
        yield client
    finally:
        client.stop()
