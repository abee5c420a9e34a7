"""A commit as git stores it: its headers, how many signatures it has and of which kind, and what people are told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from reconciler.core.provenance import Commit
from reconciler.formats import git_signers
from reconciler.log import visible

MAX_BYTES = 1024 * 1024
SUBJECT_MAX = 200
AUTHOR_MAX = 120
_PERSON = re.compile(r"(?P<who>[^\n]*?) ?(?P<at>-?[0-9]{1,18}) (?P<zone>[+-][0-9]{4,})")
_HEADER = re.compile(rb"[a-zA-Z0-9-]+")
_ID = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SCHEMES = {
    b"-----BEGIN SSH SIGNATURE-----": "ssh",
    b"-----BEGIN PGP SIGNATURE-----": "openpgp",
    b"-----BEGIN PGP MESSAGE-----": "openpgp",
    b"-----BEGIN SIGNED MESSAGE-----": "x509",
}


class CommitError(ValueError):
    """Bytes that are no commit as git makes them; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class RawCommit:
    """A commit's own words. `schemes` has one entry for each signature: `ssh`, `openpgp`, `x509` or `unknown`.

    `key` is the fingerprint of the SSH key that the first signature names, whether it is good or not; "" for none.
    """

    tree: str
    parents: tuple[str, ...]
    author: str
    subject: str
    committed_at: int
    schemes: tuple[str, ...]
    key: str = ""

    def told(self, commit: str, signer: str | None, source: str) -> Commit:
        """What people are told of it; nothing in it can steer a terminal."""
        return Commit(
            commit,
            visible(self.author)[:AUTHOR_MAX] or "unknown",
            visible(self.subject)[:SUBJECT_MAX],
            moment(self.committed_at),
            None if signer is None else visible(signer),
            visible(source),
        )


def read(data: bytes) -> RawCommit:
    """The commit in `data`, as `git cat-file commit` prints it; CommitError where git would not have made it."""
    if len(data) > MAX_BYTES:
        raise CommitError(f"it has more than {MAX_BYTES} bytes")
    head, found, message = data.partition(b"\n\n")
    if not found:
        head, message = data.removesuffix(b"\n"), b""
    if b"\0" in head:
        raise CommitError("its headers hold a NUL")
    headers = _headers(head)
    trees = [value for name, value in headers if name == b"tree"]
    parents = [value for name, value in headers if name == b"parent"]
    if len(trees) != 1 or headers[0][0] != b"tree" or not all(map(_ID.fullmatch, (*trees, *parents))):
        raise CommitError("it does not name one tree and its parents as git does")
    author, _ = _person(headers, b"author")
    _, committed_at = _person(headers, b"committer")
    signatures = [value for name, value in headers if name in (b"gpgsig", b"gpgsig-sha256")]
    return RawCommit(
        trees[0].decode("ascii"),
        tuple(parent.decode("ascii") for parent in parents),
        author,
        message.lstrip(b"\n").partition(b"\n")[0][: 4 * SUBJECT_MAX].decode("utf-8", "replace").strip(),
        committed_at,
        tuple(map(_scheme, signatures)),
        git_signers.key_of(signatures[0]) if signatures else "",
    )


def _headers(head: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values; lines that begin with a space go on with the one before."""
    found: list[tuple[bytes, list[bytes]]] = []
    for line in head.split(b"\n"):
        if line.startswith(b" "):
            if not found:
                raise CommitError("it begins in the middle of a header")
            found[-1][1].append(line[1:])
            continue
        name, space, value = line.partition(b" ")
        if not space or not _HEADER.fullmatch(name):
            raise CommitError("one of its headers has no name")
        found.append((name, [value]))
    return [(name, b"\n".join(values)) for name, values in found]


def _person(headers: list[tuple[bytes, bytes]], name: bytes) -> tuple[str, int]:
    values = [value for header, value in headers if header == name]
    parts = _PERSON.fullmatch(values[0].decode("utf-8", "replace")) if len(values) == 1 else None
    if parts is None:
        raise CommitError(f"it does not name one {name.decode()} as git does")
    return parts["who"].strip(), int(parts["at"])


def _scheme(value: bytes) -> str:
    return _SCHEMES.get(value.partition(b"\n")[0].strip(), "unknown")


def moment(seconds: int) -> str:
    """ISO 8601, UTC, whole seconds; the nearest year that can be written where the commit's is none."""
    capped = max(0, min(seconds, 253_402_300_799))
    return datetime.fromtimestamp(capped, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
