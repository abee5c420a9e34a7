"""What git prints, read strictly: refs of a remote, trees, sizes, contents and verdicts on signatures.

Every function raises GitOutputError where the bytes are not what git prints when all is well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconciler.core.trust import Signature, Signed
from reconciler.formats import git_url

MAX_REFS = 10_000
FIELDS = "%H%x00%G?%x00%GK%x00%GF%x00%GP%x00%GS%x00"
"""The format to ask `git log` for, so that `verdicts` can read it; with `-z` every commit ends in one more NUL."""

_ID = rb"[0-9a-f]{40}(?:[0-9a-f]{24})?"
_REF = re.compile(rb"(?P<id>" + _ID + rb")\t(?P<name>[^\x00\n]+)")
_ENTRY = re.compile(rb"(?P<mode>[0-7]{6}) (?P<type>[a-z]+) (?P<id>" + _ID + rb")\t(?P<path>[^\x00]+)", re.DOTALL)
_CHECKED = re.compile(rb"(?P<id>" + _ID + rb") (?:(?P<type>[a-z]+) (?P<size>[0-9]{1,18})|missing)")
_PRINCIPAL = re.compile(r"[\x21-\x7e]{1,200}")
_KEY = re.compile(r"SHA256:[A-Za-z0-9+/]{43}|[0-9A-F]{16,64}")


class GitOutputError(ValueError):
    """Bytes that git does not print when all is well."""


def ref(output: bytes, name: str) -> str | None:
    """The id that a remote's ref has; of an annotated tag, that of the commit. None where there is no such ref."""
    wanted = name.encode("utf-8", "surrogateescape")
    lines = output.split(b"\n")
    if lines.pop() != b"" or len(lines) > MAX_REFS:
        raise GitOutputError("git's list of refs is cut off or too long")
    found: dict[bytes, str] = {}
    for line in lines:
        if not (parts := _REF.fullmatch(line)):
            raise GitOutputError("git's list of refs cannot be understood")
        found.setdefault(parts["name"], parts["id"].decode("ascii"))
    return found.get(wanted + b"^{}", found.get(wanted))


def one_id(output: bytes) -> str:
    """The one id that was printed."""
    if not re.fullmatch(_ID + rb"\n", output):
        raise GitOutputError("git did not print one id")
    return output[:-1].decode("ascii")


def ids(output: bytes) -> tuple[str, ...]:
    """The ids that were printed, one a line."""
    if not re.fullmatch(rb"(?:" + _ID + rb"\n)*", output):
        raise GitOutputError("git did not print a list of ids")
    return tuple(output.decode("ascii").split())


def number(output: bytes) -> int:
    """The one number that was printed."""
    if not re.fullmatch(rb"[0-9]{1,15}\n", output):
        raise GitOutputError("git did not print a number")
    return int(output)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a tree: its path below the repository's top, what git says it is, and its id."""

    path: str
    mode: str
    type: str
    id: str

    @property
    def is_file(self) -> bool:
        """A regular file, runnable or not."""
        return self.type == "blob" and self.mode in ("100644", "100755")

    @property
    def what(self) -> str:
        """In words, for an operator."""
        if self.mode == "120000":
            return "a symbolic link"
        if self.type == "commit":
            return "a submodule"
        return "a folder" if self.type == "tree" else "no regular file" if not self.is_file else "a file"


def tree(output: bytes) -> tuple[Entry, ...]:
    """What `ls-tree -z` lists, in its order; names that no folder of ours may hold are refused."""
    pieces = output.split(b"\0")
    if pieces.pop() != b"":
        raise GitOutputError("git's list of files is cut off")
    return tuple(map(_entry, pieces))


def _entry(piece: bytes) -> Entry:
    found = _ENTRY.fullmatch(piece)
    if found is None:
        raise GitOutputError("git's list of files cannot be understood")
    path = found["path"].decode("utf-8", "surrogateescape")
    if not all(map(git_url.is_plain_part, path.split("/"))):
        raise GitOutputError("a file's name in the tree is none that may be made here (`..`, `.git`, empty)")
    return Entry(path, found["mode"].decode(), found["type"].decode(), found["id"].decode())


def sizes(output: bytes) -> dict[str, int | None]:
    """Bytes of each object that `cat-file --batch-check` was asked for; None for what is not a blob that is here."""
    lines = output.split(b"\n")
    if lines.pop() != b"":
        raise GitOutputError("git's list of sizes is cut off")
    found: dict[str, int | None] = {}
    for line in lines:
        if not (parts := _CHECKED.fullmatch(line)):
            raise GitOutputError("git's list of sizes cannot be understood")
        found[parts["id"].decode()] = int(parts["size"]) if parts["type"] == b"blob" else None
    return found


def objects(output: bytes, wanted: Sequence[str], kind: str) -> dict[str, bytes]:
    """The bytes of each object that `cat-file --batch` was asked for, in that order; all of them are of one kind."""
    found: dict[str, bytes] = {}
    at = 0
    for one in wanted:
        end_of_head = output.find(b"\n", at, at + 200)
        parts = _CHECKED.fullmatch(output, at, end_of_head) if end_of_head >= 0 else None
        if parts is None or parts["id"].decode() != one or parts["type"] != kind.encode("ascii"):
            raise GitOutputError(f"git did not print the {kind} that it was asked for")
        begin = end_of_head + 1
        at = begin + int(parts["size"])
        if output[at : at + 1] != b"\n":
            raise GitOutputError(f"git did not print all of the {kind} that it was asked for")
        found[one] = output[begin:at]
        at += 1
    if at != len(output):
        raise GitOutputError("git printed more than it was asked for")
    return found


def verdicts(output: bytes, schemes: Mapping[str, str]) -> tuple[Signature, ...]:
    """What git says of commits' signatures, asked for with FIELDS and `-z`; `schemes` are the commits' by id."""
    pieces = output.split(b"\0")
    if len(pieces) < 2 or (len(pieces) - 1) % 7 or pieces.pop() != b"":
        raise GitOutputError("git's word on signatures is cut off")
    return tuple(_verdict(pieces[at : at + 6], schemes) for at in range(0, len(pieces), 7))


def _verdict(fields: Sequence[bytes], schemes: Mapping[str, str]) -> Signature:
    commit, letter, key, print_, primary, who = (field.decode("utf-8", "replace") for field in fields)
    if commit not in schemes:
        raise GitOutputError("git spoke of another commit than it was asked about")
    scheme = schemes[commit]
    named = next((name for name in (primary, print_, key) if _KEY.fullmatch(name)), "")
    state = (_SSH if scheme == "ssh" else _OPENPGP).get(letter, Signed.UNREADABLE)
    if state is Signed.GOOD and scheme == "ssh":
        if not (named and _PRINCIPAL.fullmatch(who)):
            state = Signed.UNREADABLE
        return Signature(commit, state, who if state is Signed.GOOD else named, scheme)
    if state is Signed.GOOD and not named:
        state = Signed.UNREADABLE
    return Signature(commit, state, named, scheme)


_SSH = {"G": Signed.GOOD, "U": Signed.UNKNOWN_KEY, "B": Signed.BAD, "N": Signed.NONE}
_OPENPGP = {
    "G": Signed.GOOD,
    "U": Signed.NOT_CERTIFIED,
    "B": Signed.BAD,
    "N": Signed.NONE,
    "E": Signed.UNKNOWN_KEY,
    "X": Signed.EXPIRED,
    "Y": Signed.KEY_EXPIRED,
    "R": Signed.REVOKED,
}
