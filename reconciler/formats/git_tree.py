"""Which files of a repository are taken over: the manifest, and what lies beside and below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from reconciler.core.trust import Kind, Trouble
from reconciler.formats.git_output import Entry
from reconciler.log import visible

FILE_MAX_BYTES = 1024 * 1024
ALL_MAX_BYTES = 16 * 1024 * 1024
FILES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Chosen:
    """Files by their path below the manifest's folder, each with its blob, and how many there is no room for."""

    files: Mapping[str, str]
    left_out: int = 0


def rejected(entry: Entry | None, path: str) -> Trouble | None:
    """Why what stands at the manifest's path cannot be a manifest; None where it can."""
    shown = visible(path)
    if entry is None:
        return Trouble(Kind.REJECTED, f"there is no {shown} in this commit. Commit it, or set `path` to where it is")
    if not entry.is_file:
        return Trouble(Kind.REJECTED, f"{shown} is {entry.what} in this commit. It must be a regular file")
    return None


def worth(entries: Sequence[Entry], manifest: str) -> list[Entry]:
    """The regular files that may be taken over, what matters most first: the manifest, policies, env files, the rest.

    Links and submodules are never taken. At most FILES_MAX.
    """

    def rank(entry: Entry) -> tuple[int, int, str]:
        name = PurePosixPath(entry.path).name
        is_wanted = name.endswith((".rego", ".env")) or name.startswith(".env")
        return (0 if entry.path == manifest else 1 if is_wanted else 2, entry.path.count("/"), entry.path)

    return sorted((entry for entry in entries if entry.is_file), key=rank)[:FILES_MAX]


def chosen(files: Sequence[Entry], sizes: Mapping[str, int | None], manifest: str, among: int) -> Chosen | Trouble:
    """Of `files` (as `worth` sorts them) those that fit; Trouble where the manifest itself does not.

    A size of None is that of a file that was too large to be fetched. `among` is how many files there are in all.
    """
    folder = manifest.rpartition("/")[0]
    room = ALL_MAX_BYTES
    found: dict[str, str] = {}
    for entry in files:
        size = sizes.get(entry.id)
        if entry.path == manifest and (size is None or size > FILE_MAX_BYTES):
            words = f"{visible(manifest)} has more than {FILE_MAX_BYTES} bytes. A manifest is small: look at it"
            return Trouble(Kind.TOO_BIG, words)
        if size is None or size > min(FILE_MAX_BYTES, room):
            continue
        room -= size
        found[entry.path.removeprefix(f"{folder}/") if folder else entry.path] = entry.id
    return Chosen(found, among - len(found))
