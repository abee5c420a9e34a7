"""Disks in a simulated world: what was not synced may be gone after the power was, and a full disk says so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from reconciler.adapters import rollout_store
from reconciler.adapters.memory import MemoryFiles
from reconciler.adapters.state_dir import LoadedJson
from reconciler.core.containers import KeptRevision
from reconciler.core.desired import DesiredState
from reconciler.core.errors import StateError
from reconciler.core.evidence import Evidence
from reconciler.core.plan import RemoveFile, Result, WriteFile
from reconciler.core.provenance import Commit
from reconciler.core.rollout import Rollout

FULL = "no space left on the device"


class SimFiles(MemoryFiles):
    """`rendered/`. `before` are texts that were replaced without an answer: power loss may bring them back.

    What was answered is synced, and stays (tests/adapters has the order of the real calls).
    """

    def __init__(self) -> None:
        super().__init__()
        self.before: list[tuple[str, str | None]] = []

    def clone(self) -> SimFiles:
        """The same folder in another world."""
        twin = SimFiles()
        twin.texts, twin.before, twin.is_full = dict(self.texts), list(self.before), self.is_full
        return twin

    def digests(self) -> Mapping[str, str]:
        return {path: _sha256(text) for path, text in self.texts.items()}

    def apply(self, action: WriteFile | RemoveFile) -> Result:
        self.before = [*self.before[-7:], (action.path, self.texts.get(action.path))]
        return super().apply(action)

    def lose_power(self, count: int) -> None:
        """The newest `count` changes of those that nobody acknowledged never reached the disk."""
        for path, text in reversed(self.before[len(self.before) - count :] if count else []):
            if text is None:
                self.texts.pop(path, None)
            else:
                self.texts[path] = text
        self.before = []


def _sha256(text: str) -> str:
    found = _DIGESTS.get(text)
    if found is None:
        if len(_DIGESTS) > 20_000:
            _DIGESTS.clear()
        found = _DIGESTS[text] = hashlib.sha256(text.encode()).hexdigest()
    return found


_DIGESTS: dict[str, str] = {}


class SimDisk:
    """The state directory, one level below the real store: JSON files that are durable once written.

    `values` are what is on disk; they are encoded and decoded by the real code when somebody reads them.
    """

    def __init__(self, act: Callable[[str, Callable[[], None]], None]) -> None:
        self.act = act
        self.values: dict[str, Any] = {}
        self.is_full = False
        self.has_reserve = True

    def save_decision(self, relative: str, value: Mapping[str, Any]) -> None:
        """As `save_json`; a disk that has just run full has room for one more."""
        self.act(f"save {relative}", lambda: self._put_anyway(relative, value["value"]))

    def _put_anyway(self, relative: str, value: Any) -> None:
        if self.is_full and not self.has_reserve:
            raise StateError(f"{relative}: {FULL}")
        self.has_reserve = not self.is_full
        self.values[relative] = value

    def save_json(self, relative: str, value: Mapping[str, Any]) -> None:
        self.act(f"save {relative}", lambda: self._put(relative, value["value"]))

    def _put(self, relative: str, value: Any) -> None:
        if self.is_full:
            raise StateError(f"{relative}: {FULL}")
        self.values[relative] = value

    def load_json(self, relative: str) -> LoadedJson:
        value = self.values.get(relative)
        if value is None:
            return LoadedJson(None)
        text = json.dumps({"format": rollout_store.FORMAT, "value": _PLAIN(value)}, allow_nan=False)
        return LoadedJson(json.loads(text))

    def names(self, relative: str) -> tuple[str, ...]:
        folder = f"{relative}/"
        return tuple(sorted(name.removeprefix(folder) for name in self.values if name.startswith(folder)))

    def remove(self, relative: str) -> None:
        self.act(f"remove {relative}", lambda: self.values.pop(relative, None))


_PLAIN = rollout_store._plain


class SimStore(rollout_store.RolloutFiles):
    """The real store on a simulated disk; what it writes is turned into JSON only when it is read back."""

    def __init__(self, disk: SimDisk) -> None:
        super().__init__(disk)  # type: ignore[arg-type]
        self.disk = disk

    def clone(self, act: Callable[[str, Callable[[], None]], None]) -> SimStore:
        """The same store, and its disk, in another world."""
        disk = SimDisk(act)
        disk.values, disk.is_full, disk.has_reserve = dict(self.disk.values), self.disk.is_full, self.disk.has_reserve
        twin = SimStore(disk)
        twin._known, twin._seen = dict(self._known), set(self._seen)
        twin._kept = dict(self._kept) if self._kept is not None else None
        return twin

    @property
    def saved(self) -> object:
        """The rollout that is known to be on disk; None where that is not known."""
        known = self._known.get(rollout_store.ROLLOUT)
        return known and known.value

    def reopened(self) -> SimStore:
        """The store as another process finds it."""
        return SimStore(self.disk)

    def _write(self, name: str, value: object) -> None:
        save = self._state.save_decision if name == rollout_store.ROLLOUT else self._state.save_json
        save(name, {"format": rollout_store.FORMAT, "value": value})

    def _stamp(self, name: str) -> rollout_store.Stamp:
        return (0, 0) if name in self.disk.values else None

    def read(
        self,
    ) -> tuple[Rollout, DesiredState | None, Mapping[str, Evidence], Iterable[KeptRevision], Commit | None]:
        """All that is stored."""
        good = self.last_good()
        return self.load(), good, self.evidence(), self.kept(), self.commit_of(good)


class SimHistory:
    """`history.jsonl`: records that were acknowledged are durable; one that cannot be written waits for room."""

    def __init__(self, act: Callable[[str, Callable[[], None]], None]) -> None:
        self.act = act
        self.records: list[Mapping[str, Any]] = []
        self.waiting: list[Mapping[str, Any]] = []
        self.is_full = False

    def clone(self, act: Callable[[str, Callable[[], None]], None]) -> SimHistory:
        """The same history in another world."""
        twin = SimHistory(act)
        twin.records, twin.waiting, twin.is_full = list(self.records), list(self.waiting), self.is_full
        return twin

    def append(self, record: Mapping[str, Any]) -> None:
        try:
            self.act(f"append {record['kind']}", lambda: self._append(record))
        except StateError:
            self.waiting.append(record)
            raise

    def _append(self, record: Mapping[str, Any]) -> None:
        if self.is_full:
            raise StateError(f"history.jsonl: {FULL}")
        self.records += [*self.waiting, record]
        self.waiting = []
