"""Sequential evidence from counts: numbers that stay honest however often they are looked at.

An e-value is evidence against a stated null hypothesis: 80 means "80 to 1". While the null is true, the chance that
an e-process ever reaches 1/a is at most a, at whatever moments it is looked at (Ville 1939). Nothing here knows what
is counted; `bad` of `total` are Bernoulli trials, and both are whole numbers, 0 or more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

MIXTURE = (0.30, 0.20, 0.15, 0.15, 0.10, 0.10)
MULTIPLES = (1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
PROMISES = (0.25, 0.30, 0.25, 0.10, 0.05, 0.05)
PARTS = (2 / 3, 1 / 2, 1 / 3, 1 / 5, 1 / 20, 0.0)
CATASTROPHES = (0.5, 0.7, 0.9, 0.99)
EVENLY = (0.25, 0.25, 0.25, 0.25)

NOTHING = -1e6
MOST_E = 1e12


def bernoulli_llr(bad: int, total: int, rate: float, null: float) -> float:
    """ln of the likelihood ratio of `rate` against `null`; `NOTHING` where `rate` makes the counts impossible.

    Source: Wald, Sequential tests of statistical hypotheses, 1945.
    """
    good = total - bad
    if (bad and rate <= 0.0) or (good and rate >= 1.0):
        return NOTHING
    from_bad = bad * math.log(rate / null) if bad else 0.0
    from_good = good * math.log((1.0 - rate) / (1.0 - null)) if good else 0.0
    return from_bad + from_good


def above_llrs(bad: int, total: int, limit: float) -> tuple[float, ...]:
    """ln likelihood ratios of six rates above `limit` against it: evidence that the rate is over the limit."""
    highest = max(0.95, (1.0 + limit) / 2.0)
    return tuple(bernoulli_llr(bad, total, min(limit * multiple, highest), limit) for multiple in MULTIPLES)


def below_llrs(bad: int, total: int, bound: float) -> tuple[float, ...]:
    """ln likelihood ratios of six rates below `bound` against it: evidence that the rate is under the bound."""
    return tuple(bernoulli_llr(bad, total, bound * part, bound) for part in PARTS)


def catastrophe_llrs(bad: int, total: int, null: float) -> tuple[float, ...]:
    """ln likelihood ratios of four rates between `null` and 1 against `null`, at 0.5, 0.7, 0.9 and 0.99 for 0.3."""
    rates = tuple(max(rate, null + (1.0 - null) * rate / 2.0) for rate in CATASTROPHES)
    return tuple(bernoulli_llr(bad, total, rate, null) for rate in rates)


@dataclass(frozen=True, slots=True)
class Stratum:
    """What two arms did in one cycle on one kind of request: `bad` of `total`, and the other arm's."""

    bad: int
    total: int
    other_bad: int
    other_total: int


def relative_llrs(strata: Iterable[Stratum], tolerated: float) -> tuple[float, ...]:
    """ln likelihood ratios that an arm's odds of failing are worse than `tolerated` times the other arm's.

    Each bad event is the arm's own with a probability that depends only on exposure and odds ratio; common causes,
    changing in time or from stratum to stratum, cancel. Source: Lindon and Malek 2022, arXiv 2011.03567; valid at
    any rate since the hypergeometric is below the binomial in convex order (Hoeffding 1963).
    """
    sums = [0.0] * len(MULTIPLES)
    for each in strata:
        if each.total and each.other_total and (each.bad or each.other_bad):
            _add_relative(sums, each, tolerated)
    return tuple(sums)


def _add_relative(sums: list[float], each: Stratum, tolerated: float) -> None:
    weight = each.total * tolerated
    null = weight / (weight + each.other_total)
    for index, multiple in enumerate(MULTIPLES):
        share = weight * multiple / (weight * multiple + each.other_total)
        sums[index] += each.bad * math.log(share / null)
        sums[index] += each.other_bad * math.log((1.0 - share) / (1.0 - null))


@dataclass(frozen=True, slots=True)
class Process:
    """A mixture of likelihood ratios, a martingale or less under its null; its value is the e-value.

    `logs` are the ln of the components, start weights in them; `reserve` is the weight of the starts to come.
    """

    logs: tuple[float, ...]
    reserve: float = 0.0

    @property
    def log_e(self) -> float:
        """ln of the evidence."""
        highest = max(self.logs)
        total = sum(math.exp(each - highest) for each in self.logs)
        if self.reserve <= 0.0:
            return highest + math.log(total)
        return _log_sum(highest + math.log(total), math.log(self.reserve))

    @property
    def e(self) -> float:
        """The evidence, capped at 1e12: JSON has no infinity."""
        return math.exp(min(self.log_e, math.log(MOST_E)))


def fresh_process(weights: Sequence[float] = MIXTURE, *, late: float = 0.0) -> Process:
    """E = 1. `late` is the share of the weight that is kept for what begins later."""
    return Process(tuple(math.log((1.0 - late) * weight) for weight in weights), late)


def with_starts(
    process: Process, elapsed_s: float, span_s: float, horizon_s: float, weights: Sequence[float] = MIXTURE
) -> Process:
    """The process after a cycle from `elapsed_s` on, of `span_s`, with the weight of what begins after it started.

    What is left of the reserve falls with h/(h+t): half of it is spent within the horizon h, and some is left for
    ever, so that a regression after a day is still found. Weights sum to 1 and are fixed beforehand, hence the
    guarantee stays (Shin, Ramdas, Rinaldo 2024, arXiv 2203.03532). The evidence is what it was.
    """
    spent = process.reserve * span_s / (horizon_s + elapsed_s + span_s)
    if spent <= 0.0:
        return process
    logs = tuple(_log_sum(log, math.log(spent * weight)) for log, weight in zip(process.logs, weights, strict=True))
    return Process(logs, process.reserve - spent)


def fed(process: Process, llrs: Sequence[float], design_effect: float = 1.0) -> Process:
    """The process after a cycle. A design effect of 1 or more, known beforehand, keeps it valid (Jensen)."""
    logs = tuple(max(log + llr / design_effect, NOTHING) for log, llr in zip(process.logs, llrs, strict=True))
    return replace(process, logs=logs)


def _log_sum(one: float, other: float) -> float:
    high, low = (one, other) if one > other else (other, one)
    return high + math.log1p(math.exp(low - high))


def intraclass_correlation(blocks: Sequence[tuple[int, int]]) -> float:
    """How much alike the fates of two requests of one block are, 0.0 to 1.0, from (total, bad) per block.

    From the dispersion of the blocks' rates, less one standard error; 0.0 for fewer than 8 blocks or 10 bad events.
    Source: Pearson's statistic over its degrees of freedom; the design effect of cluster sampling (Kish 1965).
    """
    used = [(total, bad) for total, bad in blocks if total > 0]
    total, bad = sum(total for total, _ in used), sum(bad for _, bad in used)
    if len(used) < 8 or bad < 10 or bad >= total:
        return 0.0
    rate = bad / total
    spread = rate * (1.0 - rate)
    dispersion = sum((k - n * rate) ** 2 / (n * spread) for n, k in used) / (len(used) - 1)
    per_block = total * spread / len(used)
    error = math.sqrt((2.0 + 1.0 / per_block) / (len(used) - 1))
    return min(1.0, max(0.0, dispersion - error - 1.0) / (total / len(used)))


def confidence_sequence(bad: int, total: int, alpha: float = 0.05) -> tuple[float, float]:
    """Bounds of the rate that hold at every look at once with probability 1 - alpha; (0.0, 1.0) without trials.

    The Beta(1/2, 1/2) mixture (Robbins 1970): all p for which the mixture's evidence against p is below 1/alpha.
    """
    if not total:
        return 0.0, 1.0
    observed = bad / total
    low = 0.0 if not bad else _edge(bad, total, alpha, inside=observed, outside=0.0)
    high = 1.0 if bad == total else _edge(bad, total, alpha, inside=observed, outside=1.0)
    return low, high


def is_excluded(rate: float, bad: int, total: int, alpha: float) -> bool:
    """The confidence sequence of `bad` in `total` does not hold `rate`."""
    if not 0.0 < rate < 1.0:
        return bool(bad) if rate <= 0.0 else bad < total
    return _mixture_log_e(bad, total) - bad * math.log(rate) - (total - bad) * math.log1p(-rate) >= -math.log(alpha)


def _mixture_log_e(bad: int, total: int) -> float:
    return _log_beta((0.5 + bad, 0.5 + total - bad)) - _log_beta((0.5, 0.5))


def _edge(bad: int, total: int, alpha: float, *, inside: float, outside: float) -> float:
    constant = _mixture_log_e(bad, total) + math.log(alpha)
    good = total - bad
    for _ in range(45):
        middle = (inside + outside) / 2.0
        if constant >= bad * math.log(middle) + good * math.log1p(-middle):
            outside = middle
        else:
            inside = middle
    return outside


def split_log_e(counts: Sequence[int], shares: Sequence[float]) -> float:
    """ln of the evidence that trials are not split by `shares` (each above 0, together 1).

    A Dirichlet mixture of weight 100 around the shares. Source: Lindon and Malek 2022, arXiv 2011.03567.
    """
    prior = [100.0 * share for share in shares]
    posterior = [each + count for each, count in zip(prior, counts, strict=True)]
    expected = sum(count * math.log(share) for count, share in zip(counts, shares, strict=True) if count)
    return _log_beta(posterior) - _log_beta(prior) - expected


def _log_beta(values: Sequence[float]) -> float:
    return sum(math.lgamma(each) for each in values) - math.lgamma(sum(values))


def histogram_quantile(quantile: float, buckets: Sequence[tuple[float, int]]) -> float | None:
    """The quantile (0 to 1) of cumulative counts by ascending upper bound, as Prometheus' function has it.

    Linear within a bucket; the lowest begins at 0 unless its bound is not above that; in the infinite one it is the
    highest finite bound. None where Prometheus says NaN: no observations, no infinite bound, no finite one. Counts
    that fall with the bound are lifted to the one before. Source: `promql/quantile.go`, BucketQuantile.
    """
    if len(buckets) < 2 or not math.isinf(buckets[-1][0]):
        return None
    bounds, counts = [bound for bound, _ in buckets], _rising([count for _, count in buckets])
    if not counts[-1] or not 0.0 <= quantile <= 1.0:
        return None
    rank = quantile * counts[-1]
    index = next((i for i, count in enumerate(counts[:-1]) if count >= rank), len(counts) - 1)
    if index == len(counts) - 1:
        return bounds[-2]
    if index == 0 and bounds[0] <= 0.0:
        return bounds[0]
    start, before = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0)
    within = counts[index] - before
    return start + (bounds[index] - start) * (rank - before) / within if within else None


def _rising(counts: Sequence[int]) -> list[int]:
    highest, lifted = 0, []
    for count in counts:
        highest = max(highest, count)
        lifted.append(highest)
    return lifted


def requests_until(process: Process, gains: Sequence[float], wanted_log_e: float) -> int | None:
    """How many more trials bring ln E to `wanted_log_e` when each adds `gains` to the components; None if none do.

    Wald's expected sample size ln(1/error) / KL (1945), begun where the process is and with its mixture.
    """
    if process.log_e >= wanted_log_e:
        return 0
    if max(gains) <= 0.0:
        return None
    high = max(1, math.ceil((wanted_log_e - min(0.0, max(process.logs)) + 20.0) / max(gains)))
    while _ahead(process, gains, high) < wanted_log_e:
        high *= 2
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _ahead(process, gains, middle) >= wanted_log_e else (middle, high)
    return high


def _ahead(process: Process, gains: Sequence[float], trials: int) -> float:
    return fed(process, [trials * gain for gain in gains]).log_e
