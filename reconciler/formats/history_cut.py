"""A record as JSON members that always fit into a line, whatever is in it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence, Sized
from contextlib import suppress
from itertools import islice

from reconciler.core.desired import Json

MAX_LINE_BYTES = 65_536
MEASURED = ("req_per_sec", "p99_latency", "error_rate")
GUIDE_FIELDS = ("timestamp", "mode", *MEASURED, "policy")

# Inside JSON text these are always within a string: C1 controls, line separators and bidi marks are escaped, so that a
# log can be shown on a terminal; lone surrogates have no UTF-8 and are spelled out.
_UNSHOWABLE = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_KEPT = frozenset({"kind", *GUIDE_FIELDS})


def members(record: Mapping[str, Json], room: int) -> bytes:
    """`,"key":value,...}` in at most `room` bytes."""
    for text, entries, depth in _CUTS:
        said: dict[str, Json] = {} if entries == MAX_LINE_BYTES else {"truncated": True}
        with suppress(_TooLong):
            fitted = _dump({**_Cut(text, entries, depth).record(record), **said})
            if len(fitted) <= room:
                return fitted
    raise AssertionError("the smallest cut of a record did not fit")


def _dump(members: Mapping[str, Json]) -> bytes:
    text = json.dumps(members, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = _UNSHOWABLE.sub(_escape, text)
    return ("," + text[1:] if members else text[1:]).encode()


def _escape(found: re.Match[str]) -> str:
    code = f"\\u{ord(found[0]):04x}"
    return "\\" + code if "\ud800" <= found[0] <= "\udfff" else code


class _TooLong(Exception):
    """No use going on: what was kept of the record is longer than a line already."""


# Characters of a text, entries of a list or mapping, levels: the first that fits is taken, the first cuts nothing.
_CUTS = (
    (MAX_LINE_BYTES, MAX_LINE_BYTES, 32),
    (8192, 512, 16),
    (2048, 128, 12),
    (512, 64, 8),
    (128, 16, 6),
    (32, 8, 4),
    (16, 2, 2),
)


class _Cut:
    """A value with only what JSON can say, and no more of it than is to be kept."""

    def __init__(self, text: int, entries: int, depth: int) -> None:
        self._text, self._entries, self._depth = text, entries, depth
        self._left = MAX_LINE_BYTES

    def record(self, record: Mapping[str, Json]) -> dict[str, Json]:
        """The top level: the kind and the guide's fields are kept whatever is cut."""
        kept = {name: self.value(record[name], 1) for name in record if name in _KEPT}
        return {**kept, **self._mapping({name: value for name, value in record.items() if name not in _KEPT}, 0)}

    def value(self, value: object, depth: int) -> Json:
        self._take(1)
        match value:
            case None | bool():
                return value
            case str():
                return self._short(value)
            case int():
                return value if value.bit_length() <= 1024 else f"…[integer of {value.bit_length()} bits]"
            case float():
                return value if math.isfinite(value) else {"unknown": repr(float(value))}
            case Mapping() | list() | tuple() if value and depth >= self._depth:
                return f"…[{len(value)} entries]"
            case Mapping():
                return self._mapping(value, depth)
            case list() | tuple():
                return self._list(value, depth)
            case _:
                return f"…[{type(value).__name__}]"

    def _mapping(self, value: Mapping[object, object], depth: int) -> dict[str, Json]:
        first = islice(value.items(), self._entries)
        plain = {self._short(str(key)): self.value(member, depth + 1) for key, member in first}
        return {**plain, "…": self._rest(value)} if len(value) > self._entries else plain

    def _list(self, value: Sequence[object], depth: int) -> list[Json]:
        plain = [self.value(entry, depth + 1) for entry in value[: self._entries]]
        return [*plain, self._rest(value)] if len(value) > self._entries else plain

    def _rest(self, value: Sized) -> str:
        return f"…[+{len(value) - self._entries} entries]"

    def _short(self, text: str) -> str:
        self._take(min(len(text), self._text))
        return short(text, self._text)

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise _TooLong


def short(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…[+{len(text) - limit} characters]"
