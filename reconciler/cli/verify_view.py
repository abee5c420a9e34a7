"""A verdict over the history, in words."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.cli.terminal import Paint, text_of
from reconciler.formats.history_checkpoint import Signer, fingerprint
from reconciler.formats.history_verdict import Verdict


def verdict_lines(verdict: Verdict, paint: Paint, key_file: str = "") -> Iterator[str]:
    """What there is, what is wrong with it, who vouches for it, and what to keep to check against later."""
    chain = verdict.chain
    span = f", {_moment(verdict.first_at)} to {_moment(verdict.last_at)} UTC" if chain.first else ""
    yield f"{_of(chain.lines, 'record')} in {_of(len(verdict.files), 'file')}{span}"
    if removal := verdict.removal:
        yield f"begins    behind record {removal.last.seq:,}: the older ones were removed to keep within the limit,"
        yield f"          says record {removal.said_by:,} of {_moment(removal.said_at)}, and a signature vouches for it"
    yield from _chain(verdict, paint)
    yield from _signatures(verdict, paint, key_file)
    yield from (f"told      {_told(record)}" for record in verdict.told)
    if verdict.is_whole and chain.last:
        yield ""
        yield "To check later that nothing up to here was changed, keep this somewhere else:"
        yield f"  --expect-checkpoint {chain.last.seq}:{chain.last.hash}"


def _chain(verdict: Verdict, paint: Paint) -> Iterator[str]:
    chain = verdict.chain
    if chain.breaks:
        yield paint("poor", f"chain     BROKEN in {_of(chain.breaks, 'place')}:")
        yield from (f"            {text_of(str(broken))}" for broken in verdict.broken)
        if chain.breaks > len(verdict.broken):
            yield f"            … and {chain.breaks - len(verdict.broken):,} more"
    else:
        yield paint("good", "chain     whole: every record follows from the one before")
    if chain.torn_bytes:
        yield f"          the last {_of(chain.torn_bytes, 'byte')} are no whole line: being written, or torn by a crash"


def _signatures(verdict: Verdict, paint: Paint, key_file: str) -> Iterator[str]:
    vouched, chain = verdict.vouched, verdict.chain
    for signer in vouched.signers:
        yield _signer(signer, verdict, paint, key_file)
    if vouched.bad_count:
        yield paint("poor", f"signed    WRONGLY: {_of(vouched.bad_count, 'checkpoint')}:")
        yield from (f"            record {seq}: {text_of(reason)}" for seq, reason in vouched.bad)
    if key_file and not verdict.vouched_up_to:
        yield paint("poor", f"signed    by NO key in {text_of(key_file)}")
    elif not vouched.signers:
        yield paint("warned", "signed    no: the chain shows mishaps, not somebody who rewrites all of it")
    if vouched.unsigned:
        reason = text_of(vouched.unsigned_reason)
        yield f"          {_of(vouched.unsigned, 'checkpoint')} without a signature, the last: {reason}"
    behind = (chain.last.seq if chain.last else 0) - verdict.vouched_up_to
    if verdict.vouched_up_to and behind > 1:
        yield f"          the last {_of(behind, 'record')} are held by the chain alone"


def _signer(signer: Signer, verdict: Verdict, paint: Paint, key_file: str) -> str:
    what = f"{_of(signer.count, 'checkpoint')}, up to record {signer.last:,}"
    if signer.key not in verdict.trusted:
        where = f"in {text_of(key_file)}" if key_file else "this directory's"
        return paint("poor" if key_file else "warned", f"signed    by {fingerprint(signer.key)}, NOT {where}: {what}")
    whose = f"in {text_of(key_file)}" if key_file else "the key beside the log; compare it with one kept elsewhere"
    return paint("good", f"signed    by {fingerprint(signer.key)} ({whose}): {what}")


def _told(record: object) -> str:
    """A record in which the writer itself said that somebody had been at the log."""
    assert isinstance(record, dict)
    kind, reason = text_of(record.get("kind")).replace("_", " "), text_of(record.get("reason"))
    return f"record {text_of(record.get('seq'))}, {_moment(record.get('timestamp'))}: {kind}: {reason}"


def _moment(timestamp: object) -> str:
    return text_of(timestamp)[:19].replace("T", " ") or "?"


def _of(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
