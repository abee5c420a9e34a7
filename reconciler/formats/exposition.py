"""A service's metrics page (Prometheus text format 0.0.4; OpenMetrics text passes), read by people who do not trust it.

The lines are read by prometheus-client's parser, which calls itself lax, so what it says is checked: all of it are
counts, or nothing is known. Only the families asked for are looked at (docs/adr/0009-measuring.md).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from reconciler.core.desired import Metrics, Service
from reconciler.core.errors import ReconcilerError

LINE_MAX_CHARS = 20 * 1024
"""Longer than a path of 8 KiB, which is what nginx lets through, with every character of it escaped."""

SERIES_MAX = 10_000
WANTED_MAX_CHARS = 1024 * 1024
"""The worst text of this size takes the parser half a second."""

OTHER_PATHS = "(other)"
COUNT_MAX = 2**53
"""Above it a float64, which is what every exporter has, no longer counts by ones."""

_CHAOS = ("none", "slow", "error")
_MODES = ("stable", "canary")
_NAME = re.compile(r"[ \t]*([a-zA-Z_:][a-zA-Z0-9_:]*)")
_SAID_OF = re.compile(r"[ \t]*#[ \t]+(TYPE|UNIT)[ \t]+([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]+([a-z]+)[ \t\r]*")
_STATUS = re.compile(r"[1-5](?:[0-9][0-9]|[xX][xX])")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._~/{}:<>*-]{0,64}")
_OTHER_UNITS = ("milliseconds", "millis", "ms", "microseconds", "us", "nanoseconds", "ns", "minutes")
_PARSER_FAILS_WITH = (ValueError, IndexError, KeyError, TypeError, OverflowError)

Labels = Mapping[str, str]


class ExpositionError(ReconcilerError):
    """The page cannot be used. `is_absent`: it does not count what is wanted, as opposed to counting it badly."""

    def __init__(self, why: str, *, is_absent: bool = False) -> None:
        super().__init__(why)
        self.is_absent = is_absent


@dataclass(frozen=True, slots=True)
class Names:
    """What the families and labels are called."""

    requests: str = "http_requests_total"
    duration: str = "http_request_duration_seconds"
    uptime: str = "app_uptime_seconds"
    mode: str = "app_mode"
    chaos: str = "chaos_active"
    status: str = "status_code"
    method: str = "method"
    path: str = "path"


def names_of(metrics: Metrics) -> Names:
    """The manifest's names over the usual ones."""
    return replace(Names(), **{key: name for key, name in metrics.names if name})


@dataclass(frozen=True, slots=True)
class Exposed:
    """What a page counts: lifetime requests and errors (5xx) by path, durations in seconds.

    The path is "" where the counter tells none apart. Paths that are not plain are one (OTHER_PATHS): these come from
    whoever the service lets choose them. `buckets` are cumulative, the last bound infinite; there are none while
    nothing was counted. `uptime_s` is None, `mode` and `chaos` are "" where nothing says so.
    """

    requests: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    buckets: tuple[tuple[float, int], ...] = ()
    uptime_s: float | None = None
    mode: str = ""
    chaos: str = ""


def read(page: bytes, names: Names, uncounted: frozenset[str] = frozenset()) -> Exposed:
    """What `page` counts, without the paths in `uncounted`. Raises ExpositionError."""
    found = _Page(_text(page), names)
    requests, errors = _requests(found, names, uncounted)
    buckets = _buckets(found, names, uncounted)
    if requests.total() and not buckets:
        raise ExpositionError(f"{names.requests} has counted and {names.duration} has not")
    return Exposed(
        dict(requests),
        dict(errors),
        buckets,
        found.gauge(names.uptime),
        _word(found.gauge(names.mode), names.mode, _MODES),
        _word(found.gauge(names.chaos), names.chaos, _CHAOS),
    )


def _text(page: bytes) -> str:
    try:
        return page.decode("utf-8")
    except UnicodeDecodeError:
        raise ExpositionError("the metrics page is not UTF-8") from None


class _Page:
    """The wanted lines of a page: what it says of families, and samples, each series once."""

    def __init__(self, text: str, names: Names) -> None:
        bucket, count = f"{names.duration}_bucket", f"{names.duration}_count"
        wanted = {names.requests, bucket, count, names.uptime, names.mode, names.chaos}
        self.said: dict[tuple[str, str], str] = {}
        self._series: dict[str, dict[tuple[tuple[str, str], ...], float]] = {name: {} for name in wanted}
        lines = []
        for line in text.split("\n"):
            if line.lstrip(" \t").startswith("#"):
                self._note(line)
            elif (name := _NAME.match(line)) is not None and name[1] in wanted:
                lines.append(_checked(line))
        if len(lines) > SERIES_MAX or sum(map(len, lines)) > WANTED_MAX_CHARS:
            raise ExpositionError(f"the metrics page has too many series of the families wanted ({len(lines)})")
        for name_, labels, value in _samples(lines):
            self._add(name_, labels, value)

    def _note(self, line: str) -> None:
        match = _SAID_OF.fullmatch(line) if len(line) <= LINE_MAX_CHARS else None
        if match is not None and self.said.setdefault((match[1], match[2]), match[3]) != match[3]:
            raise ExpositionError(f"the metrics page states two values for {match[1]} of one family")

    def _add(self, name: str, labels: Labels, value: float) -> None:
        series = self._series.get(name)
        if series is None:  # the parser does not look at a name that labels follow
            raise ExpositionError("the metrics page has a name that is none")
        key = tuple(sorted(labels.items()))
        if key in series:
            raise ExpositionError(f"{name} has one series twice")
        if not math.isfinite(value) or value < 0:
            raise ExpositionError(f"{name} has the value {value}")
        series[key] = value

    def of(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        """Labels and value of every series of `name`."""
        return ((dict(key), value) for key, value in self._series[name].items())

    def kind(self, family: str) -> str | None:
        """What the page says that a family is; OpenMetrics leaves a counter's `_total` out."""
        return self.said.get(("TYPE", family)) or self.said.get(("TYPE", family.removesuffix("_total")))

    def gauge(self, name: str) -> float | None:
        """The one value of `name`, None where there is none."""
        values = list(self._series[name].values())
        if len(values) > 1:
            raise ExpositionError(f"{name} has {len(values)} series, not one")
        return values[0] if values else None


def _checked(line: str) -> str:
    """A line that the parser may have: short, and with a value in ASCII (it would read other scripts' digits)."""
    if len(line) > LINE_MAX_CHARS:
        raise ExpositionError(f"the metrics page has a line of more than {LINE_MAX_CHARS} characters")
    if not line.rpartition("}")[2].isascii():
        raise ExpositionError("the metrics page has a value that is no number")
    return line


def _samples(lines: list[str]) -> Iterator[tuple[str, Labels, float]]:
    from prometheus_client.parser import text_string_to_metric_families  # slow to import

    try:
        for family in text_string_to_metric_families("\n".join(lines)):
            for sample in family.samples:
                yield sample.name, sample.labels, float(sample.value)
    except _PARSER_FAILS_WITH:
        raise ExpositionError("the metrics page has a line that is not in the Prometheus text format") from None


# ── families ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _requests(page: _Page, names: Names, uncounted: frozenset[str]) -> tuple[Counter[str], Counter[str]]:
    """Requests and errors by path."""
    series = list(page.of(names.requests))
    _must_be(page, names.requests, "counter", bool(series))
    label = next((one for one in (names.status, "status_code", "status") if any(one in each for each, _ in series)), "")
    if series and not label:
        raise ExpositionError(f"{names.requests} has no label {names.status} or status", is_absent=True)
    requests: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for labels, value in series:
        if (path := labels.get(names.path, "")) in uncounted and path:
            continue
        status = labels.get(label, "")
        if _STATUS.fullmatch(status) is None:
            raise ExpositionError(f"{names.requests} has a {label} that is no HTTP status: {ascii(status)[:24]}")
        count, shown = _count(names.requests, value), shown_path(path)
        requests[shown] += count
        errors[shown] += count if status.startswith("5") else 0
    return requests, errors


def shown_path(path: str) -> str:
    """The path under which `path` counts; it alone decides that, so that it is the same on every page."""
    return path if _PLAIN_PATH.fullmatch(path) else OTHER_PATHS


def _buckets(page: _Page, names: Names, uncounted: frozenset[str]) -> tuple[tuple[float, int], ...]:
    """The sum of the histograms of all label sets, which must have the same bounds."""
    name = names.duration
    histograms: dict[tuple[tuple[str, str], ...], dict[float, int]] = {}
    for labels, value in page.of(f"{name}_bucket"):
        bound = _bound(name, labels.pop("le", ""))
        histogram = histograms.setdefault(tuple(sorted(labels.items())), {})
        if bound in histogram:
            raise ExpositionError(f"{name} has the bound {bound:g} twice")
        histogram[bound] = _count(name, value)
    _must_be(page, name, "histogram", bool(histograms))
    counts = {tuple(sorted(labels.items())): _count(name, value) for labels, value in page.of(f"{name}_count")}
    summed: Counter[float] = Counter()
    bounds: list[float] = []
    for key, histogram in histograms.items():
        own = _ascending(name, histogram)
        if bounds and own != bounds:
            raise ExpositionError(f"{name} has series with different bounds")
        if counts.get(key, histogram[math.inf]) != histogram[math.inf]:
            raise ExpositionError(f"{name} has a count that is not its last bucket")
        bounds = own
        path = dict(key).get(names.path, "")
        summed.update({bound: 0 for bound in own} if path and path in uncounted else histogram)
    _must_be_seconds(page, name, bounds)
    return tuple((bound, summed[bound]) for bound in bounds)


def _must_be(page: _Page, family: str, kind: str, has_series: bool) -> None:
    """A family that is announced and has no series yet has counted nothing yet."""
    said = page.kind(family)
    if said is None and not has_series:
        raise ExpositionError(f"the metrics page has no {family}", is_absent=True)
    if said not in (None, kind, "untyped", "unknown"):
        raise ExpositionError(f"{family} is a {said}, not a {kind}", is_absent=True)
    if said != kind and not has_series:
        raise ExpositionError(f"{family} is not a {kind}", is_absent=True)


def _must_be_seconds(page: _Page, name: str, bounds: list[float]) -> None:
    """By its unit, its name or its bounds; one in milliseconds would be slow a thousand times too often."""
    unit = page.said.get(("UNIT", name), "seconds")
    ends = next((end for end in _OTHER_UNITS if name.endswith(f"_{end}")), None)
    if unit != "seconds" or ends is not None:
        raise ExpositionError(f"{name} is in {ends or ascii(unit)[:24]}, not in seconds")
    finite = bounds[:-1]
    if finite and finite[0] >= 1 and finite[-1] >= 1000:
        raise ExpositionError(f"{name} has bounds from {finite[0]:g} to {finite[-1]:g}: those are no seconds")


def _ascending(name: str, histogram: dict[float, int]) -> list[float]:
    bounds = sorted(histogram)
    if bounds[-1] != math.inf:
        raise ExpositionError(f"{name} has no bucket le=+Inf")
    if len(bounds) == 1:
        raise ExpositionError(f"{name} has no bound but +Inf")
    if any(histogram[low] > histogram[high] for low, high in pairwise(bounds)):
        raise ExpositionError(f"{name} has buckets that fall")
    return bounds


def _bound(name: str, text: str) -> float:
    try:
        bound = math.nan if "_" in text else float(text)
    except ValueError:
        bound = math.nan
    if math.isnan(bound) or bound < 0:
        raise ExpositionError(f"{name} has a bucket le={ascii(text)[:24]}")
    return bound


def _count(name: str, value: float) -> int:
    if value > COUNT_MAX or value != int(value):
        raise ExpositionError(f"{name} has the value {value}, which is no count")
    return int(value)


def _word(value: float | None, name: str, words: tuple[str, ...]) -> str:
    if value is None:
        return ""
    if value not in range(len(words)):
        raise ExpositionError(f"{name} has the value {value}, not 0 to {len(words) - 1}")
    return words[int(value)]


def uncounted_paths(service: Service) -> frozenset[str]:
    """Paths by which a service is asked about itself: they are no traffic, whoever counts."""
    prefix = service.route.path.rstrip("/") if service.route else ""
    check = service.healthcheck.path if service.healthcheck else None
    return frozenset((service.metrics.path, check or service.metrics.path, "/chaos", f"{prefix}/chaos"))
