"""What alone shows that a container cannot serve, and what only looks like it."""

from __future__ import annotations

import dataclasses

import pytest

from reconciler.core.observed import ObservedContainer, Status
from reconciler.core.signs import CRASH_LOOP_RESTARTS, bad_sign, went_with_the_host
from tests.builders import canary, container, nginx, observed, opa, service

WELL = container(canary(service(image="demo:2")))
EARLY, AT, LATE = (f"2026-01-01T00:0{minute}:00.123456789Z" for minute in (1, 2, 3))
NEVER = "0001-01-01T00:00:00Z"


def changed(**changes: object) -> ObservedContainer:
    return dataclasses.replace(WELL, **changes)


@pytest.mark.fault("B22")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"oom_killed": True}, "out of memory"),
        (
            {"restarts": CRASH_LOOP_RESTARTS, "exit_code": 1},
            f"crash-loops: {CRASH_LOOP_RESTARTS} restarts, exit code 1",
        ),
        ({"status": Status.EXITED, "exit_code": 0}, "exited with code 0"),
        ({"status": Status.CREATED, "exit_code": 127, "error": "no such file"}, "cannot start: no such file"),
        ({"status": Status.CREATED, "exit_code": 128, "error": "mount"}, "cannot start: mount"),
    ],
)
def test_a_bad_sign_is_told_with_the_name_and_what_was_seen(changes: dict, words: str) -> None:
    said = bad_sign(changed(**changes))
    assert said.startswith(WELL.name)
    assert words in said


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"restarts": CRASH_LOOP_RESTARTS - 1, "status": Status.RESTARTING},
        {"status": Status.CREATED},
        {"status": Status.CREATED, "exit_code": 127},
        {"status": Status.CREATED, "exit_code": 1, "error": "port is allocated"},
        {"status": Status.PAUSED},
        {"docker_health": "unhealthy"},
    ],
)
def test_what_may_still_serve_is_no_bad_sign(changes: dict) -> None:
    assert bad_sign(changed(**changes)) == ""


def gone(**changes: object) -> ObservedContainer:
    return changed(status=Status.EXITED, exit_code=137, **{"finished_at": AT, **changes})


@pytest.mark.fault("A14")
@pytest.mark.parametrize(
    ("ended", "others", "went"),
    [
        (gone(), [nginx(started_at=LATE), opa(started_at=LATE)], True),
        (gone(), [nginx(started_at=AT)], True),
        (gone(), [nginx(started_at=LATE), opa(status=Status.EXITED, finished_at=AT)], True),
        (gone(), [nginx(status=Status.EXITED)], True),
        (gone(), [nginx(started_at=EARLY), opa(started_at=LATE)], False),
        (gone(), [nginx(started_at=NEVER)], False),
        (gone(), [nginx(started_at="")], False),
        (gone(), [nginx(started_at=LATE, ours=False)], False),
        (gone(), [], False),
        (gone(finished_at=NEVER), [nginx(started_at=LATE)], False),
        (gone(finished_at=""), [nginx(started_at=LATE)], False),
        (changed(finished_at=AT), [nginx(started_at=LATE)], False),
    ],
)
def test_an_exit_came_with_the_host_where_nothing_else_of_ours_ran_through_it(
    ended: ObservedContainer, others: list[ObservedContainer], went: bool
) -> None:
    assert went_with_the_host(ended, observed(ended, *others)) is went
