"""The answer to `why` as lines of text: pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from reconciler.cli.figures import age, count, is_number, needed, number, odds, share
from reconciler.cli.hints import REASON
from reconciler.cli.rollout_view import (
    LABEL,
    UNCOUNTED,
    is_last_step,
    is_uncounted,
    limits_in,
    meaning_of,
    needs_words,
    part,
    paused_words,
    policy_words,
    release_words,
    step_bar,
    title,
    tracks,
    traffic_bar,
    where,
)
from reconciler.cli.terminal import Paint, ago, text_of
from reconciler.formats.audit_report import with_unit
from reconciler.formats.audit_words import number_in

if TYPE_CHECKING:
    from reconciler.core.evidence.limits import Limits


def why_lines(service: Any, now: float, paint: Paint, program: str = "swiftdeploy") -> list[str]:
    """The whole answer to "why is it where it is", for people who have the time to read it."""
    rollout = service.get("rollout")
    sections = [_at_rest(service, now, paint)] if not rollout else [*_under_way(service, rollout, now, paint)]
    sections.append(_rebuilt(service, paint))
    sections.append(_commit(service, paint))
    sections.append(_given_up(service, paint, program))
    return [line for section in sections if section for line in ("", *section)][1:]


def _commit(service: Any, paint: Paint) -> list[str]:
    """Which commit asks for all this."""
    commit = service.get("commit")
    if not commit:
        return []
    signed = f", signed by {text_of(commit['signer'])}" if commit.get("signer") else ""
    said = f"{text_of(commit['id'])[:12]} {text_of(commit['subject'])} ({text_of(commit['author'])}{signed})"
    return [f"{paint.bold('Commit')}: {said}"]


def _at_rest(service: Any, now: float, paint: Paint) -> list[str]:
    name, since = paint.bold(text_of(service["name"])), age(service.get("since"), now)
    if service.get("phase") == "absent":
        first = f"{name} is not deployed."
    else:
        ready = f"{text_of(service.get('ready'))} of {text_of(service.get('wanted'))} ready"
        image = f", {text_of(service['image'])}" if service.get("image") else ""
        first = f"{name} is at rest{f' for {since}' if since else ''}: {release_words(service)}{image}, {ready}."
    reason = text_of(service.get("reason"))
    problems = [f"  {text_of(problem)}" for problem in service.get("problems") or ()]
    if problems:
        return [first, paint("poor", "The manifest is wrong, so it stays there:"), *problems]
    return [first, f"Why it stays there: {reason}" if reason else "The manifest asks for nothing else."]


def _rebuilt(service: Any, paint: Paint) -> list[str]:
    """That nobody knows what was before."""
    if not service.get("is_rebuilt"):
        return []
    lost = "The state directory's record of this rollout was lost; where it is was rebuilt from what runs."
    return [paint("warned", lost), "What was tried before, and what was given up, is forgotten."]


def unwatched_lines(service: Any, paint: Paint, program: str, daemon: str) -> list[str]:
    """What to run where no daemon does, `daemon` being the command that starts one; empty in a daemon's answer."""
    if service.get("daemon", True):
        return []
    once = f"`{program} deploy` starts it" if service.get("phase") == "absent" else f"`{program} reconcile` looks once"
    return [
        "",
        paint("warned", "No daemon runs: nothing is watched, repaired or moved on by itself."),
        f"`{daemon}` does all that from now on; {once}.",
    ]


def _under_way(service: Any, rollout: Any, now: float, paint: Paint) -> Iterator[list[str]]:
    reason = text_of(rollout.get("reason"))
    if reason == text_of(part(rollout, "policy").get("reason")):
        reason = ""
    yield [title(service, rollout, paint), where(rollout, now, paint), *([f"Why: {reason}"] if reason else [])]
    bars = [("traffic", traffic_bar(rollout, paint)), ("step", step_bar(rollout, paint))]
    yield [f"{paint.dim(label.ljust(LABEL))}{bar}" for label, bar in bars if bar]
    yield tracks(rollout, paint)
    yield _metric("Errors", "errors", rollout, paint)
    yield _metric("Latency", "latency", rollout, paint)
    yield _quality(rollout, paint)
    yield _verdict(rollout, paint)
    ahead = [f"{paint.bold('Next')}: {text_of(rollout['next'])}"] if rollout.get("next") else []
    if paused := paused_words(rollout, now):
        ahead.append(paint("warned", f"Paused {paused}"))
    is_on_its_way = rollout.get("phase") == "analyzing" and not (is_uncounted(rollout) or rollout.get("blocked"))
    if is_on_its_way and (needs := needs_words(rollout)):
        faster = "" if is_last_step(rollout) else ", and later steps are faster"
        ahead.append(f"Until a promotion is proven: {needs} at this rate{faster}")
    yield ahead


def _metric(title: str, name: str, rollout: Any, paint: Paint) -> list[str]:
    """One metric: the last window, the whole run with its 95 % bounds, and the evidence in words."""
    if not rollout.get("evidence"):
        return []
    window, limits, metric = part(rollout, "window"), limits_in(rollout), part(rollout, "evidence", name)
    is_latency = name == "latency"
    seen = number(window.get("p99_ms"), "ms") if is_latency else share(window.get("error_rate"))
    limit = number(limits.max_p99_latency_ms, "ms") if is_latency else share(limits.max_error_rate)
    over = ago(window["seconds"]) if is_number(window.get("seconds")) else "window"
    unknown = text_of(window.get("why_unknown"))
    now_said = f"not known: {unknown}" if seen == "-" and unknown else f"{'P99 ' if is_latency else ''}{seen}"
    said = [(f"last {over}", f"{now_said}, limit {limit}, {count(window.get('requests'))} requests")]
    if is_uncounted(rollout):
        said.append(("evidence", UNCOUNTED))
    elif metric.get("requests"):
        said += _run(metric, is_latency, limit)
        said += [("evidence", line) for line in _e_values(metric, is_latency, limits)]
    return [paint.bold(title), *(f"  {paint.dim(label.ljust(LABEL))}{line}" for label, line in said)]


def _run(metric: Any, is_latency: bool, limit: str) -> Iterator[tuple[str, str]]:
    bounds = f"95 %: {share(metric.get('rate_low'))} - {share(metric.get('rate_high'))}"
    what = f"slower than {limit}" if is_latency else "failed"
    yield "whole run", f"{share(metric.get('rate'))} of {count(metric['requests'])} {what} ({bounds})"
    if metric.get("baseline_requests"):
        yield "stable", f"{share(metric.get('baseline_rate'))} of {count(metric['baseline_requests'])}"
    low, high = metric.get("p99_low_ms"), metric.get("p99_high_ms")
    if is_latency and high:
        yield "P99", f"between {number(low, 'ms')} and {number(high, 'ms')}, 95 %"
    elif is_latency and low:
        yield "P99", f"over {number(low, 'ms')}, 95 %"


def _e_values(metric: Any, is_latency: bool, limits: Limits) -> Iterator[str]:
    rate = "the share of slower answers" if is_latency else "the error rate"
    allowed = 0.01 if is_latency else limits.tested_error_rate
    below, above, worse = (metric.get(name) for name in ("e_below_limit", "e_above_limit", "e_worse"))
    if is_number(below):
        proven = share(min(allowed * (1 + limits.margin), 0.99))
        said = f"{odds(below)} that" if below >= 1 else "none yet that"
        yield f"{said} {rate} is under {proven}, a promotion needs {needed(limits.promote_e)}"
    if is_number(above) and above >= 1:
        yield f"{odds(above)} that it is over {share(allowed)}, a roll back needs {needed(limits.rollback_e)}"
    if is_number(worse) and worse >= limits.caution_e:
        yield f"{odds(worse)} that it is worse than stable's"


def _quality(rollout: Any, paint: Paint) -> list[str]:
    quality = part(rollout, "evidence", "data_quality")
    lines = []
    if quality and not quality.get("ok", True):
        lines.append(paint("warned", f"The counts cannot be relied on: {text_of(quality.get('why'))}"))
    if quality.get("canary_restarts"):
        lines.append(paint("warned", f"The canary restarted: {count(quality['canary_restarts'])}"))
    mismatch, split = part(rollout, "evidence", "traffic").get("e_mismatch"), part(rollout, "evidence", "traffic")
    if is_number(mismatch) and mismatch >= 10:
        meant, seen = share(split.get("expected_share")), share(split.get("observed_share"))
        lines.append(
            paint("warned", f"{odds(mismatch)} that traffic is not split as meant: {seen} seen, {meant} meant")
        )
    return lines


def _verdict(rollout: Any, paint: Paint) -> list[str]:
    policy = part(rollout, "policy")
    if not policy_words(rollout):
        return []
    action = {"rollback": "roll back", "promote": "one step further", "hold": "hold"}.get(
        text_of(policy.get("action")), ""
    )
    lines = [
        f"{paint.bold('Policy')}{f' ({action})' if action else ''}",
        _indented(policy_words(rollout), meaning_of(rollout), paint),
    ]
    for broken in policy.get("violations") or ():
        observed, limit = (_measured(text_of(broken.get("id")), broken.get(key)) for key in ("observed", "limit"))
        numbers = f" (observed {observed}, limit {limit})" if observed and limit else ""
        lines.append(f"  - {text_of(broken.get('id'))}: {text_of(broken.get('message'))}{numbers}")
    revision, decision = text_of(policy.get("revision"))[:12], text_of(policy.get("decision_id"))
    told = ", ".join(part for part in (revision and f"policy {revision}", decision and f"decision {decision}") if part)
    return [*lines, paint.dim(f"  {told}")] if told else lines


def _measured(rule: str, value: object) -> str:
    found = number_in(value)
    return text_of(value) if found is None else with_unit(rule, found)


def _indented(text: str, meaning: str, paint: Paint) -> str:
    word, space, rest = text.partition(" ")
    return f"  {paint(meaning, word)}{space}{rest}"


def _given_up(service: Any, paint: Paint, program: str) -> list[str]:
    quarantined = service.get("quarantined") or (service.get("rollout") or {}).get("quarantined") or ()
    if not quarantined:
        return []
    named = ", ".join(text_of(revision)[:12] for revision in quarantined)
    return [
        paint("poor", f"Given up, not tried again: {named}"),
        f"`{program} retry {REASON}` lets it run once more.",
    ]
