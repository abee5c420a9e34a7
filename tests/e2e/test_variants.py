"""The releases that rollouts are tried with must be what they are called, as containers that really run."""

from __future__ import annotations

import contextlib
import http.client
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
import pytest

from tests.e2e.rollout_stack import CHARACTERS, SLOW_S, variant
from tests.e2e.stack import wait_for

FINE_FOR_S = 6


@contextmanager
def running(engine: docker.DockerClient, kind: str) -> Iterator[Any]:
    made = engine.containers.run(variant(kind), detach=True, environment={"FINE_FOR_S": f"{FINE_FOR_S}"})
    try:
        yield made
    finally:
        made.remove(force=True)


def connect(container: Any) -> http.client.HTTPConnection:
    container.reload()
    return http.client.HTTPConnection(container.attrs["NetworkSettings"]["IPAddress"], 3000, timeout=10)


def status(connection: http.client.HTTPConnection, path: str = "/") -> int:
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def serves(container: Any) -> bool:
    with contextlib.closing(connect(container)) as connection:
        return status(connection, "/metrics") == 200


def failed_share(container: Any, asked: int) -> float:
    with contextlib.closing(connect(container)) as connection:
        return sum(status(connection) == 500 for _ in range(asked)) / asked


@pytest.mark.parametrize(("kind", "least", "most"), [("healthy", 0, 0), ("errors", 0.02, 0.09)])
def test_a_release_must_fail_as_often_as_it_is_said_to(
    engine: docker.DockerClient, kind: str, least: float, most: float
) -> None:
    with running(engine, kind) as container:
        wait_for("it serves", lambda: serves(container))
        with contextlib.closing(connect(container)) as connection:
            assert status(connection, "/healthz") == 200
        assert least <= failed_share(container, 1000) <= most


def test_the_slow_release_must_be_slow_for_few(engine: docker.DockerClient) -> None:
    with running(engine, "slow") as container:
        wait_for("it serves", lambda: serves(container))
        took_s: list[float] = []
        with contextlib.closing(connect(container)) as connection:
            while sum(each >= SLOW_S for each in took_s) < 3:
                began = time.monotonic()
                assert status(connection) == 200
                took_s.append(time.monotonic() - began)
    assert statistics.median(took_s) < SLOW_S
    assert len(took_s) > 10


def test_the_crashing_release_must_end_with_words(engine: docker.DockerClient) -> None:
    with running(engine, "crash") as container:
        assert container.wait(timeout=30)["StatusCode"] == 1
        assert container.logs() == b"This release crashes as it starts.\n"


def test_the_unhealthy_release_must_serve_but_never_be_healthy(engine: docker.DockerClient) -> None:
    with running(engine, "unhealthy") as container:
        wait_for("it serves", lambda: serves(container))
        with contextlib.closing(connect(container)) as connection:
            assert (status(connection), status(connection, "/healthz")) == (200, 503)


def test_the_late_release_must_be_fine_first(engine: docker.DockerClient) -> None:
    with running(engine, "late") as container:
        wait_for("it serves", lambda: serves(container))
        assert failed_share(container, 30) == 0
        wait_for("it fails", lambda: failed_share(container, 200) > 0.3, FINE_FOR_S + 30)


def test_every_release_must_be_an_image_of_its_own(engine: docker.DockerClient) -> None:
    assert len({engine.images.get(variant(kind)).id for kind in CHARACTERS}) == len(CHARACTERS)
