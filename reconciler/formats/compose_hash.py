"""Compose's own config-hash of a service, computed here (docs/adr/0006-compose-interop.md).

Compose hashes the JSON that Go's encoder makes of a service, fields in the order of its struct. A container whose label
says the same is left alone by `docker compose up`. It is Compose's word only: we never decide anything by it.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TypeAlias

Version: TypeAlias = tuple[int, int, int]
Value: TypeAlias = "bool | int | float | str | Sequence[Value] | Mapping[str, Value] | None"

NEWEST_CHECKED: Version = (2, 40, 3)
OLDEST_CHECKED: Version = (2, 26, 1)
_WITHOUT_DEPENDENCIES: Version = (2, 29, 3)

ORDER = (
    *("cap_add", "cap_drop", "cpus", "command", "depends_on", "entrypoint", "environment", "hostname", "healthcheck"),
    *(
        "image",
        "init",
        "labels",
        "logging",
        "mem_limit",
        "network_mode",
        "networks",
        "pids_limit",
        "ports",
        "read_only",
    ),
    *("restart", "security_opt", "stop_grace_period", "stop_signal", "tmpfs", "user", "volumes", "working_dir"),
)
_ALWAYS_THERE = ("command", "entrypoint")
_NOT_HASHED = frozenset({"scale"})
_MAPS = frozenset({"environment", "labels", "options", "networks", "depends_on"})


def config_hash(service: Mapping[str, Value], version: Version = NEWEST_CHECKED) -> str:
    """64 hex digits: what Compose `version` writes into `com.docker.compose.config-hash` for this service.

    `service` is as Compose holds it after reading its file: paths absolute, `$$` undone, in the long form. Until 2.29.2
    what a service depends on is part of the hash.
    """
    hashed = {name: service.get(name) for name in ORDER if name in service or name in _ALWAYS_THERE}
    assert set(service) <= {*ORDER, *_NOT_HASHED}, "a field whose place in Compose's struct is not known"
    if version >= _WITHOUT_DEPENDENCIES:
        hashed.pop("depends_on", None)
    return hashlib.sha256(go_json(hashed).encode()).hexdigest()


def go_json(value: Value, *, is_map: bool = False) -> str:
    """`value` as Go's encoding/json writes it: no blanks, maps sorted, fields in the order given, `<>&` escaped."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return go_float32(value)
        case str():
            return _go_string(value)
        case Mapping():
            names = sorted(value, key=str.encode) if is_map else value
            fields = (f"{_go_string(name)}:{go_json(value[name], is_map=name in _MAPS)}" for name in names)
            return f"{{{','.join(fields)}}}"
        case _:
            return f"[{','.join(go_json(each) for each in value)}]"


def go_float32(value: float) -> str:
    """The shortest decimal that is still the same 32-bit number, as Go writes it."""
    nearest = struct.unpack("f", struct.pack("f", value))[0]
    digits = next(text for text in (f"{nearest:.{n}g}" for n in range(1, 10)) if _is_same_float32(text, nearest))
    if 1e-6 <= abs(nearest) < 1e21:
        return f"{Decimal(digits):f}"
    return re.sub(r"e([+-])0(\d)$", r"e\1\2", digits)


def _is_same_float32(text: str, value: float) -> bool:
    return bool(struct.unpack("f", struct.pack("f", float(text)))[0] == value)


_ESCAPED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def _go_string(text: str) -> str:
    escaped = re.sub(r"""["\\<>&\x00-\x1f\u2028\u2029]""", lambda found: _go_character(found[0]), text)
    return f'"{escaped}"'


def _go_character(character: str) -> str:
    return _ESCAPED.get(character) or f"\\u{ord(character):04x}"


def go_duration(seconds: float) -> str:
    """`90` as `1m30s`, `0.5` as `500ms`: how Go prints a duration; to the microsecond."""
    microseconds = round(seconds * 1_000_000)
    if microseconds < 1_000_000:
        return _below_a_second(microseconds)
    minutes, rest = divmod(microseconds, 60_000_000)
    hours, minutes = divmod(minutes, 60)
    whole, fraction = divmod(rest, 1_000_000)
    shown = f"{whole}" + (f".{fraction:06d}".rstrip("0") if fraction else "") + "s"
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + shown


def _below_a_second(microseconds: int) -> str:
    if microseconds < 1000:
        return f"{microseconds}µs" if microseconds else "0s"
    whole, fraction = divmod(microseconds, 1000)
    return f"{whole}" + (f".{fraction:03d}".rstrip("0") if fraction else "") + "ms"
