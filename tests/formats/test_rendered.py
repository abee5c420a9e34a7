"""All rendered files together: who is in nginx's slots in each phase, and a Compose file that needs no daemon."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml

from reconciler.core.desired import Mode, Strategy
from reconciler.core.membership import remember
from reconciler.core.observed import Slot
from reconciler.core.planner import PROXY_CONFIG
from reconciler.core.rollout import Course, Member, Phase, Rollout, ServiceRollout
from reconciler.core.targets import make_targets
from reconciler.formats import nginx, policy
from reconciler.formats.rendered import COMPOSE_FILE, COMPOSE_PROXY_CONFIG, View, render
from tests.builders import IMAGES, LAYOUT, canary, container, desired, group, kept, observed, rollout, service, state

V2 = service(image="demo:2", port=4000)
BLUE, GREEN = "10.1.0.20", "10.1.0.21"
BOTH = {"blue": (Member("b", BLUE),), "green": (Member("g", GREEN),)}


def view(of: Rollout, wanted=None) -> View:
    wanted = wanted or desired()
    opa = policy.target(wanted, IMAGES[wanted.opa.image], LAYOUT)
    return render(wanted, make_targets(wanted, IMAGES, (kept(service()), kept(V2)), LAYOUT, (opa,)), of, LAYOUT)


def upstreams(text: str) -> dict[str, list[str]]:
    return {
        name: re.findall(r"server ([0-9.]+:\d+|\S+:\d+)", block)
        for name, block in re.findall(r"upstream app-(\w+) \{(.*?)\}", text, re.DOTALL)
    }


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert view(rollout()).files == view(rollout()).files


def test_the_hash_is_that_of_the_live_configuration() -> None:
    made = view(rollout())
    assert made.proxy_hash == nginx.config_hash(made.files[PROXY_CONFIG])
    assert made.proxy_hash != view(rollout(state(**BOTH, serving=Slot.GREEN))).proxy_hash


TRIED, FRESH = canary(V2), group(V2)
OLD, NEW = [f"{BLUE}:3000"], [f"{GREEN}:4000"]
NOBODY: list[str] = []


@pytest.mark.parametrize(
    ("of", "blue", "green"),
    [
        (state(**BOTH), OLD, OLD),
        (state(Phase.STARTING, candidate=TRIED, **BOTH), OLD, OLD),
        (state(Phase.ANALYZING, candidate=TRIED, **BOTH), OLD, NEW),
        (state(Phase.SUSPENDED, candidate=TRIED, **BOTH), OLD, NEW),
        (state(Phase.PROMOTING, candidate=TRIED, **BOTH), OLD, NEW),
        (state(Phase.PARKING, candidate=TRIED, **BOTH), NEW, NEW),
        (state(Phase.RENEWING, candidate=TRIED, fresh=FRESH, **BOTH), NEW, NEW),
        (state(Phase.HALTED, candidate=TRIED, fresh=FRESH, **BOTH), NEW, NEW),
        (state(Phase.SWITCHING, candidate=TRIED, fresh=FRESH, **BOTH), [f"{BLUE}:4000"], NEW),
        (state(Phase.SETTLING, stable=FRESH, kept=group(), **BOTH), [f"{BLUE}:4000"], [f"{BLUE}:4000"]),
        (state(Phase.WATCHING, stable=FRESH, kept=group(), **BOTH), [f"{BLUE}:4000"], [f"{BLUE}:4000"]),
        (state(Phase.TURNING, serving=Slot.GREEN, stable=TRIED, kept=group(), **BOTH), NEW, NEW),
        (state(Phase.RETURNING, stable=FRESH, kept=group(), **BOTH), [f"{BLUE}:4000"], [f"{BLUE}:4000"]),
        (state(Phase.RESTORING, stable=FRESH, kept=group(), **BOTH), [f"{BLUE}:4000"], [f"{GREEN}:3000"]),
        (state(Phase.RESTORING, candidate=TRIED, **BOTH), OLD, NEW),
        (state(Phase.ROLLING_BACK, candidate=TRIED, **BOTH), OLD, OLD),
        (state(Phase.STARTING, stable=None, candidate=group(), **BOTH), NOBODY, NOBODY),
    ],
    ids=lambda value: getattr(value, "phase", ""),
)
def test_nginx_names_who_may_serve_in_each_phase_at_the_port_of_its_own_release(
    of: ServiceRollout, blue: list[str], green: list[str]
) -> None:
    found = upstreams(view(rollout(of)).files[PROXY_CONFIG])
    assert ([a for a in found["blue"] if a[0].isdigit()], [a for a in found["green"] if a[0].isdigit()]) == (
        blue,
        green,
    )


@pytest.mark.parametrize("phase", [Phase.ANALYZING, Phase.SUSPENDED])
def test_a_canary_does_not_inherit_the_slot_of_a_stable_that_is_gone(phase: Phase) -> None:
    of = state(phase, candidate=TRIED, blue=(), green=BOTH["green"])
    found = upstreams(view(rollout(of)).files[PROXY_CONFIG])
    assert [a for a in found["blue"] if a[0].isdigit()] == []


@pytest.mark.parametrize("phase", [Phase.UPDATING, Phase.ROLLING_BACK])
def test_replicas_that_take_turns_are_named_at_the_port_of_their_own_release(phase: Phase) -> None:
    of = state(phase, candidate=FRESH, course=Course(Strategy.ROLLING))
    seen = observed(container(replica=1, address=BLUE), container(FRESH, replica=0, address=GREEN))
    found = upstreams(view(remember(rollout(of), seen, {"app": 2})).files[PROXY_CONFIG])
    assert set(found["blue"]) == {f"{BLUE}:3000", f"{GREEN}:4000"}


def test_only_the_daemons_own_nginx_knows_testers() -> None:
    """Whoever leaves takes `nginx/compose` along; the secret stays, and nginx would not start without its file."""
    files = view(rollout(), desired(service(tester_secret="file:x", tester_digest="0" * 16))).files
    assert [path for path, text in files.items() if "X-Canary-Secret" in text] == [PROXY_CONFIG]
    assert "/etc/nginx/live/testers/app.0000000000000000.map;" in files[PROXY_CONFIG]


def test_a_worker_without_a_route_is_not_in_nginx() -> None:
    worker = service(port=None, route=None, healthcheck=None)
    assert upstreams(view(Rollout(), desired(worker)).files[PROXY_CONFIG]) == {}


def test_whoever_leaves_gets_a_compose_file_that_stands_on_its_own() -> None:
    compose = yaml.safe_load(view(rollout()).files[COMPOSE_FILE])
    assert set(compose["services"]) == {"app-blue", "nginx", "opa"}
    assert f"./{COMPOSE_PROXY_CONFIG.rpartition('/')[0]}" in str(compose["services"]["nginx"]["volumes"])
    assert "app-blue:3000" in view(rollout()).files[COMPOSE_PROXY_CONFIG]


@pytest.mark.parametrize(
    ("of", "names"),
    [
        (state(), {"app-blue"}),
        (state(Phase.STARTING, candidate=TRIED), {"app-blue", "app-green"}),
        (state(Phase.ANALYZING, candidate=TRIED), {"app-blue", "app-green"}),
        (state(Phase.PARKING, candidate=TRIED), {"app-green"}),
        (state(Phase.RENEWING, candidate=TRIED, fresh=FRESH), {"app-blue", "app-green"}),
        (state(Phase.WATCHING, stable=FRESH, kept=group()), {"app-blue"}),
    ],
    ids=lambda value: getattr(value, "phase", ""),
)
def test_what_runs_is_in_the_compose_file_and_what_only_waits_is_not(of: ServiceRollout, names: set[str]) -> None:
    compose = yaml.safe_load(view(rollout(of)).files[COMPOSE_FILE])
    assert set(compose["services"]) & {"app-blue", "app-green"} == names


def test_the_compose_file_says_what_mode_each_slot_runs_in() -> None:
    compose = yaml.safe_load(view(rollout(state(Phase.ANALYZING, candidate=TRIED))).files[COMPOSE_FILE])["services"]
    assert compose["app-blue"]["environment"]["MODE"] == "stable"
    assert compose["app-green"]["environment"]["MODE"] == "canary"
    assert (compose["app-blue"]["image"], compose["app-green"]["image"]) == ("demo:1", "demo:2")


def test_before_the_first_start_the_compose_file_shows_what_is_wanted() -> None:
    wanted = desired(service(mode=Mode.CANARY))
    compose = yaml.safe_load(view(Rollout(), wanted).files[COMPOSE_FILE])
    assert compose["services"]["app-blue"]["environment"]["MODE"] == "stable", "a first deployment is stable"


def test_compose_knows_our_containers_by_their_labels() -> None:
    labels = dict(view(rollout()).compose_labels["app-blue"])
    assert labels["com.docker.compose.service"] == "app-blue"
    assert labels["com.docker.compose.project.config_files"] == f"{LAYOUT.rendered}/{COMPOSE_FILE}"


def test_a_remembered_configuration_is_never_that_of_another_view() -> None:
    for port in range(8000, 8020):
        wanted = dataclasses.replace(desired(), nginx=dataclasses.replace(desired().nginx, port=port))
        assert f"listen {port} " in view(rollout(), wanted).files[PROXY_CONFIG]
