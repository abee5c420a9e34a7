"""A short run of every target, and every input that ever got through. `python -m tests.fuzz all` runs for hours."""

from __future__ import annotations

import dataclasses

import pytest

from tests.fuzz.machine import Target, escape_of, fuzz
from tests.fuzz.targets import TARGETS

RUNS, LIMIT_S = 300, 0.6


@pytest.mark.control("K9", "K13")
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_gets_through_in_a_short_run(name: str) -> None:
    account = fuzz(TARGETS[name], RUNS, seed=7, limit_s=LIMIT_S)
    assert [(escape.how, escape.data[:200]) for escape in account.escapes] == []
    assert account.executions > 0


NEST = b"[" * 20_000
ONCE: tuple[tuple[str, bytes], ...] = (
    ("yaml", b"a: " + b"\0" * 40_000),
    ("yaml", b"\n" * 100_000 + b"\x1b" * 5_000),
    ("yaml", b"a: " + b"9" * 16_000 + b" x\nb: " + b"9" * 16_000 + b" x\n"),
    ("engine", b"Bind for 0.0.0.0:" + b"9" * 5000 + b" failed: port is already allocated"),
    ("engine", '{"State":{"Running":true},"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"²"}]}}}'.encode()),
    ("stores", b'{"format": 1, "value": {"services": "' + b"a" * 20_000 + b'"}}'),
    ("lock", b'{"pid": Infinity, "program": "reconcilerd", "started": ""}'),
    ("lock", NEST),
    ("history", b'{"kind":"cycle","timestamp":"2026-01-01T00:00:00Z","actions":[{"outcome":[]}]}\n'),
    ("history", b'{"kind":"cycle","timestamp":"2026-01-01T00:00:00Z","words":[{"word":{}}]}\n'),
    ("history", b'{"kind":"cycle","timestamp":"2026-01-01T00:00:00Z","req_per_sec":1' + b"0" * 400 + b"}\n"),
    ("write_back", b'{"services": {"image": "shop/web:1", "security_opt": [{"a": ["${x}"]}]}}'),
    ("manifest", b'{"services": {"image": "shop/web:1", "security_opt": [{"a": 1}]}}'),
)
"""Escapes that were found and mended."""


@pytest.mark.parametrize(("name", "data"), ONCE, ids=[f"{name}-{number}" for number, (name, _) in enumerate(ONCE)])
def test_what_once_got_through_does_no_more(name: str, data: bytes) -> None:
    assert escape_of(TARGETS[name], data) == ""


# ── the machine itself: one that finds nothing proves nothing ──────────────────────────────────────────────────────


def _picky(data: bytes) -> str:
    if data.startswith(b"ab"):
        raise KeyError("ab")
    if data[:1] not in (b"a", b"x"):
        raise ValueError("declared")
    return "ok"


def _slow(data: bytes) -> str:
    while data.startswith(b"x"):
        pass
    return "ok"


def _greedy(data: bytes) -> str:
    return str(len(b"x" * (300 * 2**20)))


def _target(run: object) -> Target:
    return Target("planted", "", run, lambda: [b"a", b"x"], (ValueError,), (b"b",))  # type: ignore[arg-type]


def test_an_exception_that_is_not_declared_is_found() -> None:
    account = fuzz(_target(_picky), 3000, seed=1)
    assert [escape.how.split()[1] for escape in account.escapes] == ["KeyError"]
    assert account.outcomes["ValueError declared"] > 0, "a declared one is none"


def test_a_parser_that_does_not_come_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.machine.GIVEN_UP_S", 0.2)
    assert "TooLong" in escape_of(_target(_slow), b"x")


def test_one_that_takes_much_memory_is_found() -> None:
    assert "memory" in escape_of(_target(_greedy), b"a")


@pytest.mark.parametrize("name", ["yaml", "control"])
def test_the_same_seed_feeds_the_same_inputs(name: str) -> None:
    fed: list[bytes] = []

    def remembers(data: bytes) -> str:
        fed.append(data)
        return "ok"

    target = dataclasses.replace(TARGETS[name], run=remembers)
    for _ in range(2):
        fuzz(target, 2000, seed=5)
    assert fed[:2000] == fed[2000:]
