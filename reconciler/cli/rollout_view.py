"""A rollout as lines of text, for `status` and for `why`: pure."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from reconciler.cli.figures import age, count, is_number, needed, number, odds, seconds_of, share
from reconciler.cli.terminal import Paint, ago, table, text_of

if TYPE_CHECKING:
    from reconciler.core.evidence.limits import Limits

PHASES = {
    "starting": "starting the canary",
    "analyzing": "analyzing",
    "suspended": "suspended, the canary gets no requests",
    "promoting": "promoting",
    "turning": "promoting: traffic moves over",
    "parking": "promoting: the old containers stop, and are kept",
    "renewing": "promoting: new stable containers start",
    "switching": "promoting: traffic moves to the new stable containers",
    "settling": "promoted: the canary's containers go",
    "watching": "promoted, and watched",
    "halted": "halted, an operator must decide",
    "returning": "going back: the old containers start",
    "restoring": "going back: traffic moves",
    "rolling_back": "rolling back",
    "updating": "replacing replica by replica",
}
CALM = frozenset({"analyzing", "starting", "updating"})
BAD = frozenset({"halted", "returning", "restoring", "rolling_back"})
UNCOUNTED = "what is done under chaos counts for no proof"
LABEL = 10
BAR = 30


def phase_words(phase: object) -> str:
    """A phase for people who have read nothing."""
    return PHASES.get(text_of(phase), text_of(phase).replace("_", " "))


def rollout_lines(
    service: Any, now: float, paint: Paint, cells: int | None = None, is_brief: bool = False
) -> list[str]:
    """The block of one service under way: where it is, both tracks side by side, what policy says, what is next.

    Brief leaves out the window, whose numbers are the guide's three lines, unless it is all there is.
    """
    rollout = service["rollout"]
    leaves_out = is_brief and rollout.get("phase") != "watching"
    bars = [("traffic", traffic_bar(rollout, paint)), ("step", step_bar(rollout, paint))]
    said = [
        ("window", "" if leaves_out or not rollout.get("evidence") else _window(rollout), ""),
        ("policy", policy_words(rollout), meaning_of(rollout)),
        ("proof", _proof(rollout), ""),
        ("paused", paused_words(rollout, now), "warned"),
        ("next", text_of(rollout.get("next")), ""),
    ]
    return [
        title(service, rollout, paint),
        f"  {where(rollout, now, paint)}",
        *(f"  {paint.dim(label.ljust(LABEL))}{bar}" for label, bar in bars if bar),
        *(f"  {line}" for line in tracks(rollout, paint)),
        *(line for label, text, meaning in said if text for line in _labelled(label, text, meaning, paint, cells)),
    ]


def title(service: Any, rollout: Any, paint: Paint) -> str:
    stable, canary = rollout.get("stable") or {}, rollout.get("canary") or {}
    ends = [release_words(stable), release_words(canary)]
    arrow = " → ".join(end for end in dict.fromkeys(ends) if end)
    beside = " (a canary of the same revision)" if ends[0] and ends[0] == ends[1] else ""
    return f"{paint.bold(text_of(service['name']))}  {arrow}{beside}"


def release_words(track: Any) -> str:
    revision, version = text_of(track.get("revision"))[:12], text_of(track.get("version"))
    return f"{revision} ({version})" if revision and version else revision


def where(rollout: Any, now: float, paint: Paint) -> str:
    phase = text_of(rollout.get("phase"))
    meaning = "poor" if phase in BAD else "warned" if phase == "suspended" else "good" if phase not in CALM else ""
    is_first = phase == "starting" and not rollout.get("stable")
    parts = [paint("warned", f"chaos: {rollout['chaos']}")] if is_chaos(rollout) else []
    parts.append(paint(meaning, "starting for the first time" if is_first else phase_words(phase)))
    if phase == "analyzing" and rollout.get("steps"):
        parts.append(f"step {text_of(rollout.get('step'))} of {text_of(rollout['steps'])}")
    if since := age(rollout.get("since"), now):
        parts.append(f"for {since}")
    if phase == "watching" and (left := _watch_left(rollout, now)):
        parts.append(f"{left} to go")
    if rollout.get("held"):
        parts.append("kept by `mode: canary`")
    return ", ".join(parts)


def _watch_left(rollout: Any, now: float) -> str:
    since, whole = seconds_of(rollout.get("since")), rollout.get("watch_seconds")
    left = since + whole - now if since is not None and is_number(whole) else 0.0
    return ago(left) if left >= 1 else ""


def traffic_bar(rollout: Any, paint: Paint) -> str:
    weight = rollout.get("weight")
    has_both = rollout.get("canary") and rollout.get("stable")
    if not is_number(weight) or not has_both or rollout.get("phase") == "updating":
        return ""
    seen = part(rollout, "evidence", "traffic").get("observed_share")
    is_seen = is_number(seen) and rollout.get("phase") == "analyzing" and not is_uncounted(rollout)
    observed = f", {share(seen)} seen" if is_seen else ""
    return f"{_bar(weight / 100, paint)}  {number(weight)}% to the canary{observed}"


def step_bar(rollout: Any, paint: Paint) -> str:
    done, whole = rollout.get("step_seconds"), rollout.get("step_duration")
    if rollout.get("phase") != "analyzing" or not is_number(done) or not is_number(whole) or whole <= 0:
        return ""
    return f"{_bar(done / whole, paint)}  {ago(done)} of at least {ago(whole)}"


def _bar(part: float, paint: Paint) -> str:
    full = round(min(max(part, 0.0), 1.0) * BAR)
    return f"{'█' * full}{paint.dim('░' * (BAR - full))}"


def tracks(rollout: Any, paint: Paint) -> list[str]:
    """Canary and stable over all that counts for the proof, in one table."""
    errors, latency = part(rollout, "evidence", "errors"), part(rollout, "evidence", "latency")
    seconds = part(rollout, "evidence").get("evidence_s")
    limit = latency.get("threshold_ms", part(rollout, "limits").get("max_p99_latency_ms"))
    rows = [["", "READY", "REQUESTS", "REQ/S", "ERRORS", f"OVER {number(limit, 'ms')}"]]
    for name, requests, prefix in (("canary", "requests", ""), ("stable", "baseline_requests", "baseline_")):
        track = rollout.get(name)
        if track:
            seen = errors.get(requests)
            rate = seen / seconds if is_number(seen) and is_number(seconds) and seconds > 0 else None
            ready = f"{text_of(track.get('ready'))}/{text_of(track.get('wanted'))}"
            errored, slow = errors.get(f"{prefix}rate"), latency.get(f"{prefix}rate")
            rows.append([name.ljust(LABEL - 2), ready, count(seen), number(rate), share(errored), share(slow)])
    if not is_counted(rollout):
        rows = [row[:2] for row in rows]
    if len(rows) == 1:
        return []
    first, *others = table(rows)
    counted = f"  {'before the chaos' if is_uncounted(rollout) else 'since the warm-up'}" if is_counted(rollout) else ""
    return [paint.dim(f"{first}{counted}"), *others]


def _window(rollout: Any) -> str:
    window, limits = part(rollout, "window"), part(rollout, "limits")
    if why := text_of(window.get("why_unknown")):
        return why
    if not window.get("requests"):
        return ""
    seconds = window.get("seconds")
    of = "canary, " if rollout.get("canary") and rollout.get("phase") != "watching" else ""
    over = f"last {ago(seconds)}: " if is_number(seconds) else ""
    return (
        f"{of}{over}{count(window['requests'])} requests, "
        f"errors {share(window.get('error_rate'))} (≤{share(limits.get('max_error_rate'))}), "
        f"P99 {number(window.get('p99_ms'), 'ms')} (≤{number(limits.get('max_p99_latency_ms'), 'ms')})"
    )


def policy_words(rollout: Any) -> str:
    """What policy last said; empty where it was not asked."""
    policy = part(rollout, "policy")
    status, reason = text_of(policy.get("status")), text_of(policy.get("reason"))
    if status == "UNKNOWN" and not policy.get("action"):
        return ""
    if status == "PASS" and rollout.get("phase") == "watching":
        reason = "nothing speaks against it"
    return f"{status}: {reason}" if status and reason else status


def meaning_of(rollout: Any) -> str:
    return {"PASS": "good", "FAIL": "poor"}.get(text_of(part(rollout, "policy").get("status")), "warned")


def _proof(rollout: Any) -> str:
    """`errors 51:1, latency 7.3:1; next step needs 1:1, promotion 20:1`: that both are within their limits."""
    if rollout.get("phase") == "watching":
        return ""
    if is_uncounted(rollout):
        return UNCOUNTED
    parts = []
    for name in ("errors", "latency"):
        e = part(rollout, "evidence", name).get("e_below_limit")
        if is_number(e):
            parts.append(f"{name} {odds(e) if e >= 1 else 'none yet'}")
    if not parts:
        return ""
    limits, needs = limits_in(rollout), needs_words(rollout)
    if is_last_step(rollout):
        return f"{', '.join(parts)}; promotion needs {needed(limits.promote_e)}{f': {needs}' if needs else ''}"
    return f"{', '.join(parts)}; next step needs {needed(limits.advance_e)}, promotion {needed(limits.promote_e)}"


def needs_words(rollout: Any) -> str:
    """What is missing at this rate; empty where nothing is, or where nobody can say."""
    needs = part(rollout, "evidence", "needs")
    requests, seconds = needs.get("requests"), needs.get("seconds")
    wait = ago(seconds) if is_number(seconds) and seconds > 0 else ""
    if not is_number(requests):
        return ""
    return f"{count(requests)} more requests{f' ({wait})' if wait else ''}" if requests else wait and f"{wait} more"


def paused_words(rollout: Any, now: float) -> str:
    paused = part(rollout, "paused")
    if not paused:
        return ""
    until = seconds_of(paused.get("until"))
    parts = [f"by {text_of(paused.get('actor'))}" if paused.get("actor") else "by an operator"]
    parts.append(f"for another {ago(until - now)}" if until is not None else "until it is resumed")
    reason = text_of(paused.get("reason"))
    return f"{', '.join(parts)}{f': {reason}' if reason else ''}"


def _labelled(label: str, text: str, meaning: str, paint: Paint, cells: int | None) -> list[str]:
    """`  next     …`, wrapped under itself where the terminal is narrow; its first word carries the meaning."""
    room = max(20, cells - LABEL - 2) if cells else len(text)
    first, *others = textwrap.wrap(text, room)
    word, space, rest = first.partition(" ")
    start = f"  {paint.dim(label.ljust(LABEL))}{paint(meaning, word)}{space}{rest}"
    return [start, *(" " * (LABEL + 2) + line for line in others)]


# --- pieces ----------------------------------------------------------------------------------------------------------


def is_chaos(rollout: Any) -> bool:
    return rollout.get("chaos") in ("slow", "error")


def is_uncounted(rollout: Any) -> bool:
    """A canary that is kept on purpose is not weighed while it is made to fail on purpose."""
    return bool(rollout.get("held")) and is_chaos(rollout)


def is_counted(rollout: Any) -> bool:
    """There are requests in the whole run: since the warm-up, and not under chaos; a watch counts nothing."""
    errors = part(rollout, "evidence", "errors")
    is_any = bool(errors.get("requests") or errors.get("baseline_requests"))
    return is_any and rollout.get("phase") != "watching"


def is_last_step(rollout: Any) -> bool:
    step, steps = rollout.get("step"), rollout.get("steps")
    return is_number(step) and is_number(steps) and step >= steps


def part(value: Any, *names: str) -> Any:
    """A member of a member; an empty mapping where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def limits_in(rollout: Any) -> Limits:
    """The limits that the answer names; where it leaves one out, its default."""
    from reconciler.core.evidence.limits import limits_of

    return limits_of({name: value for name, value in part(rollout, "limits").items() if is_number(value)})
