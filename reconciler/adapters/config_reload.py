"""The daemon's own file, read again while the daemon runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields
from pathlib import Path

from reconciler.adapters.config_file import read_config
from reconciler.core.errors import ManifestError, Problem
from reconciler.formats.daemon_config import DaemonConfig, Flags, merged

AT_ONCE = {"log_level": "log.level", "log_json": "log.json"}
AFTER_A_RESTART = {
    "git": "source.git",
    "manifest": "source.manifest",
    "folder": "source.folder",
    "state_dir": "state_dir",
    "metrics_port": "metrics_port",
    "group": "group",
    "webhook": "webhook",
    "history_keep_bytes": "history.keep",
}
"""Members of DaemonConfig, and what the file calls them."""

SPELLED = {"poll_s": "poll", "timeout_s": "timeout", "max_bytes": "max_size", "host": "listen", "port": "listen"}


@dataclass(frozen=True, slots=True)
class Reread:
    """What the file says now: which keys are `changed` from now on, and which ones wait for a `restart`.

    Where there are `problems`, nothing has changed.
    """

    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


class ConfigInForce:
    """File and flags as one: as they were at the start, but for what can change while the daemon runs."""

    def __init__(self, file: Path, flags: Flags, *, required: bool) -> None:
        self._file, self._flags, self._required = file, flags, required
        self.now = DaemonConfig()

    def read(self) -> Reread:
        """All of it is in force from now on, or nothing is where there are problems."""
        said, reread = self._said()
        self.now = said or self.now
        return reread

    def read_again(self) -> Reread:
        """What can change at once is in force from now on; the rest is named."""
        said, reread = self._said()
        if said is None:
            return reread
        before = self.now
        self.now = dataclasses.replace(before, **{name: getattr(said, name) for name in AT_ONCE})
        changed = tuple(key for name, key in AT_ONCE.items() if getattr(said, name) != getattr(before, name))
        return dataclasses.replace(reread, changed=changed, restart=_differing(before, said))

    def _said(self) -> tuple[DaemonConfig | None, Reread]:
        reading = read_config(self._file, required=self._required)
        reread = Reread(problems=reading.problems, warnings=reading.warnings)
        if reading.config is None:
            return None, reread
        try:
            return merged(reading.config, self._flags), reread
        except ManifestError as error:
            return None, dataclasses.replace(reread, problems=error.problems)


def _differing(before: DaemonConfig, after: DaemonConfig) -> tuple[str, ...]:
    """The keys that only a restart brings into force; of a repository or a webhook, the very ones."""
    keys: list[str] = []
    for name, key in AFTER_A_RESTART.items():
        old, new = getattr(before, name), getattr(after, name)
        if old is None or new is None or not dataclasses.is_dataclass(old):
            keys += [key] if old != new else []
            continue
        names = (each.name for each in fields(old) if getattr(old, each.name) != getattr(new, each.name))
        keys += [f"{key}.{SPELLED.get(each, each)}" for each in names]
    return tuple(dict.fromkeys(keys))
