"""Failures on request: the closed set of them, and how a request body names one."""

import json
from dataclasses import dataclass
from typing import Any, NoReturn

SLOWEST_S = 300


@dataclass(frozen=True, slots=True)
class Calm:
    code = 0

    def describe(self) -> dict[str, object]:
        return {"mode": "recover"}


@dataclass(frozen=True, slots=True)
class Slow:
    """Every request waits this long before it is answered."""

    duration_s: float
    code = 1

    def describe(self) -> dict[str, object]:
        return {"mode": "slow", "duration": self.duration_s}


@dataclass(frozen=True, slots=True)
class Error:
    """About this share of the requests, each by its own draw, is answered with 500."""

    rate: float
    code = 2

    def describe(self) -> dict[str, object]:
        return {"mode": "error", "rate": self.rate}


Chaos = Calm | Slow | Error


class NotJson(Exception):
    """The body cannot be read at all."""


class NotChaos(Exception):
    """The body is JSON, but does not name a chaos mode with its one value."""


def parse_chaos(body: bytes) -> Chaos:
    """The chaos that `body` asks for; raises NotJson or NotChaos with a sentence for the client."""
    wish = _read_object(body)
    match wish.get("mode"):
        case "slow":
            return Slow(_only_number(wish, "duration", SLOWEST_S))
        case "error":
            return Error(_only_number(wish, "rate", 1))
        case "recover":
            _refuse_unknown(wish, {"mode"})
            return Calm()
        case _:
            raise NotChaos('mode is missing or unknown. Use "slow", "error" or "recover".')


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        wish = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise NotJson("The body is not valid JSON.") from None
    if not isinstance(wish, dict):
        raise NotChaos('The body is not an object. Use for example {"mode": "recover"}.')
    return wish


def _refuse_constant(name: str) -> NoReturn:
    """Python reads NaN and Infinity; JSON has neither."""
    raise ValueError(name)


def _only_number(wish: dict[str, Any], name: str, most: int) -> float:
    _refuse_unknown(wish, {"mode", name})
    value = wish.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise NotChaos(f"{name} is missing or wrong. Use a number from 0 to {most}.")
    return value


def _refuse_unknown(wish: dict[str, Any], known: set[str]) -> None:
    unknown = sorted(wish.keys() - known)
    if unknown:
        raise NotChaos(f"{unknown[0][:40]!r} does not belong to mode {wish['mode']}. Leave it out.")
