"""A real OPA on a real socket, started as its container starts it; and servers that only claim to be one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from reconciler.adapters import opa
from reconciler.adapters.docker_decode import container_request
from reconciler.adapters.http_client import HttpError, Request, Response, Unix, fetch
from reconciler.adapters.image_recipes import cache_directory
from reconciler.adapters.local_images import LocalImages
from reconciler.core.containers import Layout
from reconciler.core.containers_policy import command
from reconciler.core.desired import DesiredState, Json, Network, Nginx, Service
from reconciler.core.errors import StateError
from reconciler.core.observed import ObservedImage
from reconciler.core.plan import CreateContainer, Outcome
from reconciler.formats import policy

ROOT = Path(__file__).resolve().parents[2]
LIMITS: dict[str, dict[str, Json]] = {
    "infrastructure": {"min_disk_free_gb": 10, "max_cpu_load": 2.0},
    "canary": {"max_error_rate": 0.01, "max_p99_latency_ms": 500, "min_requests": 20},
}
ROOM: dict[str, Json] = {"disk_free_gb": 50.0, "cpu_load": 0.5, "mem_used_percent": 40.0}
MARKER = "hidden-from-everybody"


def desired(**policies: str) -> DesiredState:
    return DesiredState(
        project="shop",
        revision="ab" * 32,
        services=(Service("api", "api:1", 3000),),
        nginx=Nginx("nginx:1.30", 8080),
        network=Network("net"),
        limits={**LIMITS, "secret": {"word": MARKER}},
        user_policies=tuple((f"{name}.rego", text) for name, text in policies.items()),
    )


@pytest.fixture(scope="session")
def binary() -> str:
    """OPA 1.x: `$SWIFTDEPLOY_OPA`, on PATH, or where the scripts put it."""
    kept = ROOT / ".cache" / "opa" / "opa"
    found = os.environ.get("SWIFTDEPLOY_OPA") or shutil.which("opa") or (str(kept) if kept.exists() else None)
    if found is None:
        pytest.skip("NO OPA: put `opa` 1.x on PATH or name it in SWIFTDEPLOY_OPA")
    return found


class Engine:
    """One OPA, as its container would have it: the same files, arguments and folders."""

    def __init__(self, binary: str, folder: Path, state: DesiredState) -> None:
        self.binary, self.run = binary, folder / "run"
        self.files = policy.bundle(state)
        self.revision = policy.revision(self.files)
        self.policies = folder / "rendered" / self.revision[:12]
        for name, text in self.files.items():
            (self.policies / name).parent.mkdir(parents=True, exist_ok=True)
            (self.policies / name).write_text(text)
        self.port = opa.OpaPolicy(self.socket_for, self.token, timeout_s=lambda: 5.0)
        assert self.port.prepare(self.revision).outcome is Outcome.OK
        self.process = self.start()

    def socket_for(self, revision: str) -> Path:
        return opa.socket_path(self.run, revision)

    def token(self) -> str:
        return opa.ensure_token(self.run)

    def start(self) -> subprocess.Popen[bytes]:
        sockets = self.socket_for(self.revision).parent
        arguments = command(policy=str(self.policies), auth=str(self.run / "opa-auth"), sockets=str(sockets))
        return subprocess.Popen(
            [self.binary, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"GOMAXPROCS": "1"}
        )

    def wait(self, ready: bool = True) -> str:
        deadline = time.monotonic() + 20
        while (state := self.port.ready(self.revision))[0] is not ready and time.monotonic() < deadline:
            time.sleep(0.01)
        assert state[0] is ready, state[1]
        return state[1]

    def ask(self, method: str, path: str, token: str | None = None, content: object = None) -> Response:
        headers = (("Authorization", f"Bearer {token}"),) if token else ()
        body = None if content is None else json.dumps(content).encode()
        return fetch(Unix(self.socket_for(self.revision)), Request(path, method, "opa", headers, body), 5.0)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def engine(binary: str, state: DesiredState) -> Iterator[Engine]:
    with tempfile.TemporaryDirectory(prefix="sd-opa-") as folder:
        started = Engine(binary, Path(folder), state)
        try:
            yield started
        finally:
            started.end()


@pytest.fixture(scope="module")
def running(binary: str) -> Iterator[Engine]:
    with engine(binary, desired()) as started:
        started.wait()
        yield started


# --- the policies themselves ---------------------------------------------------------------------------------


def test_our_policies_keep_their_own_promises(binary: str) -> None:
    for arguments in (["check", "--strict", "opa"], ["fmt", "--list", "opa"], ["test", "opa"]):
        done = subprocess.run([binary, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert arguments[0] != "fmt" or not done.stdout


# --- questions and answers -----------------------------------------------------------------------------------


def test_a_host_with_room_is_allowed(running: Engine) -> None:
    verdict = running.port.evaluate("infrastructure", ROOM, running.revision)
    assert (verdict.known, verdict.allow, verdict.action) == (True, True, "promote")
    assert verdict.revision == running.revision
    assert verdict.decision_id
    assert len(verdict.input_digest) == 64


def test_a_full_disk_under_load_is_denied_in_one_decision(running: Engine) -> None:
    verdict = running.port.evaluate("infrastructure", {**ROOM, "disk_free_gb": 3.5, "cpu_load": 9}, running.revision)
    assert (verdict.known, verdict.allow, verdict.action) == (True, False, "hold")
    assert verdict.reason == "Disk space below 10GB; CPU load above 2.0"
    assert [(v.id, v.observed, v.limit) for v in verdict.violations] == [
        ("min_disk_free_gb", "3.5", "10"),
        ("max_cpu_load", "9", "2.0"),
    ]


def test_the_guides_canary_is_denied(running: Engine) -> None:
    question: dict[str, Json] = {"error_rate": 0.04, "p99_latency": 600, "mode": "canary"}
    verdict = running.port.evaluate("canary", question, running.revision)
    assert (verdict.allow, verdict.action) == (False, "rollback")
    assert verdict.reason == "Error rate exceeds 1% threshold; P99 latency exceeds 500ms"


def test_a_manifest_is_admitted(running: Engine) -> None:
    question = policy.question_admission(desired(), desired())
    assert running.port.evaluate("admission", question, running.revision).allow


@pytest.mark.fault("G7")
@pytest.mark.parametrize("domain", policy.domains())
@pytest.mark.parametrize("value", [None, False, True, "0", "NaN", [], {}, -1, {"unknown": "why"}])
def test_nothing_confusing_is_allowed(running: Engine, domain: str, value: Json) -> None:
    questions: dict[str, dict[str, Json]] = {
        "infrastructure": {"disk_free_gb": 50, "cpu_load": 0.5},
        "canary": {"error_rate": 0, "p99_latency": 1, "mode": "canary", "requests": 99},
        "admission": dict(policy.question_admission(desired(), None)),
    }
    whole = questions[domain]
    assert running.port.evaluate(domain, whole, running.revision).allow
    for key in set(whole) - {"network"}:
        verdict = running.port.evaluate(domain, {**whole, key: value}, running.revision)
        allowed_anyway = domain == "admission" and value == "0" and key in ("project", "manifest")
        allowed_anyway = allowed_anyway or (value == "NaN" and key in ("project", "manifest"))
        assert verdict.known
        assert verdict.allow is allowed_anyway, (key, value)


def test_a_question_that_cannot_be_sent_is_unknown(running: Engine) -> None:
    verdict = running.port.evaluate("canary", {"error_rate": float("nan")}, running.revision)
    assert not verdict.known
    assert not verdict.allow


@pytest.mark.fault("G10")
def test_another_revision_has_no_answer_here(running: Engine) -> None:
    other = "0" * 64
    port = opa.OpaPolicy(lambda _: running.socket_for(running.revision), running.token)
    verdict = port.evaluate("infrastructure", ROOM, other)
    assert not verdict.known
    assert verdict.reason == f"the decision is of policy revision {running.revision[:11]}…, not of {other[:12]}"
    assert port.ready(other)[0] is False


def test_a_domain_that_is_none_has_no_answer(running: Engine) -> None:
    for domain in ("evidence", "other", "", "../canary", "canary/decision/x?", "canary decision"):
        assert not running.port.evaluate(domain, ROOM, running.revision).known


def test_two_dozen_questions_at_once_are_all_answered(running: Engine) -> None:
    verdicts = []
    threads = [
        threading.Thread(
            target=lambda: verdicts.append(running.port.evaluate("infrastructure", ROOM, running.revision))
        )
        for _ in range(24)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [verdict.allow for verdict in verdicts] == [True] * 24


# --- who may ask ---------------------------------------------------------------------------------------------

DECISION = "/v1/data/swiftdeploy/canary/decision"


@pytest.mark.parametrize("token", [None, "", "x", "0" * 64])
@pytest.mark.parametrize("path", [DECISION, "/v1/data", "/v1/policies", "/metrics"])
def test_without_the_token_nothing_is_told(running: Engine, path: str, token: str | None) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        response = running.ask(method, path, token, {"input": {}})
        assert response.status == 401
        assert MARKER.encode() not in response.body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", DECISION),
        ("PUT", DECISION),
        ("PATCH", DECISION),
        ("DELETE", DECISION),
        ("POST", DECISION + "?metrics=true"),
        ("POST", DECISION + "?explain=full"),
        ("POST", DECISION + "?provenance"),
        ("POST", DECISION + "?strict-builtin-errors=true"),
        ("POST", DECISION + "/allow"),
        ("POST", DECISION + "/"),
        ("POST", "/" + DECISION),
        ("POST", "/v1/data/swiftdeploy/canary/../../limits"),
        ("POST", "/v1/data/swiftdeploy/canary/violations"),
        ("POST", "/v1/data/swiftdeploy/canary"),
        ("POST", "/v1/data/swiftdeploy"),
        ("POST", "/v1/data/swiftdeploy%2Fcanary%2Fdecision"),
        ("POST", "/v1/data/swiftdeploy/canary%2Fdecision"),
        ("POST", "/v1/data/swiftdeploy/evidence/decision"),
        ("POST", "/v1/data/limits"),
        ("POST", "/v1/data"),
        ("GET", "/v1/data"),
        ("GET", "/v1/data/limits"),
        ("GET", "/v1/data/swiftdeploy_auth"),
        ("GET", "/v1/data/system/authz"),
        ("PUT", "/v1/data/limits"),
        ("PATCH", "/v1/data"),
        ("GET", "/v1/policies"),
        ("PUT", "/v1/policies/x"),
        ("DELETE", "/v1/policies/canary.rego"),
        ("GET", "/v1/query?q=data"),
        ("POST", "/v1/query"),
        ("POST", "/v1/compile"),
        ("GET", "/v1/config"),
        ("GET", "/v1/status"),
        ("POST", "/v0/data/swiftdeploy/canary/decision"),
        ("POST", "/"),
        ("GET", "/"),
        ("GET", "/metrics"),
        ("GET", "/debug/pprof/"),
        ("GET", "/health?bundles"),
        ("POST", "/health"),
        ("GET", "/health/live"),
        ("OPTIONS", "*"),
    ],
)
def test_even_with_the_token_only_decisions_are_told(running: Engine, method: str, path: str) -> None:
    before = running.port.evaluate("infrastructure", ROOM, running.revision)
    response = running.ask(method, path, running.token(), {"input": {}})
    assert response.status != 200 or response.body.strip() in (b"", b"{}")
    for hidden in (MARKER, "token_sha256", "min_disk_free_gb", running.token()):
        assert hidden.encode() not in response.body
    after = running.port.evaluate("infrastructure", ROOM, running.revision)
    assert dataclasses.replace(after, decision_id="") == dataclasses.replace(before, decision_id="")


def test_health_tells_nothing_but_that(running: Engine) -> None:
    response = running.ask("GET", "/health")
    assert (response.status, response.body.strip()) == (200, b"{}")


@pytest.mark.fault("G15")
def test_a_wrong_token_is_said_to_be_one(running: Engine) -> None:
    port = opa.OpaPolicy(running.socket_for, lambda: "0" * 64)
    assert port.ready(running.revision) == (False, "OPA refused our token (HTTP 401)")


# --- policies of the operator's own --------------------------------------------------------------------------


def test_an_operators_policy_forbids_with_its_own_words(binary: str) -> None:
    mine = """package swiftdeploy.infrastructure.user

deny contains sprintf("no deployment with %v processors", [input.cpus]) if input.cpus < data.limits.mine.min_cpus
"""
    state = desired(mine=mine)
    with engine(binary, dataclasses.replace(state, limits={**LIMITS, "mine": {"min_cpus": 4}})) as started:
        started.wait()
        allowed = started.port.evaluate("infrastructure", {**ROOM, "cpus": 8}, started.revision)
        denied = started.port.evaluate("infrastructure", {**ROOM, "cpus": 2}, started.revision)
    assert allowed.allow
    assert (denied.known, denied.allow, denied.reason) == (True, False, "no deployment with 2 processors")


def test_the_examples_of_the_guide_work(binary: str) -> None:
    guide = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    freeze, regressions, images = re.findall(r"^```rego\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    days: list[Json] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    limits: dict[str, dict[str, Json]] = {
        **LIMITS,
        "anything_else": {"quiet_days": days},
        "regressions": {"max_excess": 0.02, "min_last_step_seconds": 600},
    }
    state = desired(freeze=freeze, images=images, regressions=regressions)
    with engine(binary, dataclasses.replace(state, limits=limits)) as started:
        started.wait()
        frozen = started.port.evaluate("infrastructure", ROOM, started.revision)
        rooted = dataclasses.replace(desired(), services=(Service("api", "api:1", 3000, user="root"),))
        refused = started.port.evaluate("admission", policy.question_admission(rooted, None), started.revision)
        welcome = started.port.evaluate("admission", policy.question_admission(desired(), None), started.revision)
        slower: dict[str, Json] = {"purpose": "rollout", "chaos": "none", "evidence": {"latency": {"excess": 0.05}}}
        back = started.port.evaluate("canary", slower, started.revision)
        ended: dict[str, Json] = {"error_rate": 0, "p99_latency": 1, "mode": "canary"}
        early = started.port.evaluate(
            "canary", {**ended, "step": {"is_last": True, "elapsed_seconds": 5}}, started.revision
        )
    assert (back.action, early.action) == ("rollback", "hold")
    assert back.violations[-1].message == "answers became much slower than stable's"
    assert early.reason == "not without a look at the dashboard"
    assert frozen.reason.startswith("no deployments on a ")
    assert refused.reason == "api must not run as root"
    assert welcome.allow


@contextlib.contextmanager
def changed(binary: str, name: str, text: str) -> Iterator[Engine]:
    """An OPA one of whose files somebody wrote over."""
    with engine(binary, desired()) as started:
        started.end()
        (started.policies / name).write_text(text)
        started.process = started.start()
        deadline = time.monotonic() + 20
        while "reachable" in started.port.ready(started.revision)[1] and time.monotonic() < deadline:
            time.sleep(0.01)
        yield started


@pytest.mark.fault("G4")
def test_two_decisions_at_once_are_none(binary: str) -> None:
    over = 'package swiftdeploy.infrastructure\n\ndecision := {"allow": true} if input.cpu_load\n'
    with changed(binary, "over.rego", over) as started:
        verdict = started.port.evaluate("infrastructure", ROOM, started.revision)
    assert not verdict.known
    assert "eval_conflict_error" in verdict.reason


@pytest.mark.fault("G11")
def test_a_policy_that_allows_an_empty_question_is_never_ready(binary: str) -> None:
    text = policy.bundle(desired())["infrastructure.rego"]
    with changed(binary, "infrastructure.rego", text[: text.index("violations :=")] + "violations := []\n") as started:
        detail = started.port.ready(started.revision)
    assert detail == (False, "policy infrastructure allows an empty question: it would allow anything")


@pytest.mark.fault("G11")
def test_a_domain_without_a_policy_is_never_ready(binary: str) -> None:
    with changed(binary, "admission.rego", "package nothing\n") as started:
        ready, detail = started.port.ready(started.revision)
    assert not ready
    assert detail.startswith("OPA has no decision for admission")


@pytest.mark.fault("G11")
@pytest.mark.parametrize("text", ["package x\n\nallow if {", "package x\nallow { true }"])
def test_a_broken_policy_stops_the_start_with_opas_own_message(binary: str, text: str) -> None:
    with engine(binary, desired(broken=text)) as started:
        said, _ = started.process.communicate(timeout=20)
        assert started.process.returncode != 0
        assert "not reachable" in started.wait(ready=False)
    assert b"broken.rego:" in said


# --- down, late, and in the way ------------------------------------------------------------------------------


@pytest.mark.fault("G1")
def test_a_killed_opa_is_unreachable_and_comes_back_on_its_stale_socket(binary: str) -> None:
    with engine(binary, desired()) as started:
        started.wait()
        started.end()
        assert started.socket_for(started.revision).exists()
        verdict = started.port.evaluate("infrastructure", ROOM, started.revision)
        assert (verdict.known, verdict.allow) == (False, False)
        assert verdict.reason.startswith("OPA is not reachable: ")
        started.process = started.start()
        started.wait()
        assert started.port.evaluate("infrastructure", ROOM, started.revision).allow


def test_a_predecessor_that_is_killed_leaves_its_successors_socket_alone(binary: str) -> None:
    with engine(binary, desired()) as started:
        started.wait()
        first, bound = started.process, started.socket_for(started.revision).stat().st_ctime_ns
        started.process = started.start()
        deadline = time.monotonic() + 20
        with contextlib.suppress(FileNotFoundError):
            while started.socket_for(started.revision).stat().st_ctime_ns == bound and time.monotonic() < deadline:
                time.sleep(0.01)
        started.wait()
        first.kill()
        first.wait()
        assert started.port.ready(started.revision)[0]


@pytest.mark.fault("G2")
def test_a_stopped_opa_is_late_and_no_later_than_the_deadline(binary: str) -> None:
    with engine(binary, desired()) as started:
        started.wait()
        started.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, started.process.pid, os.WSTOPPED)  # until then one of its threads may still answer
        before = time.monotonic()
        verdict = opa.OpaPolicy(started.socket_for, started.token, lambda: 0.3).evaluate("canary", {}, started.revision)
        assert (verdict.known, verdict.reason) == (False, "OPA did not answer within 0.3 s")
        patient = opa.OpaPolicy(started.socket_for, started.token, lambda: 60.0)
        assert patient.ready(started.revision) == (False, "OPA did not answer within 1 s")
        assert time.monotonic() - before < 10


@contextlib.contextmanager
def impostor(talk: Callable[[socket.socket], None]) -> Iterator[opa.OpaPolicy]:
    """Something else on OPA's socket."""
    with tempfile.TemporaryDirectory(prefix="sd-opa-") as folder:
        path = Path(folder) / "s"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):  # the test is over
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.recv(65536)
                        talk(connection)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield opa.OpaPolicy(lambda _: path, lambda: "t", timeout_s=lambda: 0.5)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def sends(head: str, content: bytes) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 {head}\r\n\r\n".encode() + content)

    return talk


def drips(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(50):
        connection.sendall(b" ")
        time.sleep(0.1)


def floods(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b" " * 65536)


STALE = json.dumps({"result": {"allow": True, "revision": "r", "asked": "of yesterday"}}).encode()


@pytest.mark.fault("G2", "G3", "G5", "G6", "G7", "G9")
@pytest.mark.parametrize(
    ("talk", "why"),
    [
        (drips, "OPA did not answer within 0.5 s"),
        (floods, "OPA's answer cannot be used: the answer is larger than"),
        (sends("200 OK", STALE), "the decision answers another question"),
        (sends("200 OK", b"<html>"), "OPA's answer is not JSON"),
        (sends("200 OK", b"{}"), "OPA has no decision for canary"),
        (sends("301 Moved\r\nLocation: /v1/data", b""), "OPA answered with a redirect (HTTP 301)"),
        (sends("429 Slow", b""), "OPA answered HTTP 429"),
        (sends("401 No", b"{}"), "OPA refused our token"),
        (sends("200 OK\r\nContent-Encoding: gzip", b"x"), "OPA's answer cannot be used: the answer is compressed"),
        (sends("200 OK\r\nContent-Length: 99", STALE[:50]), "OPA's answer cannot be used"),
        (lambda connection: None, "OPA's answer cannot be used"),
    ],
)
def test_what_is_not_opa_decides_nothing(talk: Callable[[socket.socket], None], why: str) -> None:
    with impostor(talk) as port:
        verdict = port.evaluate("canary", {"error_rate": 0}, "r")
        assert (verdict.known, verdict.allow) == (False, False)
        assert verdict.reason.startswith(why)
        assert port.ready("r")[0] is False


@pytest.mark.fault("G15")
def test_a_token_that_cannot_be_read_is_unknown() -> None:
    def token() -> str:
        raise StateError("/run/opa-token: permission denied")

    port = opa.OpaPolicy(lambda _: Path("/nowhere"), token)
    assert port.evaluate("canary", {}, "r").reason == "/run/opa-token: permission denied"
    assert port.prepare("r").outcome is Outcome.FAILED


# --- what it shares with us ----------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


def test_the_token_is_ours_alone_and_opa_gets_its_digest(tmp_path: Path) -> None:
    token = opa.ensure_token(tmp_path / "run")
    assert len(token) == 64
    assert opa.ensure_token(tmp_path / "run") == token
    assert mode(tmp_path / "run" / "opa-token") == 0o600
    given = tmp_path / "run" / "opa-auth"
    assert [path.name for path in given.iterdir()] == ["auth.json"]
    assert token not in (given / "auth.json").read_text()
    assert mode(given / "auth.json") == 0o644
    assert mode(given) == 0o755
    assert token != opa.ensure_token(tmp_path / "other")


def test_a_token_that_others_could_read_or_that_is_none_is_put_right(tmp_path: Path) -> None:
    token = opa.ensure_token(tmp_path)
    (tmp_path / "opa-token").chmod(0o644)
    (tmp_path / "opa-auth" / "auth.json").write_text('{"swiftdeploy_auth": {"token_sha256": "mine"}}')
    assert opa.ensure_token(tmp_path) == token
    assert mode(tmp_path / "opa-token") == 0o600
    assert "mine" not in (tmp_path / "opa-auth" / "auth.json").read_text()
    for wrong in ("", "short", "G" * 64, "ü" * 64):
        (tmp_path / "opa-token").write_text(wrong)
        assert len(opa.ensure_token(tmp_path)) == 64


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(StateError, match="run"):
        opa.ensure_token(tmp_path / "run")


def test_links_in_place_of_the_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "opa-auth").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError):
        opa.ensure_token(tmp_path)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_sockets_folder_is_opas_alone(tmp_path: Path) -> None:
    owner = (54321, 54322) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    port = opa.OpaPolicy(
        lambda revision: opa.socket_path(tmp_path, revision), lambda: opa.ensure_token(tmp_path), owner=owner
    )
    for _ in range(2):
        assert port.prepare("c" * 64).outcome is Outcome.OK
    folder = tmp_path / "opa" / ("c" * 12)
    assert mode(folder) == 0o700
    assert (folder.stat().st_uid, folder.stat().st_gid) == owner


def test_nobody_but_the_owner_of_the_socket_gets_to_it(running: Engine) -> None:
    assert mode(running.socket_for(running.revision)) & 0o077 == 0
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    pid = os.fork()
    if pid == 0:
        os.setgid(54321)
        os.setuid(54321)
        try:
            running.ask("GET", "/health")
        except HttpError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# --- in its container ----------------------------------------------------------------------------------------


class Contained:
    """OPA in the container that `policy.target` asks for."""

    def __init__(self, client: Any, image: str, folder: Path) -> None:
        self.client = client
        run = folder / "run"
        uid, gid = opa.container_user()
        layout = Layout(str(folder / "rendered"), str(run), f"{uid}:{gid}")
        observed = ObservedImage(image, client.inspect_image(image)["Id"], image)
        self.target = policy.target(desired(), observed, layout)
        for name, text in self.target.files.items():
            (folder / "rendered" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "rendered" / name).write_text(text)
        self.socket = opa.socket_path(run, self.target.revision)
        self.port = opa.OpaPolicy(lambda _: self.socket, lambda: opa.ensure_token(run))
        assert self.port.prepare(self.target.revision).outcome is Outcome.OK
        name = f"swiftdeploy-test-opa-{os.getpid()}"
        request = container_request(CreateContainer(name, self.target.spec, None, ()), None)
        self.id = str(client.create_container_from_config(request, name)["Id"])
        client.start(self.id)

    def inspect(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.inspect_container(self.id)
        return found

    def wait(self) -> None:
        deadline = time.monotonic() + 30
        while not (state := self.port.ready(self.target.revision))[0] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert state[0], f"{state[1]}\n{self.client.logs(self.id).decode()}"


@pytest.fixture(scope="module")
def contained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contained]:
    client = docker.APIClient(timeout=60)
    image = LocalImages(client, cache_directory(os.environ, Path.home())).opa()
    started = Contained(client, image, tmp_path_factory.mktemp("contained"))
    try:
        started.wait()
        yield started
    finally:
        client.remove_container(started.id, force=True)
        client.close()


@pytest.mark.engine
def test_a_contained_opa_decides(contained: Contained) -> None:
    revision = contained.target.revision
    assert contained.port.evaluate("infrastructure", ROOM, revision).allow
    denied = contained.port.evaluate("infrastructure", {**ROOM, "disk_free_gb": 1}, revision)
    assert (denied.known, denied.allow, denied.reason) == (True, False, "Disk space below 10GB")


@pytest.mark.engine
def test_a_contained_opa_has_no_wire_and_no_rights(contained: Contained) -> None:
    found = contained.inspect()
    host, config = found["HostConfig"], found["Config"]
    assert list(found["NetworkSettings"]["Networks"]) == ["none"]
    assert found["NetworkSettings"]["IPAddress"] == ""
    assert not found["NetworkSettings"]["Ports"]
    assert host["NetworkMode"] == "none"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert config["User"].split(":")[0] not in ("", "0", "root")
    assert host["Memory"] == 256 * 1024 * 1024
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert {mount["Destination"]: mount["RW"] for mount in found["Mounts"]} == {
        "/policy": False,
        "/auth": False,
        "/run/opa": True,
    }
    interfaces = Path(f"/proc/{found['State']['Pid']}/net/dev")
    if interfaces.exists():
        assert [line.split(":")[0].strip() for line in interfaces.read_text().splitlines()[2:]] == ["lo"]


@pytest.mark.engine
def test_a_contained_opa_that_is_killed_comes_back_on_its_stale_socket(contained: Contained) -> None:
    before = contained.inspect()["State"]
    bound = contained.socket.stat().st_ctime_ns
    try:
        os.kill(before["Pid"], signal.SIGKILL)
    except (PermissionError, ProcessLookupError):
        contained.client.kill(contained.id)
        contained.client.start(contained.id)
    deadline = time.monotonic() + 30
    while contained.inspect()["State"]["Pid"] in (0, before["Pid"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    contained.wait()
    assert contained.socket.stat().st_ctime_ns != bound
    assert contained.inspect()["State"]["StartedAt"] != before["StartedAt"]


@pytest.mark.engine
def test_a_contained_opa_stops_at_once_and_leaves_its_socket(contained: Contained) -> None:
    before = time.monotonic()
    contained.client.stop(contained.id, timeout=10)
    assert time.monotonic() - before < 5
    assert contained.socket.exists()
    verdict = contained.port.evaluate("infrastructure", ROOM, contained.target.revision)
    assert (verdict.known, verdict.allow) == (False, False)
    contained.client.start(contained.id)
    contained.wait()
