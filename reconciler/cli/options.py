"""What every verb is told: which manifest, which state directory, which form of output."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CONFIG_FILE = "/etc/swiftdeploy/reconciler.yaml"


class UsageError(Exception):
    """The command line makes no sense; the message says what would."""


@dataclass(frozen=True, slots=True)
class Options:
    """`manifest` and `state_dir` are absolute; `names_manifest` is true when the operator named the file.

    `config_file` is the daemon's own file, where it is there and this is about the daemon that it is for.
    """

    program: str
    manifest: Path
    state_dir: Path
    output: str = "text"
    names_manifest: bool = False
    config_file: Path | None = None

    @property
    def socket(self) -> Path:
        """Where a daemon for this state directory listens."""
        return self.state_dir / "run" / "control.sock"

    @property
    def is_json(self) -> bool:
        return self.output == "json"


def make_options(
    program: str,
    file: str | None,
    state_dir: str | None,
    output: str,
    environment: Mapping[str, str],
    config: str | None = None,
) -> Options:
    """Paths as given, else from the environment (systemd's STATE_DIRECTORY), else in this folder.

    With a configuration, and no state directory named or in this folder, it is the daemon's that says so there.
    """
    file_of_daemon = _config_file(config)
    service_directory = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    named: str | None = state_dir or service_directory
    if not named and file_of_daemon is not None and (config is not None or not Path("state").exists()):
        named = _daemons_state_dir(file_of_daemon)
    state = _absolute(named or "state", "--state-dir")
    if state == Path(state.anchor):
        raise UsageError(f"--state-dir {state} is the root of the file system. Name a folder of its own.")
    if state.exists() and not state.is_dir():
        raise UsageError(f"--state-dir {state} is not a folder.")
    manifest = _absolute(file or "manifest.yaml", "--file")
    return Options(program, manifest, state, output, names_manifest=file is not None, config_file=file_of_daemon)


def _config_file(named: str | None) -> Path | None:
    """The daemon's own file: as named, else the usual one where it is there."""
    if named is not None:
        return _absolute(named, "--config")
    return Path(CONFIG_FILE) if os.path.exists(CONFIG_FILE) else None


def _daemons_state_dir(file: Path) -> str | None:
    """What the daemon's file says; None where it says nothing. Raises ManifestError where it cannot be used."""
    from reconciler.adapters.config_file import read_config
    from reconciler.core.errors import ManifestError

    reading = read_config(file, required=True)
    if reading.config is None:
        raise ManifestError(reading.problems)
    return reading.config.state_dir


def _absolute(path: str, option: str) -> Path:
    if "\0" in path:
        raise UsageError(f"{option} holds a NUL character.")
    return Path(os.path.abspath(path))
