"""Sync windows in the manifest, and when they open: cron across changes of the clocks."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reconciler.core.desired import spec_hash
from reconciler.core.windows import Gate, Outlook, Window, WindowKind, gate
from reconciler.formats import manifest, sync

ALLOW, DENY = WindowKind.ALLOW, WindowKind.DENY
SIX = """\
services: {app: {image: "a:1", port: 3000}}
nginx: {image: "nginx:1", port: 80}
network: {name: net, driver_type: bridge}
"""
BERLIN = "Europe/Berlin"


def read(*windows: str) -> manifest.Reading:
    return manifest.read((SIX + "sync:\n  windows:\n" + "".join(f"    - {each}\n" for each in windows)).encode())


def problems(*windows: str) -> list[str]:
    return [str(each) for each in read(*windows).problems]


# --- what the manifest says


def test_windows_are_read_with_their_defaults() -> None:
    reading = read(
        '{kind: deny, schedule: "0  22 * * 5", duration: 60h, time_zone: Europe/Berlin, reason: weekend}',
        "{kind: allow, schedule: 0 8 * * 1-5, duration: 3600, services: [app, app]}",
    )
    assert (reading.problems, reading.warnings) == ((), ())
    assert reading.desired is not None
    assert reading.desired.windows == (
        Window(DENY, "0 22 * * 5", 216_000.0, BERLIN, (), "weekend"),
        Window(ALLOW, "0 8 * * 1-5", 3600.0, "UTC", ("app",)),
    )


def test_windows_are_no_part_of_a_revision() -> None:
    with_windows, without = (
        read('{kind: deny, schedule: "0 22 * * 5", duration: 60h}').desired,
        manifest.read(SIX.encode()).desired,
    )
    assert with_windows is not None
    assert without is not None
    assert without.windows == ()
    assert spec_hash(with_windows.services[0], "id", "net") == spec_hash(without.services[0], "id", "net")


@pytest.mark.parametrize(
    ("window", "place", "words"),
    [
        ("{schedule: '0 8 * * *', duration: 1h}", "6:7", "kind is missing. Add it, for example kind: deny."),
        ("{kind: denied, schedule: '0 8 * * *', duration: 1h}", "6:14", "Use allow or deny."),
        ("{kind: deny, duration: 1h}", "6:7", "schedule is missing"),
        ("{kind: deny, schedule: '0 8 * *', duration: 1h}", "6:30", "which has not five fields"),
        ("{kind: deny, schedule: '0 0 8 * * *', duration: 1h}", "6:30", "which has not five fields"),
        ("{kind: deny, schedule: '@daily', duration: 1h}", "6:30", "which has not five fields"),
        ("{kind: deny, schedule: '60 8 * * *', duration: 1h}", "6:30", "never comes (bad minute)"),
        ("{kind: deny, schedule: '0 8 30 2 *', duration: 1h}", "6:30", "never comes (bad day-of-month)"),
        ("{kind: deny, schedule: '0 8 31 4,6 *', duration: 1h}", "6:30", "never comes (bad day-of-month)"),
        ("{kind: deny, schedule: '0 8 */31 2 1#5', duration: 1h}", "6:30", "never comes."),
        ("{kind: deny, schedule: '0 8 * * MONDAY', duration: 1h}", "6:30", "never comes (bad day-of-week)"),
        ("{kind: deny, schedule: '0 5-1 * * *', duration: 1h}", "6:30", "never comes (bad hour)"),
        ("{kind: deny, schedule: 5, duration: 1h}", "6:30", "is the number 5"),
        ("{kind: deny, schedule: '0 8 * * *', duration: 59s}", "6:53", "Use a time from 1m to 8784h"),
        ("{kind: deny, schedule: '0 8 * * *', duration: 8785h}", "6:53", "Use a time from 1m to 8784h"),
        ("{kind: deny, schedule: '0 8 * * *', duration: 1 day}", "6:53", "duration is"),
        ("{kind: deny, schedule: '0 8 * * *', duration: 1h, time_zone: Europe/Berln}", "6:68", "does not know"),
        ("{kind: deny, schedule: '0 8 * * *', duration: 1h, time_zone: Europe}", "6:68", "does not know"),
        ("{kind: deny, schedule: '0 8 * * *', duration: 1h, time_zone: ../passwd}", "6:68", "Use a name such as"),
        ("{kind: deny, schedule: '0 8 * * *', duration: 1h, services: [ap]}", "6:68", "Did you mean app?"),
        ("{kind: deny, schedule: '0 8 * * *', duration: 1h, services: [other]}", "6:68", "There is app."),
        ("{kind: deny, schedule: '0 8 * * *', duration: 1h, services: []}", "6:67", "is empty"),
        ("{kind: deny, schedule: '0 8 * * *', duration: 1h, timezone: UTC}", "6:57", "Did you mean time_zone?"),
        ("{kind: deny, schedule: '0 8 * * *', duration: 1h, manual: true}", "6:57", "is no key. Use one of"),
        ("7", "6:7", "Use a window such as"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_place(window: str, place: str, words: str) -> None:
    told = problems(window)
    assert any(each.startswith(f"manifest.yaml:{place}: ") and words in each for each in told), told


def test_a_manifest_cannot_suspend_and_a_misspelt_block_is_an_error() -> None:
    def told(text: str) -> str:
        return " ".join(map(str, manifest.read((SIX + text).encode()).problems))

    assert "reconcilerctl suspend" in told("sync: {suspend: true}\n")
    assert "Did you mean windows?" in told("sync: {window: []}\n")
    assert "Did you mean sync?" in told("synk: {windows: []}\n")
    assert "sync.windows is empty" in told("sync: {windows: []}\n")
    assert "has 51 entries. At most 50" in told("sync:\n  windows:\n" + "    - {kind: deny}\n" * 51)


# --- when windows open


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def outlook(schedule: str, duration_s: float, now: float, zone: str = "UTC", kind: WindowKind = DENY) -> Outlook:
    return sync.outlooks((Window(kind, schedule, duration_s, zone),), now)[0]


def asked(schedule: str, duration_s: float, now: float, zone: str = "UTC", kind: WindowKind = DENY) -> Gate:
    return gate((outlook(schedule, duration_s, now, zone, kind),), "app", now)


def test_a_window_opens_and_closes_to_the_second() -> None:
    friday, monday = at("2026-11-27 22:00"), at("2026-11-30 10:00")
    assert asked("0 22 * * 5", 60 * 3600, friday - 1).until == friday
    assert [asked("0 22 * * 5", 60 * 3600, each).is_open for each in (friday - 1, friday, monday - 1, monday)] == [
        True,
        False,
        False,
        True,
    ]
    assert asked("0 22 * * 5", 60 * 3600, friday).until == monday


def test_an_opening_of_days_ago_is_still_seen() -> None:
    now = at("2026-12-30 12:00")
    assert asked("0 0 20 12 *", 14 * 86_400, now).until == at("2027-01-03 00:00")
    assert asked("0 0 1 1 *", 366 * 86_400, now).until is None
    assert not asked("0 0 1 1 *", 366 * 86_400, now).is_open


def test_a_window_longer_than_its_period_never_closes() -> None:
    now = at("2026-11-23 12:34")
    for schedule, duration_s in (("0 * * * *", 7200.0), ("0 0 * * *", 86_400.0), ("* * * * *", 60.0)):
        found = asked(schedule, duration_s, now)
        assert (found.is_open, found.until) == (False, None), schedule
        assert "without an end in sight" in found.reason
    hourly = asked("0 * * * *", 3599.0, now)
    assert hourly.until == at("2026-11-23 12:59") + 59
    assert asked("0 9,10,14 * * *", 3 * 3600, at("2026-11-23 09:30")).until == at("2026-11-23 13:00")


def test_a_rare_window_is_named_however_far_it_is() -> None:
    found = asked("0 0 29 2 *", 86_400, at("2026-11-23 12:00"), kind=ALLOW)
    assert (found.is_open, found.until) == (False, at("2028-02-29 00:00"))
    assert "opens at 2028-02-29 00:00 UTC" in found.reason


def test_many_openings_are_known_for_a_while_only() -> None:
    now = at("2026-11-23 12:00:30")
    found = outlook("*/2 * * * *", 60, now)
    assert len(found.openings) <= sync.MOST_STEPS + 1
    assert now + 3600 < found.known_until < math.inf


def test_hours_are_elapsed_ones_across_a_change_of_the_clocks() -> None:
    night = at("2026-03-28 22:00", BERLIN)
    assert asked("0 22 * * *", 8 * 3600, night, BERLIN).until == at("2026-03-29 07:00", BERLIN)
    night = at("2026-10-24 22:00", BERLIN)
    assert asked("0 22 * * *", 8 * 3600, night, BERLIN).until == at("2026-10-25 05:00", BERLIN)


def test_a_time_that_the_clocks_skip_opens_right_after_the_gap() -> None:
    gap = at("2026-03-29 03:00", BERLIN)
    assert asked("30 2 * * *", 600, gap - 1, BERLIN).until == gap
    assert asked("30 2 * * *", 600, gap, BERLIN).until == gap + 600
    assert asked("30 2 * * *", 600, at("2026-03-29 12:00", BERLIN), BERLIN).until == at("2026-03-30 02:30", BERLIN)


def test_a_time_that_comes_twice_opens_once() -> None:
    first, second = (at("2026-10-25 02:30", BERLIN, fold) for fold in (0, 1))
    assert second - first == 3600
    assert asked("30 2 * * *", 600, first - 1, BERLIN).until == first
    assert not asked("30 2 * * *", 600, first, BERLIN).is_open
    assert asked("30 2 * * *", 600, second, BERLIN).is_open
    assert asked("30 2 * * *", 600, second, BERLIN).until == at("2026-10-26 02:30", BERLIN)


def test_in_the_second_of_two_equal_hours_the_opening_in_the_first_is_still_seen() -> None:
    first, later = at("2026-10-25 02:30", BERLIN, 0), at("2026-10-25 02:10", BERLIN, 1)
    assert later > first
    assert asked("30 2 * * *", 3600, later, BERLIN).until == first + 3600


def test_a_time_with_a_star_goes_by_the_clock_on_the_wall() -> None:
    for fold in (0, 1):
        assert not asked("*/30 2 * * *", 600, at("2026-10-25 02:30", BERLIN, fold), BERLIN).is_open
    assert asked("*/30 2 * * *", 600, at("2026-03-29 03:00", BERLIN), BERLIN).until == at("2026-03-30 02:00", BERLIN)


def test_half_hour_changes_and_zones_without_any() -> None:
    zone = "Australia/Lord_Howe"  # changes by 30 minutes: 02:00 becomes 02:30 on 2026-10-04
    assert asked("15 2 * * *", 600, at("2026-10-04 01:59", zone), zone).until == at("2026-10-04 02:30", zone)
    assert asked("15 2 * * *", 600, at("2026-10-04 12:00", "Asia/Kolkata"), "Asia/Kolkata").until == at(
        "2026-10-05 02:15", "Asia/Kolkata"
    )


def test_a_zone_that_the_host_no_longer_knows_is_shut() -> None:
    now = at("2026-11-23 12:00")
    assert not asked("0 8 * * *", 60, now, "Europe/Atlantis").is_open
    assert not asked("0 8 * * *", 60, now, "Europe/Atlantis", ALLOW).is_open
    assert asked("0 8 * * *", 60, now, "Europe/Atlantis").until is None


@pytest.mark.parametrize("now", [-1e18, -1.0, 0.0, 1e11, 1e18])
def test_no_clock_makes_it_fail(now: float) -> None:
    found = asked("0 8 * * *", 60, now)
    assert isinstance(found.is_open, bool)


# --- an oracle of its own: every minute, by the clock on the wall


def naive(schedule: tuple[str, str], now: int, duration_s: int, zone: str) -> bool:
    """Open at `now` where any minute of the last `duration_s` seconds is one of the schedule's."""
    every, hours = schedule
    for minute in range(now - now % 60, now - duration_s, -60):
        wall = datetime.fromtimestamp(minute, ZoneInfo(zone))
        step = int(every.partition("/")[2] or 1)
        if wall.minute % step == 0 and (hours == "*" or wall.hour == int(hours)):
            return True
    return False


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["*", "*/7", "*/30"]),
    st.sampled_from(["*", "0", "1", "2", "3", "23"]),
    st.sampled_from([60, 300, 3600, 5 * 3600]),
    st.sampled_from([BERLIN, "America/New_York", "UTC", "Australia/Lord_Howe"]),
    st.sampled_from(["2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-10-04", "2026-04-05"]),
    st.integers(-7200, 86_400 * 2),
)
@example("*/30", "2", 60, BERLIN, "2026-10-25", 5400)
def test_it_agrees_with_counting_every_minute(
    minutes: str, hours: str, duration_s: int, zone: str, day: str, offset: int
) -> None:
    now = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) + offset
    assert asked(f"{minutes} {hours} * * *", duration_s, float(now), zone).is_open is not naive(
        (minutes, hours), now, duration_s, zone
    )


FIELD = st.text("0123456789*/-,LW#MONSATJ ", min_size=1, max_size=8)


@settings(max_examples=300, deadline=None)
@given(st.tuples(*[FIELD] * 5).map(" ".join))
def test_no_schedule_makes_the_reader_fail(schedule: str) -> None:
    reading = read(f"{{kind: deny, schedule: '{schedule}', duration: 1h}}")
    if reading.desired is not None:
        sync.outlooks(reading.desired.windows, 1_795_000_000.0)
