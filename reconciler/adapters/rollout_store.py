"""`rollout.json`, `revisions/` and the last admitted manifest, as JSON in the state directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import cattrs

from reconciler.adapters.state_dir import StateDir
from reconciler.core.containers import KeptRevision
from reconciler.core.desired import DesiredState, Json
from reconciler.core.errors import StateError
from reconciler.core.evidence import Evidence
from reconciler.core.rollout import Rollout

T = TypeVar("T")

ROLLOUT = "rollout.json"
LAST_GOOD = "last-good.json"
EVIDENCE = "evidence.json"
REVISIONS = "revisions"
FORMAT = 1


@dataclasses.dataclass(frozen=True, slots=True)
class _Evidence:
    services: Mapping[str, Evidence]


class RolloutFiles:
    """The RolloutStore port. Files that cannot be read are set aside by the state directory, and count as absent."""

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self._saved: Rollout | None = None
        self._kept: dict[str, KeptRevision] | None = None

    def load(self) -> Rollout:
        """The last saved rollout; an empty one where there is none."""
        rollout = self._read(ROLLOUT, Rollout) or Rollout()
        self._saved = rollout
        return rollout

    def save(self, rollout: Rollout) -> None:
        """Durable when it returns; nothing is written when nothing changed. Raises StateError.

        A disk that has just run full has room for it all the same.
        """
        if rollout != self._saved:
            self._state.save_decision(ROLLOUT, _envelope(rollout))
            self._saved = rollout

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
            return self._read(name, KeptRevision)
        except StateError:
            return None

    def keep(self, revision: KeptRevision) -> None:
        """Keep what is needed to start a revision again. Raises StateError."""
        self.kept()
        assert self._kept is not None, "kept() reads them"
        if self._kept.get(revision.revision) != revision:
            self._write(f"{REVISIONS}/{revision.revision}.json", revision)
            self._kept[revision.revision] = revision

    def forget_all_but(self, revisions: Iterable[str]) -> None:
        """Remove the revisions that nobody can go back to. Raises StateError."""
        wanted = set(revisions)
        for kept in self.kept():
            if kept.revision not in wanted:
                self._state.remove(f"{REVISIONS}/{kept.revision}.json")
                assert self._kept is not None, "kept() read them"
                del self._kept[kept.revision]

    def last_good(self) -> DesiredState | None:
        """The manifest that was last admitted."""
        return self._read(LAST_GOOD, DesiredState)

    def admit(self, desired: DesiredState) -> None:
        """Make `desired` the last good one. Raises StateError."""
        self._write(LAST_GOOD, desired)

    def _write(self, name: str, value: Any) -> None:
        self._state.save_json(name, _envelope(value))

    def _read(self, name: str, kind: type[T]) -> T | None:
        found = self._state.load_json(name).value
        if found is None or found.get("format") != FORMAT:
            return None
        try:
            return _CONVERTER.structure(found["value"], kind)
        except (cattrs.BaseValidationError, AttributeError, KeyError, OverflowError, TypeError, ValueError):
            return None


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
