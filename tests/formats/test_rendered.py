"""All rendered files together: who is in nginx's slots in each phase, and a Compose file that needs no daemon."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml

from reconciler.core.desired import Mode
from reconciler.core.planner import PROXY_CONFIG
from reconciler.core.rollout import Member, Phase, Rollout, Slot
from reconciler.core.targets import make_targets
from reconciler.formats import nginx, policy
from reconciler.formats.rendered import COMPOSE_FILE, COMPOSE_PROXY_CONFIG, View, render
from tests.builders import IMAGES, LAYOUT, desired, kept, release, rollout, service, state

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


@pytest.mark.parametrize(
    ("of", "blue", "green"),
    [
        (state(**BOTH), [f"{BLUE}:3000"], [f"{BLUE}:3000"]),
        (state(Phase.STARTING, candidate=release(V2), **BOTH), [f"{BLUE}:3000"], [f"{BLUE}:3000"]),
        (state(Phase.PROMOTING, candidate=release(V2), **BOTH), [f"{BLUE}:3000"], [f"{GREEN}:4000"]),
        (state(Phase.ROLLING_BACK, candidate=release(V2), **BOTH), [f"{BLUE}:3000"], [f"{BLUE}:3000"]),
        (
            state(Phase.DRAINING, serving=Slot.GREEN, stable=release(V2), leaving=release(), **BOTH),
            [f"{GREEN}:4000"],
            [f"{GREEN}:4000"],
        ),
        (state(Phase.STARTING, stable=None, candidate=release(), **BOTH), [], []),
    ],
)
def test_nginx_names_who_may_serve_in_each_phase_at_the_port_of_its_own_release(
    of: object, blue: list[str], green: list[str]
) -> None:
    found = upstreams(view(rollout(of)).files[PROXY_CONFIG])  # type: ignore[arg-type]
    assert ([a for a in found["blue"] if a[0].isdigit()], [a for a in found["green"] if a[0].isdigit()]) == (
        blue,
        green,
    )


def test_a_worker_without_a_route_is_not_in_nginx() -> None:
    worker = service(port=None, route=None, healthcheck=None)
    assert upstreams(view(Rollout(), desired(worker)).files[PROXY_CONFIG]) == {}


def test_whoever_leaves_gets_a_compose_file_that_stands_on_its_own() -> None:
    compose = yaml.safe_load(view(rollout()).files[COMPOSE_FILE])
    assert set(compose["services"]) == {"app-blue", "nginx", "opa"}
    assert f"./{COMPOSE_PROXY_CONFIG.rpartition('/')[0]}" in str(compose["services"]["nginx"]["volumes"])
    assert "app-blue:3000" in view(rollout()).files[COMPOSE_PROXY_CONFIG]


def test_a_canary_of_a_rollout_is_in_the_compose_file_until_it_goes() -> None:
    def services(of: object) -> set[str]:
        return set(yaml.safe_load(view(rollout(of)).files[COMPOSE_FILE])["services"])  # type: ignore[arg-type]

    assert {"app-blue", "app-green"} <= services(state(Phase.STARTING, candidate=release(V2)))
    draining = state(Phase.DRAINING, serving=Slot.GREEN, stable=release(V2), leaving=release())
    assert services(draining) & {"app-blue", "app-green"} == {"app-green"}


def test_before_the_first_start_the_compose_file_shows_what_is_wanted() -> None:
    wanted = desired(service(mode=Mode.CANARY))
    compose = yaml.safe_load(view(Rollout(), wanted).files[COMPOSE_FILE])
    assert compose["services"]["app-blue"]["environment"]["MODE"] == "canary"


def test_compose_knows_our_containers_by_their_labels() -> None:
    labels = dict(view(rollout()).compose_labels["app-blue"])
    assert labels["com.docker.compose.service"] == "app-blue"
    assert labels["com.docker.compose.project.config_files"] == f"{LAYOUT.rendered}/{COMPOSE_FILE}"


def test_a_remembered_configuration_is_never_that_of_another_view() -> None:
    for port in range(8000, 8020):
        wanted = dataclasses.replace(desired(), nginx=dataclasses.replace(desired().nginx, port=port))
        assert f"listen {port} " in view(rollout(), wanted).files[PROXY_CONFIG]
