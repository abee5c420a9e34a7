"""What the soak says of a failed request and of growth. The soak itself is `python -m tests.soak`."""

from __future__ import annotations

import pytest

from tests.soak.causes import Answer, Backend, Failure, answers, explanation
from tests.soak.samples import LEAST_SAMPLES, WARM_UP_S, Sample, growth, longest_life

LOG = """\
2026-11-23T12:29:24+00:00 | 200 | 0.000s | 10.0.0.2:3000 | GET /?n=0-1 HTTP/1.1
2026-11-23T12:29:24+00:00 | 500 | 0.001s | 10.0.0.3:3000 | POST /?n=0-2 HTTP/1.1
2026-11-23T12:29:25+00:00 | 502 | 0.001s | 10.0.0.2:3000, 10.0.0.4:3000 | GET /?n=1-7 HTTP/1.1
2026-11-23T12:29:25+00:00 | 503 | 0.000s | - | GET /?n=1-8 HTTP/1.1
not a line of ours
"""
BACKENDS = {
    "10.0.0.2": [Backend("app-0", "healthy", "stable")],
    "10.0.0.3": [Backend("app-1", "errors", "canary")],
    "10.0.0.4": [Backend("app-2", "healthy", "canary", removed_at=100.0)],
    "10.0.0.5": [Backend("app-3", "errors", "stable")],
}


def test_nginx_s_own_words_about_the_requests_that_failed_are_found() -> None:
    assert answers(LOG.splitlines(), frozenset({"0-2", "1-7", "1-8", "3-3"})) == {
        "0-2": Answer(500, ("10.0.0.3",)),
        "1-7": Answer(502, ("10.0.0.2", "10.0.0.4")),
        "1-8": Answer(503, ()),
    }


@pytest.mark.parametrize(
    ("what", "at", "upstreams", "is_explained"),
    [
        ("500", 50.0, ("10.0.0.3",), True),
        ("500", 50.0, ("10.0.0.2",), False),  # of a healthy one
        ("500", 50.0, ("10.0.0.5",), False),  # of a bad one that should not be stable
        ("502", 50.0, ("10.0.0.3",), False),  # the bad canary answers with 500 and nothing else
        ("502", 101.0, ("10.0.0.2", "10.0.0.4"), True),
        ("502", 98.0, ("10.0.0.4",), False),  # before it was removed
        ("502", 200.0, ("10.0.0.4",), False),  # long afterwards
        ("502", 101.0, ("10.0.0.4", "10.0.0.2"), False),  # it went on to one that was not removed
        ("503", 101.0, (), False),
        ("RemoteDisconnected", 101.0, None, False),
    ],
)
def test_a_failure_is_explained_by_what_was_done_to_the_container_it_went_to_or_not_at_all(
    what: str, at: float, upstreams: tuple[str, ...] | None, is_explained: bool
) -> None:
    status = int(what) if what.isdigit() else 0
    answer = None if upstreams is None else Answer(status, upstreams)
    assert bool(explanation(Failure("0-1", at, 0.01, what), answer, BACKENDS)) is is_explained


def samples(pid: int, count: int, first_mb: float, per_sample_mb: float) -> list[Sample]:
    return [
        Sample(pid, age_s=i * 10.0, rss_mb=first_mb + i * per_sample_mb, descriptors=9, threads=3, state_mb=1.0,
               state_files=100, containers=4)
        for i in range(count)
    ]  # fmt: skip


def test_growth_is_of_one_daemon_after_its_warm_up() -> None:
    life = longest_life([*samples(1, 20, 90, 0), *samples(2, 112, 50, 0.1), *samples(3, 40, 10, 0)])
    assert {sample.pid for sample in life} == {2}
    assert min(sample.age_s for sample in life) >= WARM_UP_S
    found = growth(life, lambda sample: sample.rss_mb)
    assert found is not None
    assert found.more == pytest.approx(100 * 0.1 * 2 / 3, rel=0.05)
    assert found.per_hour == pytest.approx(36, rel=0.01)
    flat = growth(life, lambda sample: float(sample.descriptors))
    assert flat is not None
    assert flat.more == 0


def test_of_a_short_life_nothing_is_said() -> None:
    assert growth(samples(1, LEAST_SAMPLES - 1, 50, 1), lambda sample: sample.rss_mb) is None
