"""An audit as a page of GitHub-flavoured Markdown, or as JSON: the same audit gives the same bytes.

Nothing that others wrote can leave its table cell: what Markdown or HTML would act on is spelled as an entity, what
would steer a terminal as `\\x1b`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from reconciler.core.desired import Json
from reconciler.formats.audit import Audit
from reconciler.formats.audit_ledger import Entry
from reconciler.log import visible


def markdown(found: Audit) -> Iterator[str]:
    """The page, line by line, each with its newline."""
    yield f"# Audit report{f': {cell(found.project)}' if found.project else ''}\n\n"
    yield from (f"- {line}\n" for line in _coverage(found))
    yield "\n## Timeline\n\n"
    yield from _table(
        ("Time (UTC)", "Event", "Service", "Detail"),
        ((e.first, e.what, e.service, _with_count(e)) for e in found.timeline),
        "Nothing happened.",
    )
    yield "\n## Violations\n\n"
    yield from _table(
        ("Time (UTC)", "Violation", "Service", "Value", "Limit", "Cycles", "Outcome"),
        ((_span(e), e.what, e.service, _value(e), _limit(e), str(e.count), e.detail) for e in found.violations),
        "None.",
    )


def as_json(found: Audit) -> dict[str, Json]:
    """The same as one object; `value` is `[lowest, highest]`, or in words, or null."""
    chain = found.chain
    return {
        "project": found.project,
        "from": found.first,
        "to": found.last,
        "since": found.since,
        "records": found.records,
        "odd": found.odd,
        "odd_lines": [{"line": line, "reason": reason} for line, reason in found.odd_lines],
        "chain": {"records": chain.lines, "breaks": chain.breaks, "first_break": _break(found)},
        "held_for_evidence": found.waited,
        "left_out": found.left_out,
        "timeline": [
            {
                "time": e.first,
                "until": e.last,
                "count": e.count,
                "event": e.what,
                "service": e.service,
                "detail": e.detail,
            }
            for e in found.timeline
        ],
        "violations": [
            {
                "time": e.first,
                "until": e.last,
                "count": e.count,
                "violation": e.what,
                "id": e.id,
                "service": e.service,
                "value": [e.low, e.high] if e.low is not None else e.said or None,
                "limit": e.limit,
                "outcome": e.detail,
            }
            for e in found.violations
        ],
    }


# --- what is covered -------------------------------------------------------------------------------------------------


def _coverage(found: Audit) -> Iterator[str]:
    if found.first:
        yield f"**Covers:** {found.first} to {found.last} UTC"
    else:
        yield f"**Covers:** nothing{f' since {found.since} UTC' if found.since else ''}"
    yield f"**Records:** {found.records:,}"
    odd = "; ".join(f"line {line}: {reason}" for line, reason in found.odd_lines)
    more = f"; and {found.odd - len(found.odd_lines):,} more" if found.odd > len(found.odd_lines) else ""
    yield f"**Lines not understood:** {found.odd:,}{f' ({odd}{more})' if odd else ''}"
    yield f"**Chain:** {_chain(found)}"
    if found.waited:
        yield f"**Held for want of evidence:** {found.waited:,} cycles, which is no violation"
    if found.left_out:
        yield f"**Left out:** the {found.left_out:,} oldest rows; `--since` makes a shorter report"


def _chain(found: Audit) -> str:
    chain = found.chain
    if not chain.lines:
        return "none, no record is sealed"
    if chain.breaks:
        times = "once" if chain.breaks == 1 else f"{chain.breaks:,} times"
        return f"**broken {times}** in {chain.lines:,} sealed records, first: {_break(found)}"
    return f"whole, {chain.lines:,} sealed records"


def _break(found: Audit) -> str:
    return cell(found.chain.first_break.reason) if found.chain.first_break else ""


# --- cells -----------------------------------------------------------------------------------------------------------


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]], nothing: str) -> Iterator[str]:
    is_empty = True
    for row in rows:
        if is_empty:
            yield f"| {' | '.join(heading)} |\n|{' --- |' * len(heading)}\n"
            is_empty = False
        yield f"| {' | '.join(cell(text) or '-' for text in row)} |\n"
    if is_empty:
        yield f"{nothing}\n"


_LONGEST = 400
_ACTIVE = re.compile(r"[\\|`*~<>&\[\]@$]|://|(?i:www\.)|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])|(?<=\S)#(?=\d)|^[ ]+|[ ]+$")


def cell(text: str) -> str:
    """`text` as one line of Markdown that shows it as it is, at most `_LONGEST` characters of it."""
    shown = visible(text)
    if len(shown) > _LONGEST:
        shown = f"{shown[: _LONGEST - 1]}…"
    return _ACTIVE.sub(lambda found: "".join(f"&#{ord(c)};" for c in found[0]), shown)


def _span(entry: Entry) -> str:
    """`2026-05-06 12:03:00 - 12:09:10`."""
    if entry.first == entry.last:
        return entry.first
    return f"{entry.first} - {entry.last[11:] if entry.first[:10] == entry.last[:10] else entry.last}"


def _with_count(entry: Entry) -> str:
    if entry.count == 1:
        return entry.detail
    until = entry.last[11:] if entry.first[:10] == entry.last[:10] else entry.last
    return f"{entry.detail} ({entry.count} times until {until})"


def _value(entry: Entry) -> str:
    if entry.low is None or entry.high is None:
        return entry.said
    low, high = with_unit(entry.id, entry.low), with_unit(entry.id, entry.high)
    return low if low == high else f"{low} - {high}"


def _limit(entry: Entry) -> str:
    return "" if entry.limit is None else with_unit(entry.id, entry.limit)


def with_unit(name: str, number: float) -> str:
    """A number in the unit that a limit's name ends in."""
    if name.endswith("_rate"):
        return f"{_short(number * 100)}%"
    for ending, unit in (("_ms", "ms"), ("_gb", "GB"), ("_pct", "%"), ("_percent", "%"), ("_seconds", "s")):
        if name.endswith(ending):
            return f"{_short(number)}{unit}"
    return _short(number)


def _short(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".") if abs(number) < 1e15 else f"{number:.3g}"
