"""A Compose file for people: names of environment variables stay, their values become marks.

Equal values have equal marks within one `marks`, so that a diff still shows that a value changed, and nothing of it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator

_BLOCK = re.compile(r"[ ]*[\"']?environment[\"']?[ ]*:(?P<rest>.*)")
_MAPPED = re.compile(r"(?P<name>[ ]*[\"']?[^\s:\"'=-][^\s:\"'=]*[\"']?[ ]*:[ ]+)(?P<value>.+)")
_LISTED = re.compile(r"(?P<name>[ ]*-[ ]+[\"']?[^\s:\"'=]+=)(?P<value>.*)")
_OURS = frozenset({"MODE", "APP_VERSION", "APP_PORT"})


class Marks:
    """Marks for values, keyed by random bytes: nobody can find a value by trying words on its mark."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, value: str) -> str:
        digest = hmac.digest(self._key, value.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return f"(hidden, {digest.hex()[:8]})"


def without_values(compose: str, marks: Marks) -> str:
    """`compose` with a mark in place of every environment value but those that are ours to set (MODE and the like).

    Made for what we render; in a file that somebody edited, what is not understood below `environment` is hidden whole.
    """
    return "\n".join(_lines(compose.split("\n"), marks))


def _lines(lines: list[str], marks: Marks) -> Iterator[str]:
    """Line by line; `inside` is the indent of the `environment` that we are below, `entries` that of what is in it."""
    inside: int | None = None
    entries: int | None = None
    for line in lines:
        if not line.strip():
            yield line
            continue
        indent = _indent(line)
        if inside is not None and (indent > inside or (indent == inside and line[indent] == "-")):
            entries = indent if entries is None else entries
            yield _hidden(line, marks) if indent <= entries else " " * indent + marks.of(line.strip())
            continue
        block = _BLOCK.fullmatch(line)
        inside, entries = (indent if block else None), None
        rest = block["rest"].strip() if block else ""
        yield f"{line[: -len(rest)]}{marks.of(rest)}" if rest not in ("", "{}", "[]") else line


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _hidden(line: str, marks: Marks) -> str:
    found = _MAPPED.fullmatch(line) or _LISTED.fullmatch(line)
    if found is None:
        return " " * _indent(line) + marks.of(line.strip())
    if found["name"].strip(" -:=\"'") in _OURS:
        return line
    return f"{found['name']}{marks.of(found['value'])}"
