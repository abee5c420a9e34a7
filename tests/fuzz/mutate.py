"""Foreign bytes made stranger: by bytes, by words of the format, and by the values of a JSON document."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Sequence
from typing import Any

LONGEST = 80_000
"""Bytes of an input. Longer ones are cut: they would cost time and show nothing new."""

NUMBERS = ("0", "-1", "1", "65535", "65536", "1e999", "-0", "0.1", "1e-9", "9" * 30, "9" * 400, "9" * 5000, "NaN")
CHARACTERS = (
    *("\0", "\r", "\n", "\t", "\x1b[2J", "\x1b]52;c;x\x07", "\x7f", "\x85", "\x9b31m", "\xad"),
    *("\u200b", "\u202e", "\u2028", "\u2066", "\ufeff", "\U000e0041", "е", "²", "٣", "İ", "ﬀ", "😀"),
    *("$", "${x}", "`", "'", '"', "\\", "{", "}", ";", "#", "|", "<", "&", "%00", "..", "/../", "//", "~", " "),
)
_DIGITS = re.compile(rb"[0-9]+")
BYTES = (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\0" * 64, b"\r\n\r\n", b"\n")
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e308, float("inf")),
    *("", " ", "a", "a" * 300, "0", "-1", "²", "٣", "true", "null", "../x", "/etc/passwd", "a\nb"),
    *([], {}, [[]], [None], [1, "a"], {"": None}, {"a": {"b": {}}}, {"Id": 1}),
    *CHARACTERS,
)


class Mutator:
    """Makes inputs of seeds; the same `random` makes the same ones. `words` are the format's own."""

    def __init__(self, chance: random.Random, words: Sequence[bytes]) -> None:
        self._chance = chance
        self._words = (*words, *(character.encode() for character in CHARACTERS), *BYTES, *map(str.encode, NUMBERS))
        self._names = [word.decode() for word in words if word.isascii()] or ["a"]

    def mutated(self, one: bytes, other: bytes) -> bytes:
        """`one` with a few changes, some of them taken from `other`."""
        document = _document(one)
        if document is not None and self._chance.random() < 0.6:
            for _ in range(self._chance.choice((1, 1, 1, 2, 3, 8))):
                document = self._changed(document, _document(other))
            data = _written(document)
        else:
            data = one
        if document is None or self._chance.random() < 0.2:
            for _ in range(self._chance.choice((1, 1, 2, 4, 16))):
                data = self._cut_up(data, other)
        return data[:LONGEST]

    # ------------------------------------------------------------ bytes

    def _cut_up(self, data: bytes, other: bytes) -> bytes:
        chance = self._chance
        start = chance.randrange(len(data) + 1)
        end = min(len(data), start + chance.choice((1, 1, 2, 8, 64, 512)))
        match chance.randrange(11):
            case 0:
                return data[:start] + bytes([chance.randrange(256)]) + data[start + 1 :]
            case 1 | 2 | 3:
                return data[:start] + chance.choice(self._words) + data[start if chance.random() < 0.5 else end :]
            case 4:
                return data[:start] + data[end:]
            case 5:
                return data[:start]
            case 6:
                return data[:end] + data[start:end] * self._times() + data[end:]
            case 7:
                piece = chance.randrange(len(other) + 1)
                return data[:start] + other[piece:]
            case 8:
                return self._lines(data)
            case 9:
                opening = chance.choice((b"[", b"{", b'{"a":', b"- ", b"a: ", b"(", b"((", b'"', b"  "))
                return data[:start] + opening * self._times() + data[start:]
            case _:
                return self._number(data)

    def _times(self) -> int:
        """Seldom many: long inputs take long, and most of what is wrong shows in short ones."""
        return self._chance.choice((1, 2, 3, 30) if self._chance.random() < 0.95 else (900, 1000, 20_000))

    def _lines(self, data: bytes) -> bytes:
        lines = data.split(b"\n")
        first, second = (self._chance.randrange(len(lines)) for _ in range(2))
        match self._chance.randrange(3):
            case 0:
                lines[first], lines[second] = lines[second], lines[first]
            case 1:
                lines.insert(first, lines[second])
            case _:
                del lines[first]
        return b"\n".join(lines)

    def _number(self, data: bytes) -> bytes:
        """Another number in the place of one."""
        found = _DIGITS.search(data, self._chance.randrange(len(data) + 1)) or _DIGITS.search(data)
        if found is None:
            return data
        return data[: found.start()] + self._chance.choice(NUMBERS).encode() + data[found.end() :]

    # ------------------------------------------------------------ JSON

    def _changed(self, root: Any, other: Any) -> Any:
        """The document with one value, or one name, that it did not have."""
        places = list(_places(root))
        if not places:
            return self._value(other)
        parent, key = self._chance.choice(places)
        match self._chance.randrange(8):
            case 0:
                del parent[key]
            case 1 if isinstance(parent, dict):
                parent[self._chance.choice(self._names)] = parent.pop(key)
            case 2 if isinstance(parent, dict):
                parent[self._chance.choice((*self._names, *CHARACTERS, "x" * 300))] = self._value(other)
            case 3:
                parent[key] = self._nested(parent[key])
            case 4 if isinstance(parent, list):
                parent.extend(parent[:2000] * self._chance.choice((1, 3)))
            case 5 if isinstance(parent[key], str):
                text = parent[key]
                at = self._chance.randrange(len(text) + 1)
                parent[key] = text[:at] + self._chance.choice((*CHARACTERS, *self._names)) + text[at:]
            case _:
                parent[key] = self._value(other)
        return root

    def _value(self, other: Any) -> Any:
        places = list(_places(other)) if other is not None and self._chance.random() < 0.3 else []
        if places:
            parent, key = self._chance.choice(places)
            return parent[key]
        if self._chance.random() < 0.01:
            return "a" * 20_000
        return copy.deepcopy(self._chance.choice(self._chance.choice((VALUES, self._names))))  # what follows changes it

    def _nested(self, value: Any) -> Any:
        for _ in range(self._times() % 1000):
            value = [value] if self._chance.random() < 0.5 else {"a": value}
        return value


def _places(root: Any) -> Any:
    """Every parent and key in a document, outermost first; not deeper than is of use."""
    pending = [(root, 0)]
    while pending:
        node, depth = pending.pop()
        entries = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in entries:
            yield node, key
            if depth < 12:
                pending.append((node[key], depth + 1))


def _document(data: bytes) -> Any:
    """The JSON document in `data`, None where it is none, or not the kind that has values in it."""
    if data[:1] not in (b"{", b"["):
        return None
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


def _written(document: Any) -> bytes:
    try:
        text = json.dumps(document, ensure_ascii=False)
    except (ValueError, RecursionError):
        return b"[" * 2000
    return text.encode("utf-8", "surrogatepass")
