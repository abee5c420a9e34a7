"""The real daemon with a crash switch. Run as a program in its place:

python launch.py FOLDER [reconcilerd's own arguments]

Every effect (an action of a plan, a write of the state, an append to the history) is journalled in FOLDER/journal
before and after it. FOLDER/arm lists deaths: the name of an effect (or how many come first, counted from the process's
start or the arming) and a side; there the process kills itself with SIGKILL, once for each. The product knows nothing
of this: its executor and its two stores are wrapped here.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import reconciler.loop
from reconciler import daemon
from reconciler.adapters.history_file import HistoryFile
from reconciler.adapters.rollout_store import RolloutFiles
from reconciler.adapters.state_dir import StateDir
from reconciler.core.plan import WAITING, Action, CreateContainer, RemoveFile, Result, SetTraffic, WriteFile
from reconciler.core.record import Cycle
from reconciler.core.rollout import Rollout
from reconciler.cycle import acting

_NAME = re.compile(r"^[0-9a-z]+-(?P<what>.+?)-[0-9a-f]{8}(-\d+)?-g\d+$")
_HASH = re.compile(r"[0-9a-f]{8,}")


class Switch:
    """Names each effect `PHASE: VERB WHAT #K`; K counts the distinct ones of that name since the switch was armed."""

    def __init__(self, folder: Path) -> None:
        self._arm = folder / "arm"
        self._journal = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._lock = threading.Lock()
        self._phase = "none"
        self._id = ""
        self._deaths: list[tuple[str | int, str]] = []
        self._counts: Counter[str] = Counter()
        self._seen: dict[str, str] = {}
        self.say("started")

    def say(self, kind: str, **more: Any) -> None:
        line = json.dumps({"at": time.monotonic(), "pid": os.getpid(), "kind": kind, **more}) + "\n"
        os.write(self._journal, line.encode())

    def in_phase(self, rollout: Rollout) -> None:
        words = [f"{state.phase}/{state.step}" for state in rollout.services.values()]
        self._phase = "torn down" if rollout.torn_down else "+".join(words) or "none"

    def around(self, what: str, identity: str, effect: Callable[[], Any]) -> Any:
        """`effect` with a journal line, and possibly death, on both sides; one asked for again keeps its name."""
        with self._lock:
            self._look_whether_armed()
            name = f"{self._phase}: {what}"
            key = f"{name} {identity}"
            if key not in self._seen:
                self._counts[name] += 1
                self._seen[key] = f"{name} #{self._counts[name]}"
            name, number = self._seen[key], len(self._seen)
        self._pass("before", name, number)
        result = effect()
        self._pass("after", name, number)
        return result

    def _pass(self, side: str, name: str, number: int) -> None:
        self.say(side, name=name, armed=self._id)
        for death in self._deaths:
            if death in ((name, side), (number, side)):
                self._die(death)

    def _die(self, death: tuple[str | int, str]) -> None:
        with self._lock:  # never given back: the others die where they wait for it
            left = [one for one in self._deaths if one != death]
            if left:
                new = self._arm.with_name(".arm-left")
                new.write_text(json.dumps({"id": self._id, "deaths": left}))
                os.replace(new, self._arm)
            else:
                self._arm.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)

    def _look_whether_armed(self) -> None:
        try:
            armed = dict(json.loads(self._arm.read_text()))
        except (OSError, ValueError):
            self._id, self._deaths = "", []
            return
        if armed["id"] != self._id:
            self._id = str(armed["id"])
            self._counts.clear()
            self._seen.clear()
        self._deaths = [(name, side) for name, side in armed["deaths"]]


def wrap(switch: Switch) -> None:
    """From now on every effect of this process goes through the switch."""
    _wrap_actions(switch)
    _wrap_state(switch)
    turned = vars(reconciler.loop)["run_cycle"]

    def run_cycle(*args: Any) -> Any:
        answer = turned(*args)
        switch.say("cycle", **_seen(answer[0]))
        return answer

    vars(reconciler.loop)["run_cycle"] = run_cycle


def _seen(cycle: Cycle) -> dict[str, Any]:
    """What the tests wait for: asking the daemon would wake it, and make it look better than it is."""
    services = cycle.rollout.services.values()
    stable = [state.stable.revision for state in services if state.stable]
    return {
        "is_idle": not (cycle.plan or cycle.moved),
        "errors": list(cycle.errors),
        "asked": cycle.asked,
        "phase": "torn down" if cycle.rollout.torn_down else "+".join(str(state.phase) for state in services),
        "weight": [cycle.observed.proxy.weights.get(state.service) for state in services] if cycle.observed else [],
        "version": [cycle.made_of.get(revision, ("", ""))[1] for revision in stable],
        "quarantined": [revision for state in services for revision in state.quarantined],
    }


def _wrap_actions(switch: Switch) -> None:
    made = vars(acting)["performer"]

    def performer(ports: Any) -> Callable[[Action], Result]:
        perform: Callable[[Action], Result] = made(ports)

        def performed(action: Action) -> Result:
            if isinstance(action, WAITING):
                return perform(action)
            result: Result = switch.around(_words(action), repr(action), lambda: perform(action))
            return result

        return performed

    vars(acting)["performer"] = performer


def _words(action: Action) -> str:
    verb = type(action).__name__
    if isinstance(action, WriteFile | RemoveFile):
        return f"{verb} {_plain(action.path)}"
    if isinstance(action, SetTraffic):
        return f"{verb} {action.weight_pct}"
    if isinstance(action, CreateContainer):
        found = _NAME.match(action.name)
        return f"{verb} {found['what'] if found else action.name}"
    return verb


def _wrap_state(switch: Switch) -> None:
    """What is written to the state directory: whole files, their removal, and the history's records."""
    save, load, append = RolloutFiles.save, RolloutFiles.load, HistoryFile.append
    write, remove = StateDir.write_bytes, StateDir.remove

    def saved(self: RolloutFiles, rollout: Rollout) -> None:
        switch.in_phase(rollout)
        save(self, rollout)

    def loaded(self: RolloutFiles) -> Rollout:
        rollout = load(self)
        switch.in_phase(rollout)
        return rollout

    def appended(self: HistoryFile, record: Any, timestamp: str | None = None) -> Any:
        return switch.around(f"append {record.get('kind')}", "", lambda: append(self, record, timestamp))

    def written(self: StateDir, relative: str, content: bytes, mode: int = 0o640) -> None:
        switch.around(f"write {_plain(relative)}", "", lambda: write(self, relative, content, mode))

    def removed(self: StateDir, relative: str) -> None:
        switch.around(f"remove {_plain(relative)}", "", lambda: remove(self, relative))

    RolloutFiles.save, RolloutFiles.load = saved, loaded  # type: ignore[method-assign]
    HistoryFile.append = appended  # type: ignore[method-assign]
    StateDir.write_bytes, StateDir.remove = written, removed  # type: ignore[method-assign]


def _plain(path: str) -> str:
    """Without the hashes that differ from run to run."""
    return _HASH.sub("*", path)


def main() -> int:
    folder = Path(sys.argv.pop(1))
    wrap(Switch(folder))
    return daemon.main()


if __name__ == "__main__":
    sys.exit(main())
