"""Rollouts that nobody planned: any sequence of manifests, verdicts, words and accidents, and what never happens."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.desired import Mode, RolloutSpec, Service, Strategy
from reconciler.core.observed import Status
from reconciler.core.rollout import Phase
from reconciler.core.words import Deploy, Pause, Promote, Resume, Retry, Rollback, Teardown
from tests.builders import release, service
from tests.core.core_world import CAREFUL, HOLD, PROMOTE, ROLLBACK, UNKNOWN, V1, CoreWorld

UNHURRIED = settings(deadline=None, max_examples=40)
REV1 = release(V1).revision

SPECS = {
    "canary": CAREFUL,
    "adopt": dataclasses.replace(CAREFUL, promotion="adopt"),
    "blue_green": dataclasses.replace(CAREFUL, strategy=Strategy.BLUE_GREEN),
    "quick": RolloutSpec(steps=(), watch_s=0.0),
    "rolling": RolloutSpec(strategy=Strategy.ROLLING),
}


def wanted(image: str, mode: Mode, spec: str, replicas: int) -> Service:
    held = Mode.STABLE if spec == "quick" else mode
    return service(image=image, mode=held, rollout=SPECS[spec], replicas=replicas)


WANTED = st.builds(
    wanted,
    st.sampled_from(["demo:1", "demo:2", "demo:3"]),
    st.sampled_from(Mode),
    st.sampled_from(["canary", "canary", "canary", "adopt", "blue_green", "quick", "rolling"]),
    st.sampled_from([1, 1, 2]),
)
WORDS = st.sampled_from(
    [Promote("app", "ann"), Rollback("app", "ann"), Pause("app", "ann"), Resume("app", "ann"), Retry("app", "ann", "x")]
)
VERDICTS = st.sampled_from([PROMOTE, PROMOTE, HOLD, ROLLBACK, UNKNOWN, None])
CYCLES = st.integers(1, 25)
QUIET = st.one_of(
    st.tuples(st.just("wants"), WANTED, CYCLES),
    st.tuples(st.just("verdict"), VERDICTS, CYCLES),
    st.tuples(st.just("hears"), WORDS, CYCLES),
    st.tuples(st.just("forgets"), st.none(), CYCLES),
    st.tuples(st.just("tears down"), st.none(), CYCLES),
    st.tuples(st.just("waits"), st.just(45.0), CYCLES),
)
SICK = ["demo:1", "demo:2", "demo:2 stable", "demo:2 canary", "demo:3 stable", ""]
ACCIDENTS = st.one_of(
    QUIET,
    QUIET,
    st.tuples(st.just("reboots"), st.none(), CYCLES),
    st.tuples(st.just("sick"), st.sampled_from(SICK), CYCLES),
    st.tuples(st.just("kills"), st.integers(-1, 5), CYCLES),
    st.tuples(st.just("waits"), st.just(600.0), CYCLES),
)


class Walk:
    """A world in which things happen, and what must hold after each of its cycles."""

    def __init__(self, first: Service) -> None:
        self.world = CoreWorld(first)
        self.condemned: set[str] = set()

    def goes(self, events: list[tuple[str, object, int]]) -> None:
        for event, value, cycles in events:
            self.happens(event, value)
            for _ in range(cycles):
                self.world.cycle()
                self.look()

    def happens(self, event: str, value: object) -> None:
        world = self.world
        match event:
            case "wants":
                world.wants(value)  # type: ignore[arg-type]
            case "verdict":
                world.verdict = value  # type: ignore[assignment]
            case "hears":
                if not (self.is_of_stable() and isinstance(value, Promote)):
                    world.hear(value)  # type: ignore[arg-type]
            case "forgets":
                world.forgets_everything()
            case "tears down":
                world.hear(Teardown())
                world.cycle()
                world.hear(Deploy())
            case "waits":
                world.passes(value)  # type: ignore[arg-type]
            case "reboots":
                world.reboots()
            case "sick":
                world.sick = {value} if value else set()  # type: ignore[arg-type]
            case "kills":
                running = [name for name, box in world.boxes.items() if box.status is Status.RUNNING]
                if running:
                    world.dies(running[value % len(running)], 1)  # type: ignore[operator]

    def is_of_stable(self) -> bool:
        """The canary is of the stable revision."""
        state = self.world.app
        return bool(state.stable and state.candidate and state.stable.revision == state.candidate.revision)

    def look(self) -> None:
        state = self.world.app
        if state.candidate is not None and state.phase is not Phase.ROLLING_BACK:
            on_its_way = state.candidate.revision in state.quarantined and state.phase in _LEAVING
            assert state.candidate.revision not in state.quarantined or on_its_way, "a quarantined revision is tried"
        if state.phase is Phase.STABLE and state.stable is not None:
            assert state.stable.revision not in state.quarantined, "what is stable is quarantined"
            assert state.groups == (state.stable,), "at rest nothing else is needed"
        if state.phase is Phase.ANALYZING:
            assert 0 <= state.step < len(state.course.steps)
            assert state.waited_s >= 0 <= state.step_s


_LEAVING = (Phase.RETURNING, Phase.RESTORING)


@UNHURRIED
@given(WANTED, st.lists(QUIET, max_size=12))
def test_no_request_is_lost_and_no_quarantine_broken_while_containers_are_well(
    first: Service, events: list[tuple[str, object, int]]
) -> None:
    Walk(first).goes(events)


@UNHURRIED
@given(WANTED, st.lists(ACCIDENTS, max_size=12))
def test_no_accident_makes_us_take_away_what_serves_or_send_requests_to_what_does_not(
    first: Service, events: list[tuple[str, object, int]]
) -> None:
    Walk(first).goes(events)


@UNHURRIED
@given(WANTED, st.lists(ACCIDENTS, max_size=10))
def test_whatever_happened_a_well_host_comes_to_rest_where_it_may(
    first: Service, events: list[tuple[str, object, int]]
) -> None:
    walk = Walk(first)
    walk.goes(events)
    world = walk.world
    world.sick, world.verdict = set(), PROMOTE
    world.hear(Deploy())
    world.wants(V1)
    for _ in range(3):
        world.hear(Retry("app", "ann", "all is well again"))
        world.cycle()
        world.hear(Resume("app", "ann"))
        world.cycle()
    end = world.until(lambda s: s.phase is Phase.STABLE and s.stable.revision == REV1 and not world.plans[-1], 300)
    assert (world.weight, end.groups) == (0, (end.stable,))
    assert world.running() == [f"demo:1 {end.stable.release.mode}"]  # type: ignore[union-attr]
