"""What stable did lately, in blocks: how bursty its failures are, known before a rollout begins.

Errors come in bursts. Tests that count requests as if each failed by its own draw take a burst for a regression;
the design effect corrects for that, and it must come from what was seen before the cycle it corrects.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from reconciler.core.evidence.counting import Counts
from reconciler.core.evidence.statistics import intraclass_correlation

BLOCK_S = 30.0
BLOCKS = 60


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a track: requests, failed ones, timed ones, slow ones."""

    total: int = 0
    failed: int = 0
    timed: int = 0
    slow: int = 0


@dataclass(frozen=True, slots=True)
class Baseline:
    """The last 30 minutes of stable in blocks of 30 s, oldest first, and the block that is being filled.

    `icc_errors` and `icc_slow` are the intraclass correlations of the finished blocks.
    """

    blocks: tuple[Block, ...] = ()
    filling: Block = field(default_factory=Block)
    filling_since: float = 0.0
    icc_errors: float = 0.0
    icc_slow: float = 0.0


def grown(baseline: Baseline, counts: Counts, now: float) -> Baseline:
    """The history with what stable did until `now`. A block is finished by the first cycle after its 30 s."""
    filling = Block(
        baseline.filling.total + counts.total,
        baseline.filling.failed + counts.failed,
        baseline.filling.timed + counts.timed,
        baseline.filling.slow + counts.slow_most,
    )
    since = baseline.filling_since or now
    if 0.0 <= now - since < BLOCK_S:
        return _with(baseline, baseline.blocks, filling, since)
    blocks = (*baseline.blocks, filling)[-BLOCKS:]
    return _with(baseline, blocks, Block(), now)


def _with(baseline: Baseline, blocks: tuple[Block, ...], filling: Block, since: float) -> Baseline:
    if blocks is baseline.blocks:
        return replace(baseline, filling=filling, filling_since=since)
    errors = intraclass_correlation([(each.total, each.failed) for each in blocks])
    slow = intraclass_correlation([(each.timed, each.slow) for each in blocks])
    return Baseline(blocks, filling, since, errors, slow)
