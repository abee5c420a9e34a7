"""nginx and OPA are killed, hung, and made to talk rubbish, under traffic and in the middle of a rollout."""

from __future__ import annotations

import os
import shutil
import signal
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import docker
import pytest

from tests.e2e.faults.crash_stack import CrashStack, traffic
from tests.e2e.stack import wait_for

LIMIT_S = 90.0
ROLLOUT = "rollout: {steps: [{weight: 80, duration: 3s}], watch: 1s, health_deadline: 30s}"
PATIENT = ROLLOUT.replace("3s", "10s")
AT_ONCE = "rollout: {steps: [], watch: 0s}"
EVIDENCE = "  canary: {warmup_seconds: 1, min_evidence_seconds: 2, min_requests: 20}\n"


@pytest.fixture
def stack(tmp_path: Path, engine: docker.DockerClient) -> Iterator[CrashStack]:
    made = CrashStack(tmp_path, engine)
    try:
        made.write(made.manifest(EVIDENCE, service=ROLLOUT))
        made.start()
        wait_for("deployed", lambda: made.rests("1.0.0"), LIMIT_S)
        yield made
    finally:
        made.clean()


def new_version(stack: CrashStack, version: str, rollout: str = ROLLOUT) -> None:
    stack.write(stack.manifest(EVIDENCE, service=f'version: "{version}"\n{rollout}'))


def main_process(stack: CrashStack, service: str) -> int:
    (container,) = stack.containers(service)
    return int(container.attrs["State"]["Pid"])


def weighs(stack: CrashStack, weight: int) -> bool:
    return bool(stack.last_cycle().get("weight") == [weight])


@contextmanager
def held_still(*pids: int) -> Iterator[None]:
    """They are there and do nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):  # a hung one may have been replaced
                os.kill(pid, signal.SIGCONT)


def cycles_go_by(stack: CrashStack, count: int) -> None:
    end = stack.cycles() + count
    wait_for(f"{count} cycles", lambda: stack.cycles() >= end, LIMIT_S)


# ---------------------------------------------------------------- OPA


class _Rubbish(socketserver.BaseRequestHandler):
    """Answers 200, and that everything is allowed, in a shape that nobody agreed on."""

    def handle(self) -> None:
        self.request.recv(65536)
        body = b'{"result": {"allow": "true", "action": "promote"}}'
        self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@contextmanager
def rubbish_in_place_of(path: Path) -> Iterator[None]:
    """Somebody else answers at OPA's socket."""
    kept = path.with_name("kept")
    os.rename(path, kept)
    elsewhere = Path(tempfile.mkdtemp(prefix="sd-")) / "s"  # a path as long as this one cannot be bound
    with socketserver.ThreadingUnixStreamServer(str(elsewhere), _Rubbish) as server:
        os.symlink(elsewhere, path)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
            os.replace(kept, path)
            shutil.rmtree(elsewhere.parent)


def opa_socket(stack: CrashStack) -> Path:
    def found() -> list[Path]:
        return list((stack.folder / "state/run/opa").glob("*/opa.sock"))

    return Path(wait_for("OPA's socket", lambda: main_process(stack, "opa") and found(), LIMIT_S)[0])


def holds(stack: CrashStack) -> None:
    """Two more cycles, and the canary is where it was."""
    cycles_go_by(stack, 2)
    seen = stack.last_cycle()
    assert (seen["phase"], seen["weight"]) == ("analyzing", [80])


@pytest.mark.fault("G1", "G2", "G7")
def test_without_an_answer_of_policy_no_more_requests_must_go_to_the_canary(stack: CrashStack) -> None:
    """OPA hangs, talks rubbish, dies, all in one rollout: the weight holds, and it goes on by itself afterwards."""
    with traffic(stack.port, 120) as client:
        new_version(stack, "2.0.0", PATIENT)
        wait_for("the canary's step", lambda: weighs(stack, 80), LIMIT_S)
        with held_still(main_process(stack, "opa")):
            holds(stack)
        with rubbish_in_place_of(opa_socket(stack)):
            holds(stack)
        os.kill(main_process(stack, "opa"), signal.SIGKILL)
        wait_for("2.0.0", lambda: stack.rests("2.0.0"), LIMIT_S)
    assert client.failed == {}
    assert stack.deaths == []
    assert sorted(container.labels["io.swiftdeploy.service"] for container in stack.containers()) == [
        "app",
        "nginx",
        "opa",
    ]


# ---------------------------------------------------------------- nginx


@pytest.mark.fault("I1", "I2", "I4", "I5", "I11", "I15")
def test_an_nginx_that_hangs_dies_or_is_edited_is_waited_for_or_healed(stack: CrashStack) -> None:
    """Its master held still: reloads come to nothing, so no weight moves; its workers go on. Then it is killed."""
    master = main_process(stack, "nginx")
    with traffic(stack.port, 60) as client:
        with held_still(master):
            new_version(stack, "2.0.0")
            wait_for("a reload to wait for", lambda: stack.last_cycle().get("phase") == "analyzing", LIMIT_S)
            cycles_go_by(stack, 3)
            assert stack.last_cycle()["weight"] == [0], "no weight before the configuration is seen to run"
        wait_for("2.0.0", lambda: stack.rests("2.0.0"), LIMIT_S)
    assert client.failed == {}
    os.kill(master, signal.SIGKILL)
    wait_for("another master", lambda: main_process(stack, "nginx") not in (0, master), LIMIT_S)
    wait_for("an answer", lambda: stack.answers("2.0.0"), LIMIT_S)
    wait_for("rest", lambda: stack.rests("2.0.0"), LIMIT_S)
    _edited_by_hand(stack)


def _edited_by_hand(stack: CrashStack) -> None:
    """What nginx would refuse, then what it would run, in place of its configuration; a new version goes through."""
    path = stack.rendered("nginx/live/nginx.conf")
    with traffic(stack.port, 60) as client:
        for number, edit in enumerate(("}} this is no configuration\n", ""), 3):
            path.write_text(edit + path.read_text().replace("listen", "#listen"))
            new_version(stack, f"{number}.0.0", AT_ONCE)
            wait_for("the new version", partial(stack.rests, f"{number}.0.0"), LIMIT_S)
            assert "#listen" not in path.read_text()
    assert client.failed == {}
    assert stack.deaths == []
