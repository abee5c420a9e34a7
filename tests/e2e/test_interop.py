"""Beside Docker Compose, and closed to the outside."""

from __future__ import annotations

import subprocess

import pytest

from bench import peers
from tests.e2e.stack import Stack, wait_for

MARKER = "swiftdeploy_auth"


@pytest.fixture(scope="module")
def compose() -> list[str]:
    try:
        return peers.compose()
    except LookupError as error:
        pytest.skip(str(error))


def run(compose: list[str], stack: Stack, *args: str) -> subprocess.CompletedProcess[str]:
    command = [*compose, "-f", str(stack.rendered("docker-compose.yml")), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_compose_must_accept_the_file_and_change_nothing(stack: Stack, compose: list[str]) -> None:
    assert stack.run("deploy").returncode == 0
    assert run(compose, stack, "config", "-q").returncode == 0
    before = {container.id for container in stack.containers()}
    up = run(compose, stack, "up", "-d")
    assert up.returncode == 0, up.stderr
    assert {container.id for container in stack.containers()} == before
    listed = run(compose, stack, "ps", "--format", "{{.Name}}").stdout.split()
    assert sorted(listed) == sorted(container.name for container in stack.containers())


def test_the_file_alone_must_start_the_same_stack(stack: Stack, compose: list[str]) -> None:
    assert stack.run("deploy").returncode == 0
    assert stack.run("teardown").returncode == 0
    up = run(compose, stack, "up", "-d")
    try:
        assert up.returncode == 0, up.stderr
        wait_for("an answer", stack.answers)
        assert run(compose, stack, "ps", "-q").stdout.count("\n") == 3
    finally:
        run(compose, stack, "down", "-v", "-t", "1")


PATHS = (
    "/v1/data",
    "/v1/policies",
    "/v1/query?q=data",
    "/v1/config",
    "/opa/v1/data",
    "/_opa/v1/data",
    "//v1/data",
    "/./v1/data",
    "/x/../v1/data",
    "/%2fv1%2fdata",
    "/v1%2fdata",
    "/V1/DATA",
    "/v1/data/swiftdeploy/infrastructure/decision",
    "/hash",
    "/stub",
)


def test_opa_and_the_private_listener_must_not_be_reachable_through_nginx(stack: Stack) -> None:
    assert stack.run("deploy").returncode == 0
    for path in PATHS:
        status, headers, body = stack.get(path)
        assert status in (400, 404), (path, status)
        assert headers.get("x-served-by", "").startswith("app-") or status == 400, (path, headers)
        assert MARKER.encode() not in body
        assert b'"result"' not in body
    (opa,) = stack.containers("opa")
    assert opa.attrs["NetworkSettings"]["Ports"] == {}
    assert not opa.attrs["NetworkSettings"]["IPAddress"]


def test_nothing_secret_must_be_in_rendered_files(stack: Stack) -> None:
    assert stack.run("deploy").returncode == 0
    token = (stack.folder / "state/run/opa-token").read_text().strip()
    found = [path for path in stack.rendered("").rglob("*") if path.is_file() and token in path.read_text("latin-1")]
    assert found == []
    assert token not in (stack.folder / "state/history.jsonl").read_text()
