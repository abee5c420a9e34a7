"""C and H: what arrives at the control socket, from its framing down to what an operator may ask for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler.control import _BadRequest, _parse_request
from reconciler.core.errors import ReconcilerError
from reconciler.operations import Request
from tests.operations.desk_world import Desk
from tests.security.cases import Attack, in_time, steering


@dataclass(frozen=True)
class BadFrame(Attack):
    """A line that is no request; the answer says what is wrong with it."""

    line: bytes
    words: str

    def attempt(self, folder: Path) -> None:
        with in_time(), pytest.raises(_BadRequest) as caught:
            _parse_request(self.line, "ann")
        assert self.words in str(caught.value)
        assert len(str(caught.value)) < 400


def _frame(**members: Any) -> bytes:
    return json.dumps({"protocol": 1, "verb": "status", "args": {}, **members}).encode()


FRAMES = (
    BadFrame("C1", "nothing", b"", "JSON"),
    BadFrame("C1", "a list", b"[]", "object"),
    BadFrame("C1", "a number", b"5", "object"),
    BadFrame("C1", "pickle", b"\x80\x04\x95", "JSON"),
    BadFrame("C1", "YAML", b"verb: status", "JSON"),
    BadFrame("C1", "UTF-16", _frame().decode().encode("utf-16"), "JSON"),
    BadFrame("C1", "NaN", _frame(args={"a": float("nan")}), "NaN"),
    BadFrame("C1", "infinity", b'{"verb":"status","args":{"a":1e999}}', "range"),
    BadFrame("C1", "a key twice", b'{"verb":"status","verb":"teardown"}', "twice"),
    BadFrame("C1", "a key twice, escaped", b'{"verb":"status","v\\u0065rb":"teardown"}', "twice"),
    BadFrame("C1", "deep", b'{"verb":"status","args":{"a":' + b"[" * 40 + b"]" * 40 + b"}}", "deep"),
    BadFrame("C1", "very deep", b"[" * 60_000, "deep"),
    BadFrame("C1", "digits", b'{"verb":"status","args":{"a":' + b"9" * 6000 + b"}}", "JSON"),
    BadFrame("C1", "half a character", b'{"verb":"status","args":{"a":"\\ud800"}}', "JSON"),
    BadFrame("C1", "who asks", _frame(actor="root (uid 0)"), "actor"),
    BadFrame("C1", "a uid", _frame(uid=0), "uid"),
    BadFrame("C1", "another protocol", _frame(protocol=2), "protocol"),
    BadFrame("C1", "a protocol that is none", _frame(protocol=[1]), "protocol"),
    *(
        BadFrame("C1", f"verb {verb!r}", _frame(verb=verb), "verb")
        for verb in ("", "../x", "Status", "__class__", "a" * 100, 5, None, ["status"], "status\n", "ѕtatus")
    ),
    *(BadFrame("C1", f"args {args!r}", _frame(args=args), "args") for args in ([], "x", 5, None)),
)


@dataclass(frozen=True)
class BadWish(Attack):
    """A well-formed request that must be refused, or come to nothing; the daemon goes on and nothing changes."""

    verb: str
    args: dict[str, Any]

    def attempt(self, folder: Path) -> None:
        desk = Desk(folder)
        desk.ask("deploy")
        before, containers = desk.path.read_bytes(), desk.images()
        with in_time():
            text, code = self._asked(desk)
        assert not steering(text.replace("\n", "")) or self._is_spelled_later(text)
        assert code != 0, "it was done"
        assert desk.path.read_bytes() == before, "the manifest was changed"
        assert desk.images() == containers, "containers were changed"
        assert desk.sent == [], "a container was told something"
        assert desk.ask("status")[0] == 0

    def _asked(self, desk: Desk) -> tuple[str, int]:
        try:
            events = list(desk.operations.run(Request(self.verb, dict(self.args), "ann")))
        except ReconcilerError as error:
            return str(error), 1
        return str(events[-1]["text"]), int(events[-1]["exit"])

    @staticmethod
    def _is_spelled_later(text: str) -> bool:
        """The command line spells control characters out; the wire may carry them, as ASCII JSON."""
        return json.dumps(text).isascii()


WISHES = (
    *(
        BadWish("C2", f"no such verb {verb}", verb, {})
        for verb in ("exec", "shell", "eval", "--help", "_status", "run")
    ),
    *(
        BadWish("C2", f"{verb} of {name!r}", verb, {"service": name, "reason": "x", "mode": "canary"})
        for verb in ("promote", "rollback", "pause", "retry")
        for name in ("../../etc", "opa", "nginx", "app\x1b[2J", "App", "app\0")
    ),
    BadWish("C2", "another manifest", "deploy", {"manifest": "/etc/passwd"}),
    BadWish("C2", "retry without a reason", "retry", {"reason": " "}),
    BadWish("C2", "rollback of nothing", "rollback", {"reason": "x"}),
    BadWish("C2", "resume of nothing", "resume", {}),
    BadWish("C2", "logs of another's container", "logs", {"service": "../../x"}),
    *(
        BadWish("H1", f"chaos {args!r}", "chaos", args)
        for args in (
            {"what": "slow", "duration": 1},
            {"what": "error", "rate": 1.0},
            {"what": "slow", "duration": -1},
            {"what": "slow", "duration": 1e9},
            {"what": "error", "rate": "1"},
            {"what": "../x"},
            {"what": ["slow"]},
            {},
            {"what": "recover", "service": "nginx"},
            {"what": "recover", "service": "opa"},
            {"what": "recover", "service": "../app"},
        )
    ),
)


@dataclass(frozen=True)
class Forced(Attack):
    """A promotion that policy denies, with a `force` that does not count: the canary stays where it is."""

    args: dict[str, Any]

    def attempt(self, folder: Path) -> None:
        desk = Desk(folder)
        desk.ask("deploy")
        assert desk.ask("promote", mode="canary")[0] == 0
        desk.world.says("canary", allow=False, reason="P99 latency exceeds 500ms", action="hold")
        before = desk.path.read_bytes()
        code, events = desk.ask("promote", mode="stable", **self.args)
        assert code == 3, events
        assert desk.path.read_bytes() == before, "the manifest was changed"
        assert desk.app.candidate is not None, "the canary was promoted"


FORCED = (
    Forced("C3", "nothing", {}),
    Forced("C3", "no reason", {"force": True}),
    Forced("C3", "a blank reason", {"force": True, "reason": " \t"}),
    Forced("C3", "a reason that is none", {"force": True, "reason": ["because"]}),
    Forced("C3", "a force that is none", {"force": "true", "reason": "because"}),
    Forced("C3", "a force of one", {"force": 1, "reason": "because"}),
)
CASES = (*FRAMES, *WISHES, *FORCED)
