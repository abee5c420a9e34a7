"""What git complains of, in an operator's words: what kind of trouble it is, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable

from reconciler.core.trust import Kind, Trouble
from reconciler.log import visible

SAID_MAX = 300
_READ_MAX = 4096

_KNOWN: tuple[tuple[str, Kind, str], ...] = (
    (
        r"dubious ownership",
        Kind.UNTRUSTED,
        "the repository belongs to another user than the one the daemon runs as, and git will not read it. Give it to "
        "that user (chown), run the daemon as its owner, or let it be fetched over ssh",
    ),
    (
        r"file too large|signal 25|SIGXFSZ|no space left|exceeds maximum allowed size",
        Kind.TOO_BIG,
        "what it sends is larger than `max_bytes` allows, or than there is room for",
    ),
    (
        r"host key verification failed|no .{1,40} host key is known",
        Kind.UNREACHABLE,
        "the server's host key is not in `known_hosts`, or is another one. Compare it, then add it there",
    ),
    (
        r"permission denied \(publickey|permission denied, please try again|too many authentication failures",
        Kind.UNREACHABLE,
        "the server does not take our key. Give it the public half of `ssh_key` as a deploy key",
    ),
    (
        r"authentication failed|could not read (?:username|password)|returned error: 401|access denied|http basic",
        Kind.UNREACHABLE,
        "the server does not take our credentials. Look at `username` and `token_file`",
    ),
    (
        r"returned error: 403|forbidden",
        Kind.UNREACHABLE,
        "the server forbids it. Look at what the token or key may read",
    ),
    (
        r"could not resolve host|name or service not known|failure in name resolution|no address associated",
        Kind.UNREACHABLE,
        "the server's name is not known here. Look at the address, or at DNS",
    ),
    (
        r"returned error: 30[0-9]|unable to update url base|redirect",
        Kind.UNREACHABLE,
        "the server points to another address, which is never followed. Write that address, if it is right",
    ),
    (
        r"connection refused|connection timed out|connection reset|network is unreachable|no route to host|"
        r"operation timed out|could not connect|failed to connect|recv failure|empty reply",
        Kind.UNREACHABLE,
        "the server cannot be reached. It is tried again",
    ),
    (
        r"\bSSL|certificate|\bTLS",
        Kind.UNREACHABLE,
        "no trusted connection to the server. Look at its certificate, or set `ca_file`",
    ),
    (
        r"not our ref|couldn't find remote ref|no such remote ref|unadvertised object",
        Kind.REF_MISSING,
        "it is not there. Look at the name",
    ),
    (
        r"dumb http|does not support (?:shallow|--depth)",
        Kind.UNREACHABLE,
        "the server only gives files, and does not speak git's protocol. Use one that does",
    ),
    (
        r"repository .{0,200}not found|returned error: 404|not appear to be a git repository|repository not exported",
        Kind.UNREACHABLE,
        "there is no repository here, or we may not see it. Look at the address",
    ),
    (
        r"transport '.{1,40}' not allowed",
        Kind.UNREACHABLE,
        "it wants to be read in a way that is not allowed",
    ),
)
_REFUSED = re.compile(r"fsck error|object [0-9a-f]{40,64}: [a-zA-Z]+: ", re.IGNORECASE)
_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE), kind, words) for pattern, kind, words in _KNOWN)
_MEASURE = re.compile(r"\b[0-9]+(?:\.[0-9]+)? (?:ms|milliseconds|s|seconds|bytes)\b")
_NOISE = re.compile(r"^(?:remote: ?)?(?:fatal|error|warning): ", re.IGNORECASE)


def trouble(said: str, doing: str, secrets: Iterable[str] = ()) -> Trouble:
    """The trouble that git's standard error tells of, while `doing` ("looking at https://…")."""
    said = _short(without(said, secrets))
    for pattern, kind, words in _PATTERNS:
        if pattern.search(said):
            return Trouble(kind, f"{doing}: {words} (git says: {quoted(said)})")
    if _REFUSED.search(said):
        return Trouble(
            Kind.UNTRUSTED, f"{doing}: it holds an object that git's checks refuse (git says: {quoted(said)})"
        )
    return Trouble(Kind.UNREACHABLE, f"{doing}: git failed, and is tried again (git says: {quoted(said)})")


def may_be_damage(said: str) -> bool:
    """Whether our own copy may be damaged, going by what git complains of: nothing else explains it."""
    said = _short(said)
    return not any(pattern.search(said) for pattern, _, _ in _PATTERNS)


def _short(said: str) -> str:
    """Its beginning and its end: most of what is said may be the server's words, and they may be many."""
    return said if len(said) <= 2 * _READ_MAX else f"{said[:_READ_MAX]}\n{said[-_READ_MAX:]}"


def is_same(one: Trouble | None, other: Trouble | None) -> bool:
    """Whether two troubles of an unreachable repository differ only in a measure ("after 12 ms")."""
    if one is None or other is None or not one.kind is other.kind is Kind.UNREACHABLE:
        return False
    return _MEASURE.sub("", one.message) == _MEASURE.sub("", other.message)


def quoted(said: str) -> str:
    """The lines that say why, on one line, with nothing in them that could steer a terminal."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", said) if line.strip()]
    blamed = [line for line in lines if _NOISE.match(line) or "rror" in line] or lines[-2:]
    chosen = [_NOISE.sub("", line) for line in blamed[:3] if not line.startswith("warning:")] or blamed[:1]
    return visible("; ".join(chosen))[:SAID_MAX] or "nothing"


def without(text: str, secrets: Iterable[str]) -> str:
    """`text` without any of `secrets`."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "(hidden)")
    return text
