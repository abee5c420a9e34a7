"""The status: its text, its width, and a live view that leaves the terminal as it found it."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cli_samples import PROGRAM, container, evidence, rollout, service, status_of_a_rollout

from reconciler.cli.figures import odds
from reconciler.cli.status_view import status_lines
from reconciler.cli.terminal import Paint, width
from reconciler.cli.why_view import why_lines
from reconciler.operations import Request

NOW = 1778068920.0  # 2026-05-06T12:02:00Z
PLAIN = Paint(False)
END = {"event": "end", "exit": 0, "text": "", "value": None}
GOLDEN = Path(__file__).parent / "golden"


def lines(value: Any, cells: int | None = None) -> list[str]:
    return status_lines(value, NOW, PLAIN, cells)


def test_the_status_of_a_healthy_stack(status: Any) -> None:
    assert "\n".join(lines(status)) + "\n" == (GOLDEN / "status.txt").read_text()


def test_the_guides_lines_are_there_as_they_are(status: Any) -> None:
    text = "\n".join(lines(status))
    assert (
        "Mode: stable\n"
        "Requests/sec: -\n"
        "P99 latency: -\n"
        "Error rate: -\n"
        "Policy Status:\n"
        "- Infrastructure: PASS\n"
        "- Canary Safety: UNKNOWN (no traffic in the window)\n"
    ) in text


def test_the_guides_example(status: Any) -> None:
    status["services"] = [service(mode="canary")]
    status["traffic"] = {"req_per_sec": 15, "p99_latency_ms": 620, "error_rate": 0.03}
    status["policy"]["canary"] = {"status": "FAIL", "reason": "latency too high"}
    assert (
        "Mode: canary\n"
        "Requests/sec: 15\n"
        "P99 latency: 620ms\n"
        "Error rate: 3%\n"
        "Policy Status:\n"
        "- Infrastructure: PASS\n"
        "- Canary Safety: FAIL (latency too high)\n"
    ) in "\n".join(lines(status))


@pytest.mark.parametrize(
    ("traffic", "shown"),
    [
        ((0, 0, 0), ("0", "0ms", "0%")),
        ((0.06, 12.34, 0.0004), ("0.1", "12.3ms", "0.04%")),
        ((1234.5, 99.96, 1), ("1234", "100ms", "100%")),
        ((None, "≥ 1000 ms", None), ("-", "≥ 1000 ms", "-")),
        ((True, "\x1b[2J", True), ("True", r"\x1b[2J", "True")),
    ],
)
def test_numbers_as_people_read_them(status: Any, traffic: Any, shown: Any) -> None:
    status["traffic"] = dict(zip(("req_per_sec", "p99_latency_ms", "error_rate"), traffic, strict=True))
    text = lines(status)
    for label, value in zip(("Requests/sec", "P99 latency", "Error rate"), shown, strict=True):
        assert f"{label}: {value}" in text


def test_several_services_with_several_modes(status: Any) -> None:
    status["services"] = [service(), service(name="web", mode="canary")]
    assert "Mode: stable (app), canary (web)" in lines(status)


def test_trouble_is_told_where_it_is(status: Any) -> None:
    status["manifest"] |= {"valid": False, "problems": ["manifest.yaml:3:1: no port"]}
    status["services"] = [
        service(
            phase="rolling_back",
            reason="app is sick",
            ready=0,
            quarantined=["deadbeef00112233"],
            containers=[container(status="restarting", health="sick", detail="connection refused")],
        )
    ]
    status["opa"] = {"ready": False, "detail": "rego_parse_error", "revision": ""}
    status["nginx"] |= {"live_hash": None}
    status["last_cycle"] |= {"plan": ["create app: not there"], "errors": ["Docker is down"], "notes": ["waiting"]}
    text = "\n".join(lines(status))
    for words in (
        "The manifest is wrong; what ran before goes on:\n  manifest.yaml:3:1: no port",
        "  app is sick",
        "given up, not tried again: deadbeef0011",
        "  connection refused",
        "opa: rego_parse_error",
        "configuration not answered",
        "1 action\n  create app: not there\n  waiting\n  Docker is down",
    ):
        assert words in text


def test_nothing_yet(status: Any) -> None:
    nothing: Any = {"status": "absent", "port": None, "live_hash": None}
    value = {
        "project": "",
        "manifest": {"path": "/m.yaml", "revision": "", "valid": True, "problems": []},
        "url": "",
        "state": "empty",
        "services": [],
        "nginx": nothing,
        "opa": {},
        "policy": {},
        "traffic": {},
        "last_cycle": None,
        "daemon": None,
    }
    text = "\n".join(lines(value))
    assert "Mode: -" in text
    assert "no daemon: nothing is watched or repaired" in text
    assert "Last cycle: none yet" in text


@pytest.mark.parametrize(
    ("trigger", "plan", "words"),
    [
        ("pending", ["wait for app-1: starting", "wait for nginx: x"], "Last cycle: 812, 2m ago: waiting"),
        ("interval", [], "Last cycle: 812, 2m ago: nothing to do"),
        ("manifest", ["wait for app-1: x", "create app-2: x"], "Last cycle: 812, 2m ago, manifest: 2 actions"),
    ],
)
def test_the_last_cycle_in_few_words(status: Any, trigger: str, plan: list[str], words: str) -> None:
    status["last_cycle"] |= {"trigger": trigger, "plan": plan}
    assert words in lines(status)


def test_without_a_daemon_it_says_what_a_cycle_would_do_now(status: Any) -> None:
    status["last_cycle"] |= {"number": 0, "plan": ["create app: missing"]}
    assert lines(status)[-2:] == ["A cycle now: 1 action", "  create app: missing"]


HOSTILE = "\x1b]52;c;ZXZpbA==\x07\n\u202e" + "w" * 300


def _poisoned(value: Any) -> Any:
    """The same with every text hostile."""
    if isinstance(value, dict):
        return {key: _poisoned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_poisoned(item) for item in value]
    return HOSTILE if isinstance(value, str) else value


def test_no_text_of_others_reaches_the_terminal_unescaped(status: Any) -> None:
    status["services"] = [service(reason="x", quarantined=["x"], containers=[container(detail="x", health="sick")])]
    status["manifest"]["problems"] = ["x"]
    status["last_cycle"] |= {"plan": ["x"], "errors": ["x"], "notes": ["x"]}
    poisoned = _poisoned(status)
    poisoned["state"] = HOSTILE
    assert all(line.isprintable() for line in lines(poisoned))
    assert all(line.isprintable() for line in lines(poisoned, 40))


@pytest.mark.parametrize("cells", [20, 40, 60, 80, 100, 132])
def test_tables_fit_the_terminal_or_show_the_least_they_can(status: Any, cells: int) -> None:
    widest = max(
        width(line) for line in lines(status, cells) if line.startswith(("SERVICE", "app", "CONTAINER", "demo-"))
    )
    assert widest <= max(cells, 50)


# --- a rollout ---------------------------------------------------------------------------------------------------


def under_way(**changes: Any) -> dict[str, Any]:
    value = status_of_a_rollout()
    value["services"][0]["rollout"] |= changes
    return value


def why(value: Any) -> str:
    return "\n".join(why_lines(value["services"][0], NOW, PLAIN))


@pytest.mark.parametrize(("name", "cells", "rows"), [("", None, None), ("-80x24", 80, 22), ("-120x40", 120, 38)])
def test_a_rollout_under_way(name: str, cells: int | None, rows: int | None) -> None:
    shown = status_lines(status_of_a_rollout(), NOW, PLAIN, cells, rows)
    assert "\n".join(shown) + "\n" == (GOLDEN / f"status-rollout{name}.txt").read_text()
    assert max(width(line) for line in shown) <= (cells or 120)
    assert len(shown) <= (rows or 100)


def test_why_it_is_where_it_is() -> None:
    assert why(status_of_a_rollout()) + "\n" == (GOLDEN / "why-rollout.txt").read_text()


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["max_p99_latency_ms"], "FAIL (latency too high)"),
        (["max_error_rate"], "FAIL (error rate too high)"),
        (["max_error_rate", "max_p99_latency_ms"], "FAIL (latency too high, error rate too high)"),
        (["max_error_rate", "user"], "FAIL (what policy said)"),
        ([], "FAIL (what policy said)"),
    ],
)
def test_a_broken_limit_is_said_in_the_guides_words(ids: list[str], words: str) -> None:
    value = status_of_a_rollout()
    violations = [{"id": name} for name in ids]
    value["policy"]["canary"] = {"status": "FAIL", "reason": "what policy said", "violations": violations}
    assert f"- Canary Safety: {words}" in lines(value)


def test_what_policy_allows_needs_no_reason_and_what_is_unknown_does(status: Any) -> None:
    status["policy"] = {
        "infrastructure": {"status": "PASS", "reason": "all is well"},
        "canary": {"status": "UNKNOWN", "reason": "OPA is down", "violations": []},
    }
    text = "\n".join(lines(status))
    assert "- Infrastructure: PASS\n- Canary Safety: UNKNOWN (OPA is down)\n" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"phase": "watching", "weight": 0}, "promoted, and watched, for 34s\n"),
        ({"phase": "watching", "watch_seconds": 120.0}, "promoted, and watched, for 34s, 86s to go\n"),
        ({"phase": "watching", "watch_seconds": 30.0}, "promoted, and watched, for 34s\n"),
        ({"phase": "rolling_back", "weight": 0}, "rolling back"),
        ({"phase": "of_tomorrow"}, "of tomorrow"),
        ({"held": True}, "analyzing, step 2 of 3, for 34s, kept by `mode: canary`"),
        ({"chaos": "slow"}, "  chaos: slow, analyzing, step 2 of 3"),
        ({"step": 3}, "latency 7.3:1; promotion needs 20:1: 300 more requests (49s)"),
        ({"window": {"requests": 5, "seconds": 10}}, "  window    canary, last 10s: 5 requests, "),
        ({"paused": {"actor": "bob", "reason": "lunch", "until": NOW + 600}}, "by bob, for another 10m: lunch"),
        ({"paused": {"actor": "", "reason": "", "until": None}}, "by an operator, until it is resumed"),
        ({"window": {"why_unknown": "no requests in the last 30 s"}}, "no requests in the last 30 s"),
        ({"canary": {**rollout()["stable"]}}, "9b1c22d0e4f3 (1.0.0) (a canary of the same revision)"),
    ],
)
def test_what_is_special_about_a_rollout_is_said(changes: dict[str, Any], words: str) -> None:
    assert words in "\n".join(lines(under_way(**changes)))


def test_a_rollout_of_which_little_is_known_is_shown_all_the_same() -> None:
    for gone in ({}, {"evidence": None, "window": None}, dict.fromkeys(rollout())):
        value = under_way(**gone)
        assert any(line.startswith("app  ") for line in lines(value, 80))
        assert why(value)
    assert why({"services": [{"name": "app", "rollout": {"phase": "starting"}}]})


def test_what_starts_is_shown_without_numbers_that_nobody_has() -> None:
    unasked = {"status": "UNKNOWN", "action": "", "reason": "policy was not asked", "violations": []}
    nothing = {"evidence": None, "window": {"requests": None, "why_unknown": "nothing was measured yet"}}
    value = under_way(phase="starting", stable=None, weight=0, policy=unasked, next="soon", **nothing)
    first = lines(value).index("app  51d0aa7c51d0 (1.1.0)")
    assert lines(value)[first + 1 : first + 5] == [
        "  starting for the first time, for 34s",
        "            READY",
        "  canary    1/1",
        "  next      soon",
    ]
    assert "Errors" not in why(value)
    assert "Policy" not in why(value)
    later = "\n".join(lines(under_way(phase="starting", weight=0, policy=unasked, next="soon", **nothing)))
    assert "  starting the canary, for 34s\n" in later
    assert "░  0% to the canary\n" in later


def test_the_strength_of_evidence_is_said_in_words() -> None:
    value = under_way(evidence=evidence())
    errors = value["services"][0]["rollout"]["evidence"]["errors"]
    errors |= {"e_below_limit": 51.2, "e_above_limit": 0.1, "e_worse": 1.0}
    assert "51:1 that the error rate is under 1.5%, a promotion needs 20:1" in why(value)
    assert "a roll back needs" not in why(value)
    errors |= {"e_below_limit": 0.2, "e_above_limit": 3e9}
    assert "none yet that the error rate is under 1.5%" in why(value)
    assert "over 1,000:1 that it is over 1%, a roll back needs 80:1" in why(value)


@pytest.mark.parametrize(
    ("e", "words"),
    [(1, "1:1"), (1.99, "1.9:1"), (9.04, "9:1"), (19.99, "19:1"), (1000, "1,000:1"), (1e12, "over 1,000:1")],
)
def test_odds_are_cut_off_as_policy_does(e: float, words: str) -> None:
    assert odds(e) == words


def test_a_kept_canary_under_chaos_is_not_said_to_prove_anything() -> None:
    value = under_way(held=True, chaos="slow", next="stays here; `swiftdeploy chaos recover` ends the chaos")
    shown = status_lines(value, NOW, PLAIN, 80, 22)
    assert "  proof     what is done under chaos counts for no proof" in shown
    assert any(line.endswith("before the chaos") for line in shown)
    assert "24.4% seen" not in "\n".join(shown)
    assert max(width(line) for line in shown) <= 80
    assert "  evidence  what is done under chaos counts for no proof" in why(value)
    assert "whole run" not in why(value)
    assert "Until a promotion is proven" not in why(value)


def test_a_watch_shows_its_window_and_no_table_of_nothing() -> None:
    watched = {"phase": "watching", "canary": None, "watch_seconds": 120.0}
    value = under_way(**watched, policy={"status": "PASS", "action": "hold", "reason": "Not enough evidence yet"})
    shown = status_lines(value, NOW, PLAIN, 80, 16)
    assert "  stable    2/2" in shown
    assert "  window    last 30s: 450 requests, errors 3% (≤1%), P99 620ms (≤500ms)" in shown
    assert "  policy    PASS: nothing speaks against it" in shown
    assert "20:1" not in "\n".join(shown)
    assert "Until a promotion is proven" not in why(value)


def test_a_container_that_is_kept_for_a_roll_back_did_not_crash(status: Any) -> None:
    kept = container(status="exited", health="unknown", kept=True, detail="stopped, kept for a roll back")
    status["services"] = [service(containers=[kept])]
    (line,) = (line for line in lines(status) if line.startswith("demo-app-blue"))
    assert line.split("  ")[1:3] == ["stopped, kept", "-"]
    assert Paint(True)("dim", line) in status_lines(status, NOW, Paint(True))
    assert "exited" not in "\n".join(lines(status))


def test_the_limits_of_the_answer_are_the_ones_that_are_shown() -> None:
    limits = {"max_error_rate": 0.02, "max_p99_latency_ms": 300, "margin": 1.0, "beta": 0.01, "alpha": "odd"}
    text = why(under_way(limits=limits))
    assert "that the error rate is under 4%, a promotion needs 100:1" in text
    assert "P99 620ms, limit 300ms" in text


def test_why_at_rest_says_why_it_stays_there() -> None:
    at_rest = service(reason="51d0aa7c was rolled back: P99 latency exceeds 500ms", quarantined=["51d0aa7c51d0aa"])
    text = "\n".join(why_lines(at_rest, NOW, PLAIN, "reconcilerctl"))
    assert text == (
        "app is at rest for 7m: 9b1c22d0e4f3 (1.0.0), swift-deploy-1-node:latest, 1 of 1 ready.\n"
        "Why it stays there: 51d0aa7c was rolled back: P99 latency exceeds 500ms\n"
        "\n"
        "Given up, not tried again: 51d0aa7c51d0\n"
        '`reconcilerctl retry --reason "why"` lets it run once more.'
    )
    assert "The manifest asks for nothing else." in "\n".join(why_lines(service(), NOW, PLAIN))
    assert "app is not deployed." in "\n".join(why_lines(service(phase="absent"), NOW, PLAIN))


def test_nothing_hostile_in_a_rollout_reaches_the_terminal() -> None:
    poisoned = _poisoned(status_of_a_rollout())
    poisoned["services"][0]["rollout"]["phase"] = "analyzing"
    for shown in (lines(poisoned), lines(poisoned, 80), why(poisoned).split("\n")):
        assert all(line.isprintable() for line in shown)


def test_two_rollouts_are_two_blocks() -> None:
    value = status_of_a_rollout()
    value["services"].append(service(name="web", rollout=rollout()))
    assert sum(line.startswith(("app  9b1c", "web  9b1c")) for line in lines(value)) == 2


def test_why_asks_and_prints(run: Any, daemon: Any, operations: Any) -> None:
    value = status_of_a_rollout()["services"][0]
    operations.answers["why"] = [{**END, "value": value}]
    result = run("why")
    assert (result.code, result.err) == (0, "")
    assert "Next: stays here" in result.out
    assert json.loads(run("why", "-o", "json").out) == value
    operations.answers["why"] = [{**END, "exit": 1, "text": "there is no service 'x'"}]
    assert run("why", "x").err == "there is no service 'x'\n"


# --- once --------------------------------------------------------------------------------------------------------


def test_status_prints_once_into_a_pipe(run: Any, daemon: Any, operations: Any, status: Any) -> None:
    operations.answers["status"] = [{**END, "value": status}]
    result = run("status")
    assert (result.code, result.err) == (0, "")
    assert "Policy Status:" in result.out
    assert "\x1b" not in result.out
    assert len(operations.asked) == 1


def test_status_as_json_is_the_value(run: Any, daemon: Any, operations: Any, status: Any) -> None:
    operations.answers["status"] = [{**END, "value": status}]
    assert json.loads(run("status", "-o", "json").out) == status


def test_a_status_that_cannot_be_had_is_its_reason(run: Any, daemon: Any, operations: Any) -> None:
    operations.answers["status"] = [{**END, "exit": 1, "text": "Docker is down"}]
    result = run("status")
    assert (result.code, result.out, result.err) == (1, "", "Docker is down\n")


# --- live --------------------------------------------------------------------------------------------------------


class Terminal:
    """A command on a terminal of its own, and everything it wrote there."""

    def __init__(self, words: list[str], rows: int = 40, columns: int = 100, **environment: str) -> None:
        self.master, self._slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self._slave)
        inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [*PROGRAM, *words],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**inherited, "TERM": "xterm-256color", **environment},
        )
        self.seen = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait_for(self, text: str, times: int = 1, limit_s: float = 20.0) -> None:
        deadline = time.monotonic() + limit_s
        while self.seen.count(text) < times:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen!r}"
            self.read()

    def read(self, patience_s: float = 0.1) -> None:
        if select.select([self.master], [], [], patience_s)[0]:
            with suppress(OSError):
                self.seen += self._decoder.decode(os.read(self.master, 65536))

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def end(self) -> int:
        code = self.process.wait(20)
        self.read()
        return code

    def is_restored(self) -> bool:
        return termios.tcgetattr(self._slave) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self._slave)


@pytest.fixture
def terminal(daemon: Any, operations: Any, status: Any, state_dir: Path) -> Iterator[Callable[..., Terminal]]:
    def answer(request: Request) -> Iterator[Any]:
        status["last_cycle"]["number"] += 1
        yield {**END, "value": status}

    operations.answers["status"] = answer
    opened: list[Terminal] = []

    def open_terminal(*words: str, **options: Any) -> Terminal:
        opened.append(Terminal(["status", "--state-dir", str(state_dir), *words], **options))
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()


ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
SHOW_CURSOR = "\x1b[?25h"


@pytest.mark.parametrize("key", ["q", "\x03", "\x1b"], ids=["q", "Ctrl-C", "Escape"])
def test_the_live_view_renews_itself_and_leaves_no_trace(terminal: Any, key: str) -> None:
    one = terminal()
    one.wait_for("Last cycle: 815")
    assert not one.is_restored(), "keys are not echoed into the view"
    one.press(key)
    assert one.end() == 0
    assert one.seen.count(ENTER) == one.seen.count(LEAVE) == 1
    assert SHOW_CURSOR in one.seen.split(LEAVE)[0]
    assert one.is_restored()
    last = one.seen.split(LEAVE)[1]
    assert "Mode: stable" in last
    assert "Last cycle:" in last


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_half_screen(terminal: Any, number: int) -> None:
    one = terminal()
    one.wait_for("Mode: stable")
    one.process.send_signal(number)
    one.end()
    assert LEAVE in one.seen
    assert one.is_restored()


def test_each_picture_is_drawn_over_the_last_one(terminal: Any) -> None:
    one = terminal()
    one.wait_for("Last cycle: 815")
    one.press("q")
    one.end()
    view = one.seen.split(ENTER)[1].split(LEAVE)[0]
    assert "\x1b[2J" not in view, "clearing the whole screen flickers"
    pictures = view.split("\x1b[?2026h")[1:]
    assert len(pictures) >= 3
    for picture in pictures[:-1]:
        assert picture.startswith("\x1b[H")
        assert picture.endswith("\x1b[J\x1b[?2026l")
        assert not re.search(r"[^\r]\n", picture)


def test_a_new_size_is_drawn_at_once_and_kept_to(terminal: Any) -> None:
    one = terminal(rows=40, columns=100)
    one.wait_for("Last cycle: 81")
    one.seen = ""
    one.resize(10, 30)
    one.process.send_signal(signal.SIGWINCH)
    one.wait_for("more lines")
    one.press("q")
    assert one.end() == 0
    pictures = re.findall(r"\x1b\[\?2026h(.*?)\x1b\[\?2026l", one.seen, re.DOTALL)
    rows = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", pictures[-1]).replace("\r", "").split("\n")
    assert len(rows) <= 10
    assert [row for row in rows if width(row) > 30] == []


def test_it_gives_the_terminal_back_while_it_is_stopped(terminal: Any) -> None:
    one = terminal()
    one.wait_for("Mode: stable")
    one.press("\x1a")
    one.wait_for(LEAVE)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{one.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert one.is_restored()
    one.process.send_signal(signal.SIGCONT)
    one.wait_for(ENTER, times=2)
    one.press("q")
    assert one.end() == 0
    assert one.is_restored()


def test_a_daemon_that_goes_away_is_told_in_the_view(terminal: Any, daemon: Any) -> None:
    one = terminal()
    one.wait_for("Mode: stable")
    daemon.stop()
    one.wait_for("No daemon is running")
    assert one.process.poll() is None
    one.press("q")
    one.end()
    assert one.is_restored()


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": ""}])
def test_a_terminal_without_a_cursor_gets_it_once(terminal: Any, environment: dict[str, str]) -> None:
    one = terminal(**environment)
    one.wait_for("Last cycle")
    assert one.end() == 0
    assert "\x1b" not in one.seen


def test_once_is_once_and_colour_can_be_refused(terminal: Any) -> None:
    one = terminal("--once", NO_COLOR="1")
    one.wait_for("Last cycle")
    assert one.end() == 0
    assert "\x1b" not in one.seen


# ---------------------------------------------------------------- a repository, a suspension, windows

COMMIT = {
    "id": "1a2b3c4d5e6f" + "0" * 28,
    "author": "Ann <ann@example.com>",
    "subject": "raise the \x1b[31mlimit",
    "when": "2026-05-06T11:00:00Z",
    "signer": "ann@example.com",
    "source": "https://git.example.com/shop.git main",
}


def test_the_commit_in_force_is_told_and_why_it_is_no_newer_one(status: Any) -> None:
    trouble = {
        "kind": "git_nonff",
        "message": "2b2b2b2b2b2b does not descend from it.",
        "since": "2026-05-06T12:00:00Z",
    }
    status["source"] = {"commit": COMMIT, "trouble": trouble}
    text = "\n".join(lines(status))
    assert r"commit 1a2b3c4d5e6f raise the \x1b[31mlimit (Ann <ann@example.com>, signed by ann@example.com)" in text
    assert "2b2b2b2b2b2b does not descend from it. (for 2m)" in text
    unsigned = {**COMMIT, "signer": None}
    status["source"] = {"commit": unsigned, "trouble": None}
    assert "(Ann <ann@example.com>)\n" in "\n".join(lines(status))
    status["source"] = {"commit": None, "trouble": None}
    assert "commit" not in "\n".join(lines(status))


def test_a_suspension_is_told_with_who_why_and_how_long(status: Any) -> None:
    status["state"] = "suspended"
    status["suspended"] = {"actor": "ann", "reason": "audit", "until": NOW + 600, "heals": True}
    assert "Suspended by ann: audit, 10m to go, but healed" in lines(status)
    status["suspended"] = {"actor": "ann", "reason": "audit", "until": None, "heals": False}
    assert "Suspended by ann: audit" in lines(status)


def test_only_windows_that_are_shut_are_told(status: Any) -> None:
    status["windows"] = {"app": {"open": False, "reason": "inside the deny window", "until": None}}
    assert "app: inside the deny window" in lines(status)
    status["windows"] = {"app": {"open": True, "reason": "no deny window is open", "until": None}}
    assert "app: no deny window is open" not in lines(status)


def test_why_names_the_commit_that_asks_for_it() -> None:
    text = "\n".join(why_lines({**service(), "commit": COMMIT}, NOW, PLAIN))
    assert r"Commit: 1a2b3c4d5e6f raise the \x1b[31mlimit (Ann <ann@example.com>, signed by ann@example.com)" in text
