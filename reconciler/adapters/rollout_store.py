"""`rollout.json`, `revisions/` and the last admitted manifest, as JSON in the state directory."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

import cattrs

from reconciler.adapters.state_dir import StateDir
from reconciler.core.containers import KeptRevision
from reconciler.core.desired import DesiredState, Json
from reconciler.core.errors import StateError
from reconciler.core.evidence import Evidence
from reconciler.core.provenance import Commit
from reconciler.core.rollout import Rollout

T = TypeVar("T")
Stamp: TypeAlias = tuple[int, int] | None
"""What tells a file from another one in its place; None where there is none."""

ROLLOUT = "rollout.json"
LAST_GOOD = "last-good.json"
COMMIT = "commit.json"
EVIDENCE = "evidence.json"
REVISIONS = "revisions"
FORMAT = 1


@dataclasses.dataclass(frozen=True, slots=True)
class _Evidence:
    services: Mapping[str, Evidence]


@dataclasses.dataclass(frozen=True, slots=True)
class _Traced:
    """`manifest` is the revision of the manifest that was read from `commit`."""

    manifest: str
    commit: Commit | None


class _Known(NamedTuple):
    """What a file holds, as far as we know, and which one that is."""

    value: object
    stamp: Stamp


class RolloutFiles:
    """The RolloutStore port. Files that cannot be read are set aside by the state directory, and count as absent.

    What a file holds is known once it was read or written: it is not written again while that file is there, and is
    in the next cycle where somebody took it away. `forget_all_but` ends a cycle's saving.
    """

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._known: dict[str, _Known] = {}
        self._seen: set[str] = set()
        self._kept: dict[str, KeptRevision] | None = None

    def load(self) -> Rollout:
        """The last saved rollout; an empty one where there is none."""
        rollout = self._read(ROLLOUT, Rollout) or Rollout()
        self._known[ROLLOUT] = _Known(rollout, self._stamp(ROLLOUT))
        return rollout

    def save(self, rollout: Rollout) -> None:
        """Durable when it returns; nothing is written when nothing changed. Raises StateError.

        A disk that has just run full has room for it all the same.
        """
        self._hold(ROLLOUT, rollout)

    def evidence(self) -> Mapping[str, Evidence]:
        """What is known about each service's trial; empty where there is none or it cannot be read."""
        found = self._read(EVIDENCE, _Evidence)
        return found.services if found else {}

    def save_evidence(self, services: Mapping[str, Evidence]) -> None:
        """Durable when it returns. Raises StateError."""
        self._write(EVIDENCE, _Evidence(services))

    def kept(self) -> tuple[KeptRevision, ...]:
        """All kept revisions."""
        if self._kept is None:
            names = [name for name in self._state.names(REVISIONS) if name.endswith(".json")]
            read = [self._read_kept(f"{REVISIONS}/{name}") for name in names]
            self._kept = {kept.revision: kept for kept in read if kept is not None}
        return tuple(self._kept.values())

    def _read_kept(self, name: str) -> KeptRevision | None:
        """One that cannot be read, or that a newer version wrote, is left out; it stays where it is."""
        try:
            kept = self._read(name, KeptRevision)
        except StateError:
            return None
        if kept is not None and name == _file_of(kept.revision):
            self._known[name] = _Known(kept, self._stamp(name))
        return kept

    def keep(self, revision: KeptRevision) -> None:
        """Keep what is needed to start a revision again. Raises StateError."""
        self.kept()
        assert self._kept is not None, "kept() reads them"
        self._hold(_file_of(revision.revision), revision)
        self._kept[revision.revision] = revision

    def forget_all_but(self, revisions: Iterable[str]) -> None:
        """Remove the revisions that nobody can go back to; whatever else was saved is there. Raises StateError."""
        wanted = set(revisions)
        for kept in self.kept():
            if kept.revision not in wanted:
                self._known.pop(_file_of(kept.revision), None)
                self._state.remove(_file_of(kept.revision))
                assert self._kept is not None, "kept() read them"
                del self._kept[kept.revision]
        for name in self._known.keys() - self._seen:
            self._hold(name, self._known[name].value)
        self._seen.clear()

    def last_good(self) -> DesiredState | None:
        """The manifest that was last admitted."""
        good = self._read(LAST_GOOD, DesiredState)
        if good is not None:
            self._known[LAST_GOOD] = _Known(good, self._stamp(LAST_GOOD))
        return good

    def admit(self, desired: DesiredState) -> None:
        """Make `desired` the last good one. Raises StateError."""
        self._hold(LAST_GOOD, desired)

    def commit_of(self, desired: DesiredState | None) -> Commit | None:
        """The commit that the manifest in force came from; None where it came from none, or nobody remembers."""
        try:
            traced = self._read(COMMIT, _Traced)
        except StateError:  # what stands in its place; `trace` will say so
            return None
        if traced is None:
            return None
        self._known[COMMIT] = _Known(traced, self._stamp(COMMIT))
        return traced.commit if desired is not None and traced.manifest == desired.revision else None

    def trace(self, desired: DesiredState, commit: Commit | None) -> None:
        """Remember where the manifest in force came from, if it ever came from a commit. Raises StateError."""
        if commit is not None or COMMIT in self._known:
            self._hold(COMMIT, _Traced(desired.revision, commit))

    def _hold(self, name: str, value: object) -> None:
        """Afterwards the file holds `value`; where it does already, one look is all. Raises StateError."""
        known = self._known.get(name)
        if known is None or known.value != value or known.stamp != self._stamp(name):
            self._known.pop(name, None)  # a save that fails may have come as far as the disk
            self._write(name, value)
            self._known[name] = _Known(value, self._stamp(name))
        self._seen.add(name)

    def _write(self, name: str, value: object) -> None:
        save = self._state.save_decision if name == ROLLOUT else self._state.save_json
        save(name, _envelope(value))

    def _stamp(self, name: str) -> Stamp:
        """Which file that is: one system call."""
        try:
            found = os.lstat(f"{self._state.path}/{name}")
        except OSError:
            return None
        return found.st_ino, found.st_size

    def _read(self, name: str, kind: type[T]) -> T | None:
        found = self._state.load_json(name).value
        if found is None or found.get("format") != FORMAT:
            return None
        try:
            return _CONVERTER.structure(found["value"], kind)
        except (cattrs.BaseValidationError, AttributeError, KeyError, OverflowError, TypeError, ValueError):
            return None


def _file_of(revision: str) -> str:
    return f"{REVISIONS}/{revision}.json"


def _envelope(value: object) -> dict[str, Json]:
    return {"format": FORMAT, "value": _plain(value)}


def _plain(value: object) -> Json:
    """A value of ours as JSON: data classes become objects, tuples arrays."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return [_plain(item) for item in value]
    assert value is None or isinstance(value, bool | int | float | str), f"no JSON for {type(value)}"
    return value


def _limits(value: Any, _: object) -> Any:
    return {domain: dict(names) for domain, names in dict(value).items()}


_CONVERTER = cattrs.Converter(forbid_extra_keys=False, detailed_validation=False)
_CONVERTER.register_structure_hook_func(lambda kind: "Json" in str(kind) and "Mapping" in str(kind), _limits)
