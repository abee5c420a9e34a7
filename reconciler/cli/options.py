"""What every verb is told: which manifest, which state directory, which form of output."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class UsageError(Exception):
    """The command line makes no sense; the message says what would."""


@dataclass(frozen=True, slots=True)
class Options:
    """`manifest` and `state_dir` are absolute; `names_manifest` is true when the operator named the file."""

    program: str
    manifest: Path
    state_dir: Path
    output: str = "text"
    names_manifest: bool = False

    @property
    def socket(self) -> Path:
        """Where a daemon for this state directory listens."""
        return self.state_dir / "run" / "control.sock"

    @property
    def is_json(self) -> bool:
        return self.output == "json"


def make_options(
    program: str, file: str | None, state_dir: str | None, output: str, environment: Mapping[str, str]
) -> Options:
    """Paths as given, else from the environment (systemd's STATE_DIRECTORY), else in this folder."""
    service_directory = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    state = _absolute(state_dir or service_directory or "state", "--state-dir")
    if state == Path(state.anchor):
        raise UsageError(f"--state-dir {state} is the root of the file system. Name a folder of its own.")
    if state.exists() and not state.is_dir():
        raise UsageError(f"--state-dir {state} is not a folder.")
    manifest = _absolute(file or "manifest.yaml", "--file")
    return Options(program, manifest, state, output, names_manifest=file is not None)


def _absolute(path: str, option: str) -> Path:
    if "\0" in path:
        raise UsageError(f"{option} holds a NUL character.")
    return Path(os.path.abspath(path))
