"""Environment files as Compose reads them: NAME=value lines, comments, quotes; nothing is interpolated."""

from __future__ import annotations

import re

from reconciler.formats.findings import Findings

_LINE = re.compile(r"(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_.-]{0,254})[ \t]*=[ \t]*(?P<value>.*)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}
MAX_CHARACTERS = 256 * 1024


def parse(text: str, findings: Findings) -> dict[str, str]:
    """Names and values, the last of a name wins; what is not understood is a problem with its line."""
    values: dict[str, str] = {}
    if len(text) > MAX_CHARACTERS:
        findings.problem(None, f"more than {MAX_CHARACTERS} characters. Write a smaller environment file.")
        return values
    for number, line in enumerate(re.split("\r\n|\r|\n", text.removeprefix("\ufeff")), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        found = _LINE.fullmatch(stripped)
        value = _value(found["value"]) if found else None
        if found is None or value is None or "\0" in value:
            what = "a quote is never closed" if found else "this is not NAME=value"
            findings.problem((number, 1), f"{what}. Write one NAME=value on each line.")
            continue
        values[found["name"]] = value
    return values


def _value(text: str) -> str | None:
    """What a value means once quotes and a comment behind it are gone; None when a quote stays open."""
    if text[:1] == "'":
        end = text.find("'", 1)
        return text[1:end] if end > 0 and _only_comment(text[end + 1 :]) else None
    if text[:1] == '"':
        found = re.match(r'"((?:[^"\\]|\\.)*)"(.*)', text)
        if found is None or not _only_comment(found[2]):
            return None
        return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[0]), found[1])
    return re.split(r"(?:^|[ \t])#", text, maxsplit=1)[0].rstrip()


def _only_comment(rest: str) -> bool:
    return not rest.strip() or rest.strip().startswith("#")
