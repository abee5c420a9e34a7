"""The files of the service: made from those that ship, sealed, and told apart from what others wrote. Pure.

A sealed file says in its last line what the rest was when we wrote it. So a file that somebody edited, or that somebody
else wrote, is known by itself, wherever it comes from.
"""

from __future__ import annotations

import difflib
import hashlib
import plistlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))
"""What the sandbox replaces by empty folders."""
SEAL = re.compile(r"(?:# |<!-- )sealed: ([0-9a-f]{16})[^\n]*\n\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """What is to run: all paths absolute.

    `folders` hold the program: its environment, its interpreter, its code. `manifest_folders` are the manifest's, and
    the one it really lies in where a link leads there. Members of `group` may use Docker's socket. `option` is
    `--manifest`, or `--config` where `manifest` is the daemon's own file, which names a repository.
    """

    program: Path
    manifest: Path
    manifest_folders: tuple[Path, ...]
    folders: tuple[Path, ...]
    group: str = "docker"
    option: str = "--manifest"


class Found(StrEnum):
    """What stands where our file is to be."""

    NOTHING = "nothing"
    WANTED = "as wanted"
    OURS = "ours, of another time"
    EDITED = "ours, edited"
    FOREIGN = "somebody else's"

    @property
    def is_ours_to_replace(self) -> bool:
        """Nobody's work is lost when it is written over."""
        return self not in (Found.EDITED, Found.FOREIGN)


def found(text: str | None, wanted: str) -> Found:
    """What `text` (None: no file) is, beside the sealed text we want there."""
    if text is None:
        return Found.NOTHING
    if text == wanted:
        return Found.WANTED
    seal = SEAL.search(text)
    if seal is None:
        return Found.FOREIGN
    return Found.OURS if _digest(text[: seal.start()]) == seal[1] else Found.EDITED


def difference(before: str, after: str, path: Path) -> str:
    """A unified diff from what is there to what we would write."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"{path} (there)", f"{path} (wanted)", lineterm=""
    )
    return "\n".join(lines)


def make_unit(template: str, place: Place) -> str:
    """The systemd unit for this place, sealed. Raises ValueError for a path that no unit can hold."""
    manifests = place.manifest_folders
    hidden = [folder for folder in _outermost(place.folders) if _is_hidden(folder) and folder not in manifests]
    lines = {
        "ExecStart": f"{_command(place.program)} {place.option} {_command(place.manifest)} --log-json",
        "SupplementaryGroups": place.group,
        "ReadWritePaths": _paths(manifests),
        "ProtectHome": "tmpfs",
    }
    if hidden:
        lines["ProtectHome"] += f"\nBindReadOnlyPaths={_paths(hidden, ':')}"
    if shown := [folder for folder in manifests if _is_hidden(folder)]:
        lines["ProtectHome"] += f"\nBindPaths={_paths(shown, ':')}"
    text = template
    for key, value in lines.items():
        text, count = re.subn(rf"^{key}=.*$", lambda _found, k=key, v=value: f"{k}={v}", text, flags=re.MULTILINE)  # type: ignore[misc]
        assert count == 1, f"the unit that ships has {count} lines {key}="
    return _sealed(text, "# ", "")


def make_plist(template: str, place: Place, state_dir: Path, log: Path) -> str:
    """The launchd property list for this place, sealed."""
    wanted = plistlib.loads(template.encode())
    words = wanted["ProgramArguments"]
    words[0] = str(place.program)
    at = words.index("--manifest")
    words[at : at + 2] = [place.option, str(place.manifest)]
    words[words.index("--state-dir") + 1] = str(state_dir)
    wanted["StandardOutPath"] = wanted["StandardErrorPath"] = str(log)
    return _sealed(plistlib.dumps(wanted, sort_keys=False).decode(), "<!-- ", " -->")


def _sealed(text: str, before: str, after: str) -> str:
    seal = f"sealed: {_digest(text)} (so `reconcilerctl service` sees whether something above was changed by hand)"
    return f"{text}{before}{seal}{after}\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_hidden(folder: Path) -> bool:
    return any(folder.is_relative_to(home) for home in HIDDEN)


def _outermost(folders: Iterable[Path]) -> list[Path]:
    """Without those that lie in another of them."""
    every = sorted(set(folders))
    return [folder for folder in every if not any(folder != other and folder.is_relative_to(other) for other in every)]


def _command(path: Path) -> str:
    """A word of a command line: `%` and `$` would be expanded."""
    return _quoted(str(path).replace("$", "$$"))


def _paths(folders: Iterable[Path], also: str = "") -> str:
    """A list of paths that need not be there; characters of `also` mean something in it."""
    texts = (re.sub(rf"([{re.escape(also)}])", r"\\\1", str(folder)) if also else str(folder) for folder in folders)
    return " ".join(_quoted(f"-{text}") for text in texts)


def _quoted(text: str) -> str:
    """One word as systemd reads it, specifiers and all."""
    if not text.isprintable():
        raise ValueError(f"{text!r} holds characters that no unit can name. Move it elsewhere.")
    text = text.replace("%", "%%")
    if re.fullmatch(r"[A-Za-z0-9_./:@%$+,=~-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
