"""A history as an auditor reads it: what counts as news, what is folded, and that nothing can break the page."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.formats import audit as audit_module
from reconciler.formats import audit_ledger
from reconciler.formats.audit import Audit, audit
from reconciler.formats.audit_report import as_json, cell, markdown
from reconciler.formats.history import ORIGIN, seal

GUIDE = (
    '{"timestamp": "2026-05-06T12:00:00Z", "mode": "stable", "req_per_sec": 15, "p99_latency": 80, '
    '"error_rate": 0, "policy": "PASS"}\n'
    '{"timestamp": "2026-05-06T12:00:30Z", "mode": "canary", "req_per_sec": 15, "p99_latency": 620, '
    '"error_rate": 0.03, "policy": "FAIL"}\n'
    '{"timestamp": "2026-05-06T12:01:00Z", "mode": "canary", "req_per_sec": 15, "p99_latency": 900, '
    '"error_rate": 0.001, "policy": "FAIL"}\n'
)


def at(minute: int, second: int = 0) -> str:
    return f"2026-05-06T{12 + minute // 60:02}:{minute % 60:02}:{second:02}.000Z"


def cycle(minute: int, second: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "timestamp": at(minute, second),
        "kind": "cycle",
        "mode": "stable",
        "req_per_sec": None,
        "p99_latency": None,
        "error_rate": None,
        "policy": None,
        "number": 1,
        "trigger": {"kind": "interval"},
        "revision": "3f2a",
        "phase": {"app": "stable"},
        "problems": [],
        "verdicts": [],
        "decisions": [],
        "actions": [],
        "notes": [],
        "errors": [],
        "words": [],
        "rollouts": {"app": rollout()},
        **changes,
    }


def rollout(**changes: Any) -> dict[str, Any]:
    stable = {"revision": "9b1c22d0e4f3aa", "version": "1.0.0", "image": "demo:1"}
    return {
        "phase": "stable",
        "step": 1,
        "steps": 3,
        "weight": 0,
        "chaos": "none",
        "stable": stable,
        "canary": None,
    } | changes


def canary(minute: int, second: int = 0, chaos: str = "none", **changes: Any) -> dict[str, Any]:
    beside = rollout(phase="analyzing", weight=25, step=2, chaos=chaos, canary={"revision": "51d0aa7c51d0aa"})
    return cycle(minute, second, mode="canary", phase={"app": "analyzing"}, rollouts={"app": beside}, **changes)


def move(name: str, **more: Any) -> dict[str, Any]:
    return {"service": "app", "move": name, "reason": "", "release": None, **more}


def denial(observed: object = 620, action: str = "hold", rule: str = "max_p99_latency_ms") -> dict[str, Any]:
    broken = {"id": rule, "message": f"{rule} broken", "observed": observed, "limit": 500}
    return {
        "policy": "FAIL",
        "verdicts": [
            {"domain": "canary", "allow": False, "known": True, "action": action, "reason": "r", "violations": [broken]}
        ],
    }


def allowed() -> dict[str, Any]:
    verdict = {"domain": "canary", "allow": True, "known": True, "action": "promote", "reason": "", "violations": []}
    return {"policy": "PASS", "verdicts": [verdict]}


def word(name: str, **more: Any) -> dict[str, Any]:
    return {
        "word": name,
        "service": "app",
        "actor": "alice (uid 1000)",
        "reason": "",
        "detail": "",
        "outcome": "done",
    } | more


def chained(*records: dict[str, Any]) -> list[bytes]:
    lines, link = [], ORIGIN
    for record in records:
        line, link = seal(record, link)
        lines.append(line)
    return lines


def found(*records: dict[str, Any], since: str = "") -> Audit:
    return audit(chained(*records), since)


def events(report: Audit) -> list[str]:
    return [entry.what for entry in report.timeline]


def page(report: Audit) -> str:
    return "".join(markdown(report))


def rows(text: str) -> list[list[str]]:
    """The cells of all tables, as GFM splits them; every row of a table has as many cells as its heading."""
    tables: list[list[str]] = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        lines = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in block.splitlines()]
        assert {len(line) for line in lines} == {len(lines[0])}
        assert all(re.fullmatch(r" *:?-+:? *", mark) for mark in lines[1])
        tables += [[each.strip() for each in line] for line in lines[2:]]
    return tables


# --- the guide's lines -----------------------------------------------------------------------------------------------


def test_the_guides_snapshots_become_events_and_violations() -> None:
    report = audit(GUIDE.encode().splitlines(keepends=True))
    assert [(e.first, e.what) for e in report.timeline] == [("2026-05-06 12:00:30", "Mode switched to canary")]
    assert [(e.what, e.count, e.low, e.high, e.limit) for e in report.violations] == [
        ("Error rate exceeds 1% threshold", 1, 0.03, 0.03, 0.01),
        ("P99 latency exceeds 500ms", 2, 620, 900, 500),
    ]
    assert (report.records, report.odd, report.chain.lines) == (3, 0, 0)


def test_a_canary_at_the_very_beginning_was_switched_to() -> None:
    assert events(audit([GUIDE.encode().splitlines(keepends=True)[1]])) == ["Mode switched to canary"]


def test_a_snapshot_that_fails_within_the_guides_limits_is_still_a_violation() -> None:
    line = b'{"timestamp": "2026-05-06T12:00:00+02:00", "mode": "stable", "policy": "FAIL (opa down)"}\n'
    (entry,) = audit([line]).violations
    assert (entry.first, entry.what, entry.detail) == ("2026-05-06 10:00:00", "Policy failed", "FAIL (opa down)")


# --- what happened ---------------------------------------------------------------------------------------------------


def test_a_rollout_from_start_to_roll_back() -> None:
    report = found(
        cycle(0),
        canary(1, decisions=[move("start")]),
        canary(2, decisions=[move("hold")]),
        canary(3, decisions=[move("advance", reason="well")]),
        canary(4, decisions=[move("give_up", reason="P99 latency exceeds 500ms")]),
        cycle(5, decisions=[move("removed")]),
    )
    assert [(e.first[14:16], e.what, e.service, e.detail) for e in report.timeline] == [
        ("01", "Mode switched to canary", "app", ""),
        ("01", "Rollout started", "app", "9b1c22d0e4f3 → 51d0aa7c51d0"),
        ("03", "Canary advanced", "app", "step 2 of 3, 25 % of the traffic; well"),
        ("04", "Rolled back", "app", "51d0aa7c51d0; P99 latency exceeds 500ms"),
        ("05", "Mode switched to stable", "app", ""),
        ("05", "Canary removed", "app", ""),
    ]


def test_a_first_deployment_is_no_rollout() -> None:
    first = rollout(stable=None, canary={"revision": "9b1c22d0e4f3aa"}, phase="starting")
    report = found(
        cycle(0, mode=None, rollouts={"app": first}, decisions=[move("start", release="9b1c22d0e4f3 (stable)")])
    )
    assert [(e.what, e.detail) for e in report.timeline] == [("Deployment started", "9b1c22d0e4f3 (stable)")]


def test_words_that_only_ask_to_look_are_no_news() -> None:
    assert events(found(cycle(0, words=[word("lookagain")]))) == []


def test_a_promotion_that_policy_could_not_decide_is_a_violation() -> None:
    (entry,) = found(cycle(0, words=[word("promote", outcome="unknown: OPA is down")])).violations
    assert (entry.what, entry.detail) == ("Promotion not decided", "OPA is down; by alice (uid 1000)")


def test_two_services_have_modes_of_their_own() -> None:
    beside = rollout(canary={"revision": "5"})
    report = found(
        cycle(0, rollouts={"app": rollout(), "web": rollout()}),
        cycle(1, mode="canary", rollouts={"app": beside, "web": rollout()}),
        cycle(2, mode="canary", rollouts={"app": rollout(), "web": beside}),
    )
    assert [(e.what[17:], e.service) for e in report.timeline] == [
        ("canary", "app"),
        ("stable", "app"),
        ("canary", "web"),
    ]


def test_chaos_by_word_is_told_once_and_its_end_is_seen() -> None:
    report = found(
        canary(1, words=[word("chaos", detail="slow 3 s", reason="game day")]),
        canary(1, 5),
        canary(1, 10, chaos="slow"),
        canary(1, 15, chaos="slow"),
        canary(2, chaos="unknown"),
        canary(3),
    )
    assert [(e.first[11:], e.what, e.detail) for e in report.timeline][1:] == [
        ("12:01:00", "Chaos injected: slow 3 s", "by alice (uid 1000): game day"),
        ("12:03:00", "Chaos ended", ""),
    ]


def test_chaos_that_nobody_told_us_of_is_seen_all_the_same() -> None:
    report = found(canary(1), canary(2, chaos="error"), canary(3, chaos="error"), canary(4))
    assert events(report)[1:] == ["Chaos injected: error", "Chaos ended"]


def test_chaos_ends_with_its_canary() -> None:
    gone = rollout(chaos=None)
    report = found(canary(1), canary(2, chaos="slow"), canary(3, chaos=None), cycle(4, rollouts={"app": gone}))
    assert [(e.first[14:16], e.what, e.detail) for e in report.timeline if "haos" in e.what] == [
        ("02", "Chaos injected: slow", "not by a word to us"),
        ("04", "Chaos ended", "the canary is gone"),
    ]


def test_words_say_who_and_why() -> None:
    report = found(
        cycle(1, words=[word("pause", reason="lunch", detail="until 13:00"), word("deploy", service="")]),
        cycle(2, words=[word("rollback", outcome="failed: nothing to go back to")]),
    )
    assert [(e.what, e.service, e.detail) for e in report.timeline] == [
        ("Paused", "app", "until 13:00; by alice (uid 1000): lunch"),
        ("Deployment asked for", "", "by alice (uid 1000)"),
        ("Roll back failed", "app", "failed: nothing to go back to; by alice (uid 1000)"),
    ]


def test_records_without_words_name_the_operator_once() -> None:
    asked = cycle(1, trigger={"kind": "operator", "detail": "deploy", "actor": "ann"})
    del asked["words"]
    assert [(e.what, e.detail) for e in found(asked, {**asked, "timestamp": at(1, 5)}, cycle(2), asked).timeline] == [
        ("Deployment asked for", "by ann"),
        ("Deployment asked for", "by ann"),
    ]


def test_a_repair_at_rest_is_drift_and_after_a_new_manifest_it_is_that() -> None:
    done = [{"verb": "start", "target": "app-1", "cause": "it exited", "outcome": "ok", "detail": ""}]
    report = found(
        cycle(0),
        cycle(1, actions=done),
        cycle(1, 5, actions=done),
        cycle(2),
        cycle(3, revision="new", actions=[{**done[0], "verb": "write", "target": "nginx.conf"}]),
        cycle(4, revision="new"),
        canary(5, revision="new", actions=done, decisions=[move("start")]),
        cycle(5, 30, revision="new", actions=done, decisions=[move("removed")]),
        cycle(6, revision="new", actions=[{**done[0], "outcome": "failed"}, {**done[0], "verb": "wait for"}]),
    )
    told = [(e.what, e.count, e.detail) for e in report.timeline if e.what in ("Drift repaired", "Manifest applied")]
    assert told == [
        ("Drift repaired", 2, "start app-1: it exited"),
        ("Manifest applied", 1, "write nginx.conf: it exited"),
    ]


def test_what_the_first_start_writes_is_no_drift() -> None:
    written = [{"verb": "write", "target": "nginx.conf", "cause": "missing", "outcome": "ok", "detail": ""}]
    report = found(
        cycle(0, phase={}, rollouts={}, actions=written),
        cycle(1, phase={"app": "starting"}, actions=written, decisions=[move("start")]),
        cycle(2),
        cycle(3, actions=written),
    )
    told = [(e.what, e.detail) for e in report.timeline if "nginx.conf" in e.detail]
    assert told == [("Started", "write nginx.conf: missing"), ("Drift repaired", "write nginx.conf: missing")]


def test_trouble_is_one_row_for_as_long_as_it_lasts() -> None:
    down = {"errors": ["Docker does not answer after 31 ms"]}
    again = {"errors": ["Docker does not answer after 12 ms"]}
    report = found(cycle(0, **down), cycle(1, **again), cycle(2, **down), cycle(3), cycle(4, **down))
    assert [(e.first[14:16], e.last[14:16], e.count) for e in report.timeline] == [("00", "02", 3), ("04", "04", 1)]


def test_damage_to_the_log_is_in_the_report() -> None:
    report = found(cycle(0), {"kind": "history_tampered", "timestamp": at(1), "reason": "cut off by another"})
    assert [(e.what, e.detail) for e in report.timeline] == [("History changed by another", "cut off by another")]


# --- which rules were broken -----------------------------------------------------------------------------------------


def test_the_same_denial_in_a_row_is_one_span_with_its_range() -> None:
    report = found(*(canary(3, second, **denial(600 + second)) for second in range(0, 60, 5)), canary(4, **allowed()))
    (entry,) = report.violations
    assert (entry.first[11:], entry.last[11:], entry.count) == ("12:03:00", "12:03:55", 12)
    assert (entry.low, entry.high, entry.limit, entry.service) == (600, 655, 500, "app")


def test_a_denial_after_an_answer_that_allowed_is_a_new_span() -> None:
    report = found(canary(1, **denial()), canary(2, **allowed()), canary(3, **denial()))
    assert [entry.first[14:16] for entry in report.violations] == ["01", "03"]


def test_a_denial_after_a_long_silence_is_a_new_span() -> None:
    assert len(found(canary(1, **denial()), canary(14, **denial()), canary(31, **denial())).violations) == 2


def test_merged_cycles_carry_a_denial_on() -> None:
    idle = {"kind": "idle", "mode": "canary", "policy": "FAIL", "first": at(1), "last": at(9), "count": 60}
    report = found(canary(1, **denial()), {**idle, "timestamp": at(9)}, {**idle, "timestamp": at(20)})
    (entry,) = report.violations
    assert (entry.count, entry.last[11:16]) == (121, "12:20")


def test_a_roll_back_verdict_is_told_from_a_denial() -> None:
    report = found(canary(1, **denial()), canary(2, **denial(action="rollback")))
    assert [entry.detail for entry in report.violations] == ["canary: denied", "canary: roll back"]


def test_an_answer_that_was_not_to_be_had_is_a_violation_of_its_own() -> None:
    verdict = {"domain": "infrastructure", "allow": False, "known": False, "reason": "OPA is down", "violations": []}
    (entry,) = found(cycle(1, policy="FAIL", verdicts=[verdict])).violations
    assert (entry.what, entry.detail) == ("OPA is down", "infrastructure: not known")


def test_a_promotion_that_was_denied_is_a_violation_and_no_event() -> None:
    report = found(cycle(1, words=[word("promote", outcome="denied: P99 latency exceeds 500ms")]))
    assert events(report) == []
    assert [(e.what, e.detail) for e in report.violations] == [
        ("Promotion denied", "P99 latency exceeds 500ms; by alice (uid 1000)")
    ]


def test_waiting_for_evidence_is_counted_and_is_no_violation() -> None:
    waits = denial(3, rule="min_requests")
    report = found(*(canary(1, second, **waits) for second in range(9)), canary(2, **denial()))
    assert (report.waited, len(report.violations)) == (9, 1)
    assert "9 cycles, which is no violation" in page(report)


# --- how it is read --------------------------------------------------------------------------------------------------


def test_since_leaves_out_what_was_before_but_knows_it() -> None:
    records = [canary(1), canary(5, **denial()), cycle(6, decisions=[move("removed")])]
    report = found(*records, since="2026-05-06T12:05:30")
    assert (report.records, report.first, report.violations) == (1, "2026-05-06 12:06:00", ())
    assert events(report) == ["Mode switched to stable", "Canary removed"]


def test_lines_that_say_the_same_need_not_be_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = chained(*(canary(1 + n // 12, n % 12 * 5, number=n, **denial(600 + n)) for n in range(100)))
    slowly = audit(lines)
    parsed: list[bytes] = []
    real = audit_module._parsed
    monkeypatch.setattr(audit_module, "_parsed", lambda line: parsed.append(line) or real(line))
    assert audit(lines) == slowly
    assert len(parsed) == 2, "the first one is news: the mode was switched"
    assert (slowly.violations[0].count, slowly.violations[0].low, slowly.violations[0].high) == (100, 600, 699)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"not json\n", "not JSON"),
        (b'{"timestamp": "2026-05-06T12:00:00Z", "mo', "not finished"),
        (b"[1]\n", "not a JSON object"),
        (b'{"mode": "canary"}\n', "no time in it"),
        (b'{"timestamp": "soon", "mode": "canary"}\n', "no time in it"),
        (b'{"timestamp": "2026-05-06T12:00:00Z"}\n', "nothing that we know in it"),
        (b'{"timestamp": "2026-05-06T12:00:00Z", "kind": ["cycle"]}\n', "of a kind that we do not know"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[" * 100_000 + b"\n", "not JSON"),
        (b"9" * 10_000 + b"\n", "not JSON"),
    ],
)
def test_an_odd_line_is_counted_with_its_place(line: bytes, why: str) -> None:
    report = audit([*chained(cycle(1)), line])
    assert (report.records, report.odd, report.odd_lines) == (1, 1, ((2, why),))
    assert f"(line 2: {why})" in page(report)


def test_an_edited_record_breaks_the_chain_and_is_read_all_the_same() -> None:
    lines = chained(cycle(1), canary(2, decisions=[move("advance")]), cycle(3))
    lines[1] = lines[1].replace(b"advance", b"promote")
    report = audit(lines)
    assert report.chain.breaks == 1
    assert "**broken once** in 3 sealed records, first: record 2 is not what was written" in page(report)
    assert "Promoted" in events(report)


def test_what_is_kept_has_a_limit_that_the_report_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_ledger, "MAX_ENTRIES", 3)
    report = found(*(canary(n, decisions=[move("advance", reason=str(n))]) for n in range(5)))
    assert [entry.detail[-1] for entry in report.timeline] == ["2", "3", "4"]
    assert "the 3 oldest rows" in page(report), "two moves and the mode"


# --- the page --------------------------------------------------------------------------------------------------------

HOSTILE = (
    "a|b`c`\n| --- |\n<script>*x*</script> [l](http://x) ![i](y) \\| &#124; \x1b[2J\u202e @me www.x.y _z_ ~~s~~ $m$"
)


@pytest.mark.control("K18")
def test_no_value_can_break_the_table() -> None:
    report = found(
        cycle(0, decisions=[move(HOSTILE, reason=HOSTILE, service=HOSTILE)], errors=[HOSTILE]),
        canary(1, words=[word(HOSTILE, actor=HOSTILE)], **denial(HOSTILE, rule=HOSTILE)),
        {"kind": "genesis", "timestamp": at(2), "project": HOSTILE},
    )
    text = page(report)
    assert len(rows(text)) == len(report.timeline) + len(report.violations)
    assert re.findall("^#.*", text, re.MULTILINE)[1:] == ["## Timeline", "## Violations"]
    for active in ("<", "`", "](", "\\", "\x1b", "\u202e", "http://", "www.", "~~", " _z", "$"):
        assert active not in text


def test_a_cell_shows_the_text_as_it_is() -> None:
    assert cell("app_1: 5 < 7 | it's #1") == "app_1: 5 &#60; 7 &#124; it's #1"
    assert len(cell("x" * 10_000)) == 400


def test_an_empty_history_is_a_whole_report() -> None:
    assert page(audit([])) == (
        "# Audit report\n\n- **Covers:** nothing\n- **Records:** 0\n- **Lines not understood:** 0\n"
        "- **Chain:** none, no record is sealed\n\n## Timeline\n\nNothing happened.\n\n## Violations\n\nNone.\n"
    )


def test_the_page_of_the_guides_history() -> None:
    text = page(audit(GUIDE.encode().splitlines(keepends=True)))
    assert rows(text) == [
        ["2026-05-06 12:00:30", "Mode switched to canary", "-", "-"],
        ["2026-05-06 12:00:30", "Error rate exceeds 1% threshold", "-", "3%", "1%", "1", "FAIL"],
        ["2026-05-06 12:00:30 - 12:01:00", "P99 latency exceeds 500ms", "-", "620ms - 900ms", "500ms", "2", "FAIL"],
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=8) | st.just(HOSTILE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
TWISTED = st.dictionaries(
    st.sampled_from([*sorted(cycle(0)), "count", "first", "last", "project"]),
    JSON
    | st.lists(st.dictionaries(st.sampled_from(sorted({**denial()["verdicts"][0], **move(""), **word("")})), JSON)),
    max_size=6,
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([None, "cycle", "idle", "genesis", "storage_recovered"]), TWISTED), max_size=5)
)
def test_whatever_is_in_the_records_a_valid_page_comes_out(twisted: list[tuple[str | None, dict[str, Any]]]) -> None:
    records = [
        {"timestamp": at(1), "mode": "stable", **each, **({"kind": kind} if kind else {})} for kind, each in twisted
    ]
    lines = [json.dumps(record).encode() + b"\n" for record in records]
    report = audit(lines)
    assert report.records + report.odd == len(lines)
    assert len(rows(page(report))) == len(report.timeline) + len(report.violations)
    assert page(audit(lines)) == page(report)
    json.dumps(as_json(report), allow_nan=False)


# ---------------------------------------------------------------- a repository


def commit(number: int, **changes: Any) -> dict[str, Any]:
    given = {"id": f"{number}" * 40, "author": "Ann <ann@example.com>", "subject": f"change {number} | more"}
    return {**given, "when": "2026-05-06T11:00:00Z", "signer": None, "source": "https://git/x main", **changes}


def test_each_commit_is_an_event_once_with_who_made_and_signed_it() -> None:
    report = found(
        cycle(0, commit=commit(1)),
        cycle(1, commit=commit(1)),
        cycle(2, commit=commit(2, signer="ann@example.com")),
        cycle(3, commit=None),
        cycle(4, commit=commit(2)),
    )
    assert [(entry.what, entry.detail) for entry in report.timeline] == [
        ("Commit 111111111111 in force", "change 1 | more (Ann <ann@example.com>)"),
        ("Commit 222222222222 in force", "change 2 | more (Ann <ann@example.com>, signed by ann@example.com)"),
    ]
    assert "change 1 | more" not in page(report), "a subject must not make cells"


def test_a_source_that_cannot_be_followed_is_one_event_while_it_lasts() -> None:
    words = ["manifest.yaml: 3333 is not signed"]
    report = found(cycle(0, trouble=words), cycle(1, trouble=words), cycle(2), cycle(3, trouble=words))
    assert [(entry.what, entry.count) for entry in report.timeline] == [
        ("Source not followed", 2),
        ("Source not followed", 1),
    ]


def test_suspending_and_accepting_are_told_as_done() -> None:
    words = [word("suspend"), word("unsuspend"), word("accept", detail="3333 by hand"), word("sync")]
    assert events(found(cycle(0, words=words))) == ["Suspended", "Suspension ended", "Refused commit accepted"]
