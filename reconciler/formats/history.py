"""`history.jsonl`: a record to a chained line and back. The door to the modules of the log's format.

    history_chain         one line: sealed, checked, read back
    history_cut           a record as JSON that always fits
    history_walk          the whole chain, and where it breaks
    history_checkpoint    records in which a key vouches for all before them
    history_idle          cycles without news, merged into one record

`docs/history.md` describes the format for those who read it without us; `docs/adr/0004-history-chain.md` says what the
chain proves and what it does not, `docs/adr/0013-checkpoints.md` the same about signatures.
"""

from __future__ import annotations

from reconciler.formats.history_chain import (
    DOMAIN,
    ORIGIN,
    RESERVED,
    Link,
    Tail,
    check,
    genesis,
    parse,
    recover_tail,
    seal,
    sequence,
)
from reconciler.formats.history_cut import GUIDE_FIELDS, MAX_LINE_BYTES, MEASURED
from reconciler.formats.history_idle import MAX_IDLE_CYCLES, IdleRun
from reconciler.formats.history_walk import Break, Report, verify

__all__ = [
    "DOMAIN",
    "GUIDE_FIELDS",
    "MAX_IDLE_CYCLES",
    "MAX_LINE_BYTES",
    "MEASURED",
    "ORIGIN",
    "RESERVED",
    "Break",
    "IdleRun",
    "Link",
    "Report",
    "Tail",
    "check",
    "genesis",
    "parse",
    "recover_tail",
    "seal",
    "sequence",
    "verify",
]
