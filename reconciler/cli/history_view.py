"""A record of the history as one line for people; `formats.cycle_record` says what cycles hold."""

from __future__ import annotations

from typing import Any

from reconciler.cli.figures import number, share
from reconciler.cli.terminal import Paint, cut, text_of
from reconciler.formats.audit_words import MOVES, NO_NEWS, is_waiting

QUIET = frozenset({"idle", "intent", "genesis", "segment_start", "checkpoint"})
ALARMING = frozenset({"history_tampered", "history_corrupt", "history_kept", "odd"})
UNDER_WAY = frozenset({"pending", "skipped"})


def record_line(record: Any, paint: Paint, cells: int | None = None) -> str:
    """`2026-05-06 12:00:00  cycle 812  manifest (manifest.yaml)  create app-1`, whatever the record holds."""
    kind = text_of(record.get("kind")) or "record"
    number = f" {text_of(record['number'])}" if record.get("number") else ""
    parts = [_moment(record.get("timestamp")), f"{kind.replace('_', ' ')}{number}", *_about(kind, record)]
    if record.get("odd"):
        parts.append(f"[{text_of(record['odd'])}]")
    line = "  ".join(part for part in parts if part)
    return paint(_meaning(kind, record), line if cells is None else cut(line, cells))


def _meaning(kind: str, record: Any) -> str:
    if record.get("odd") or kind in ALARMING or record.get("errors"):
        return "poor"
    return "dim" if kind in QUIET else "warned" if record.get("policy") == "FAIL" else ""


def _moment(timestamp: object) -> str:
    return cut(text_of(timestamp)[:19].replace("T", " "), 19) if timestamp else "-" * 19


def _about(kind: str, record: Any) -> list[str]:
    """The rest of the line: why, what was decided and done, how it ended."""
    if kind == "idle":
        return [f"nothing to do, {_times(record.get('count'))}", _measured(record)]
    return [
        _trigger(record.get("trigger")),
        _commit(record),
        _each(record.get("words"), _word),
        _each(record.get("problems"), str),
        _each(record.get("trouble"), str),
        _each(record.get("verdicts"), _denial),
        _each(record.get("decisions"), _decision),
        _each(record.get("actions"), _action),
        _each(record.get("plan"), str),
        _each(record.get("notes"), str),
        _each(record.get("errors"), str),
        text_of(record.get("reason")),
        text_of(record.get("unsigned")),
        text_of(record.get("raw")),
        _measured(record),
    ]


def _commit(record: Any) -> str:
    """The commit that a cycle was woken by, or acted for."""
    commit, trigger = record.get("commit"), record.get("trigger")
    is_news = isinstance(trigger, dict) and trigger.get("kind") == "git"
    if not isinstance(commit, dict) or not (is_news or record.get("actions")):
        return ""
    return text_of(f"commit {text_of(commit.get('id'))[:12]} {text_of(commit.get('subject'))}")


def _each(entries: Any, words: Any) -> str:
    """What `words` makes of each entry that is worth words."""
    if not isinstance(entries, list):
        return ""
    return text_of("; ".join(said for entry in entries if (said := words(entry))))


def _trigger(trigger: Any) -> str:
    if not isinstance(trigger, dict):
        return text_of(trigger)
    detail = f" ({trigger['detail']})" if trigger.get("detail") else ""
    actor = f" by {trigger['actor']}" if trigger.get("actor") else ""
    reason = f": {trigger['reason']}" if trigger.get("reason") else ""
    return text_of(f"{trigger.get('kind', '')}{detail}{actor}{reason}")


def _word(word: Any) -> str:
    """`alice (uid 1000): promote app: reason [denied: P99 latency exceeds 500ms]`."""
    if not isinstance(word, dict) or text_of(word.get("word")) in NO_NEWS:
        return ""
    said = " ".join(text_of(word[name]) for name in ("word", "service", "detail") if word.get(name))
    outcome = text_of(word.get("outcome") or "done")
    parts = [text_of(word.get("actor")), said, text_of(word.get("reason"))]
    return ": ".join(part for part in parts if part) + ("" if outcome == "done" else f" [{outcome}]")


def _denial(verdict: Any) -> str:
    """What policy would not allow; a canary that only waits for evidence is held."""
    if not isinstance(verdict, dict) or verdict.get("allow"):
        return ""
    word = "not known" if not verdict.get("known", True) else "holds" if is_waiting(verdict) else "DENIED"
    return f"{verdict.get('domain')}: {word}: {verdict.get('reason')}"


def _decision(decision: Any) -> str:
    """`app: canary advanced: step 2 of 3`, whatever was decided but to stay."""
    if not isinstance(decision, dict) or decision.get("move") in (None, "hold"):
        return ""
    move = text_of(decision["move"])
    named = MOVES.get(move, move)
    reason = f": {decision['reason']}" if decision.get("reason") else ""
    return f"{decision.get('service')}: {named[:1].lower()}{named[1:]}{reason}"


def _action(action: Any) -> str:
    if not isinstance(action, dict):
        return str(action)
    outcome = text_of(action.get("outcome"))
    words = f"{action.get('verb')} {action.get('target')}"
    if outcome in UNDER_WAY:
        return ""
    return words if outcome == "ok" else f"{words} [{outcome}: {action.get('detail')}]"


def _measured(record: Any) -> str:
    units = (
        ("req_per_sec", number, " req/s"),
        ("p99_latency", number, " ms p99"),
        ("error_rate", share, " errors"),
    )
    return ", ".join(f"{said(record[name])}{unit}" for name, said, unit in units if record.get(name) is not None)


def _times(count: object) -> str:
    return "once" if count == 1 else f"{text_of(count)} times"
