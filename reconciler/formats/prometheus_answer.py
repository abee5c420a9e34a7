"""What is asked of a Prometheus server, and what it answers, read by people who do not trust it.

One question is about all containers and all families at once, so that nothing can change between two of them. It asks
for the raw samples of the last two minutes: an instant vector hides when its values were scraped. What the last
scrape of a container brought is written down as the page it came from, so that there is one reader of such pages
(`exposition`). Why so: docs/adr/0012-prometheus.md.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.core.desired import Service
from reconciler.core.errors import ReconcilerError
from reconciler.core.observed import ObservedContainer
from reconciler.formats import exposition
from reconciler.formats.exposition import Exposed, Labels, Names

RANGE_S = 130.0
"""Holds two scrapes where they are a minute apart, which is Prometheus's own default."""

LATE_S = 5.0
SLACK_S = 2.0
"""By how much two clocks may differ before times of one mean nothing on the other."""

SERIES_MAX = 20_000
UP = "up"
PLACES = ("address", "port", "name", "id")
TELLING = ("address", "name", "id")
"""The placeholders that differ from container to container."""

_PLACE = re.compile(r"\{([^{}]*)\}")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_VALUE = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|Inf)|NaN")
_SHOWN_MAX = 120


class AnswerError(ReconcilerError):
    """The answer, or what it says of a container, cannot be used."""


def places(text: str) -> tuple[str, ...]:
    """The names of the placeholders in a value of `metrics.match`."""
    return tuple(_PLACE.findall(text))


def labels_of(container: ObservedContainer, service: Service) -> dict[str, str]:
    """The labels that the container's series have, by `metrics.match`."""
    address = container.address or ""
    known = {
        "address": f"[{address}]" if ":" in address else address,
        "port": str(service.port),
        "name": container.name,
        "id": container.id,
    }
    return {
        label: _PLACE.sub(lambda place: known.get(place[1], place[0]), value) for label, value in service.metrics.match
    }


def query(wanted: Sequence[Mapping[str, str]], names: Names) -> str:
    """PromQL for every family of containers whose labels have the same names; at least one container."""
    matchers = {"__name__": sorted(_families(names))}
    matchers |= {label: sorted({each[label] for each in wanted}) for label in wanted[0]}
    one_of = (f'{label}=~"{_quoted("|".join(map(re.escape, values)))}"' for label, values in matchers.items())
    return f"{{{','.join(one_of)}}}[{RANGE_S:g}s]"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _families(names: Names) -> set[str]:
    duration = (f"{names.duration}_bucket", f"{names.duration}_count")
    return {UP, names.requests, *duration, names.uptime, names.mode, names.chaos}


# ── the answer ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its labels without the name, and its values as text by time (seconds since the epoch)."""

    name: str
    labels: Labels
    samples: Mapping[float, str]


def series_of(body: bytes, names: Names) -> tuple[Series, ...]:
    """All of the answer. Raises AnswerError where it is not wholly what was asked for."""
    data = _whole(body).get("data")
    if not isinstance(data, dict) or data.get("resultType") != "matrix" or not isinstance(data.get("result"), list):
        raise AnswerError("it answers something else than series of samples")
    result: list[Any] = data["result"]
    if len(result) > SERIES_MAX:
        raise AnswerError(f"it answers {len(result)} series, more than {SERIES_MAX}. Narrow metrics.match")
    families = _families(names)
    return tuple(_series(each, families) for each in result)


def complaint(body: bytes) -> str:
    """What an answer that is none says of the reason, "" where it says nothing."""
    try:
        said = json.loads(body).get("error")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return _shown(said) if isinstance(said, str) else ""


def _whole(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise AnswerError("its answer is no JSON") from None
    if not isinstance(answer, dict) or answer.get("status") != "success":
        raise AnswerError(f"it reports an error: {complaint(body) or 'without a reason'}")
    if answer.get("warnings") not in (None, []):
        raise AnswerError(f"its answer may be incomplete; it warns: {_shown(answer['warnings'])}")
    return answer


def _no_constant(text: str) -> float:
    raise ValueError(text)


def _shown(value: object) -> str:
    text = "".join(letter if " " <= letter <= "~" else "?" for letter in str(value))
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


def _series(found: Any, families: set[str]) -> Series:
    metric, values = (found.get("metric"), found.get("values")) if isinstance(found, dict) else (None, None)
    if not isinstance(metric, dict) or not all(isinstance(value, str) for value in metric.values()):
        raise AnswerError("it answers a series without labels")
    labels = dict(metric)
    name = labels.pop("__name__", "")
    if name not in families:
        raise AnswerError("it answers a series that was not asked for")
    if not all(map(_LABEL.fullmatch, labels)):
        raise AnswerError(f"{name} has a label whose name is no plain one")
    if not isinstance(values, list) or not values:
        raise AnswerError(f"{name} has no plain samples (native histograms are not read)")
    samples = dict(_sample(name, each) for each in values)
    if len(samples) != len(values):
        raise AnswerError(f"{name} has two samples of one time")
    return Series(name, labels, samples)


def _sample(name: str, found: Any) -> tuple[float, str]:
    if isinstance(found, list) and len(found) == 2:
        at, value = found
        is_time = isinstance(at, int | float) and not isinstance(at, bool) and 0 <= at < 1e11
        if is_time and isinstance(value, str) and _VALUE.fullmatch(value):
            return float(at), value
    raise AnswerError(f"{name} has a sample that is none")


# ── one container ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Scraped:
    """What the last scrape of a container brought, and when that was, in seconds since the epoch."""

    at: float
    exposed: Exposed


def scraped(
    series: Iterable[Series],
    wanted: Mapping[str, str],
    names: Names,
    uncounted: frozenset[str],
    *,
    since: float,
    now: float,
) -> Scraped:
    """The last scrape of the container with the labels `wanted`, which began at `since`.

    Raises AnswerError or ExpositionError where nothing is known of it. What was scraped before it began is another
    container's at the same address and counts for nothing.
    """
    own = [each for each in series if wanted.items() <= each.labels.items()]
    later = [_after(each, since + SLACK_S) for each in own]
    target = _target([each for each in later if each.name == UP and each.samples], wanted, is_known=bool(own))
    at = _last(target, now)
    families = _of_one_life([each for each in later if each.name != UP], names, at)
    for each in families:
        if at not in each.samples:
            raise AnswerError(f"{each.name} had a series that is missing from the last scrape")
    counted = {each.name for each in families}
    if not counted & {names.requests, f"{names.duration}_bucket"}:
        raise AnswerError(f"the server has no {names.requests} of it: nothing was counted yet, or metrics.names differ")
    exposed = exposition.read(_page(families, target.labels, at, names), names, uncounted)
    if names.requests not in counted and exposed.buckets[-1][1]:
        raise AnswerError(f"{names.duration} has counted and {names.requests} has not")
    return Scraped(at, exposed)


def _after(series: Series, since: float) -> Series:
    return Series(series.name, series.labels, {at: value for at, value in series.samples.items() if at > since})


def _target(ups: Sequence[Series], wanted: Mapping[str, str], *, is_known: bool) -> Series:
    """The one target that the server scrapes the container as."""
    if len(ups) == 1:
        return ups[0]
    sought = _shown(",".join(f'{label}="{value}"' for label, value in wanted.items()))
    if not ups and is_known:
        raise AnswerError("the server has not scraped it since it started")
    if not ups:
        raise AnswerError(f"the server scrapes nothing with {sought}")
    jobs = _shown(", ".join(sorted(each.labels.get("job", "?") for each in ups)))
    raise AnswerError(f"the server scrapes {sought} as several targets (jobs {jobs}). Add a label under metrics.match")


def _last(target: Series, now: float) -> float:
    """When the last scrape was, which went well and is not older than two of them may be apart."""
    times = sorted(target.samples)
    at = times[-1]
    if float(target.samples[at]) != 1.0:
        raise AnswerError(f"the server could not scrape it (up is {target.samples[at]})")
    if at > now + SLACK_S:
        raise AnswerError(f"the server's last scrape of it is {at - now:.0f} s in the future")
    apart_s = at - times[-2] if len(times) > 1 else RANGE_S
    if now - at > min(RANGE_S, 2 * apart_s + LATE_S):
        raise AnswerError(f"the server's last scrape of it is {now - at:.0f} s old")
    return at


def _of_one_life(families: Iterable[Series], names: Names, at: float) -> list[Series]:
    """Without what an earlier process in the same container counted, where it tells its age."""
    ages = [float(each.samples[at]) for each in families if each.name == names.uptime and at in each.samples]
    born = at - ages[0] - SLACK_S if len(ages) == 1 and math.isfinite(ages[0]) else 0.0
    return [each for each in (_after(series, born) for series in families) if each.samples]


def _page(families: Iterable[Series], target: Labels, at: float, names: Names) -> bytes:
    """The page as it was scraped, without the labels that the server added to all of it.

    One of the two families is there: then the other one, without any series, has counted nothing yet.
    """
    lines = [f"# TYPE {names.requests} counter", f"# TYPE {names.duration} histogram"]
    for each in families:
        own = (f'{name}="{_escaped(value)}"' for name, value in each.labels.items() if target.get(name) != value)
        lines.append(f"{each.name}{{{','.join(own)}}} {each.samples[at]}")
    return "\n".join(lines).encode("utf-8", "replace")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
