"""An engine that refuses, stalls, vanishes or babbles: an act nobody saw end is neither done nor failed."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import socketserver
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.adapters.clock import monotonic
from reconciler.adapters.docker_engine import DockerEngine
from reconciler.core.errors import EffectUnknown, EngineError
from reconciler.core.plan import Outcome, PullImage, RemoveContainer, Result, StartContainer, StopContainer
from reconciler.ports import Wanted

WANTED = Wanted("p", "i1", "net", (), ())
OURS = {"Id": "c" * 64, "Config": {"Labels": {"io.swiftdeploy.project": "p", "io.swiftdeploy.instance": "i1"}}}

Reply = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Looks up what to do in the server's script: by "METHOD ending-of-path"."""

    protocol_version = "HTTP/1.1"
    server: FakeEngine

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""

    def say(self, status: int, answer: object) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, *events: object, before_the_end: Callable[[], object] = bool) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            line = json.dumps(event).encode() + b"\r\n"
            self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()
        before_the_end()
        self.wfile.write(b"0\r\n\r\n")

    def act(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {self.path}")
        for key, reply in self.server.script.items():
            method, ending = key.split(" ")
            if self.command == method and path.endswith(ending):
                reply(self)
                return
        self.say(404, {"message": f"No such thing: {path}"})

    do_GET = do_POST = do_DELETE = act


class FakeEngine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A server on a unix socket that speaks just enough of the Engine API."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Handler)
        self.asked: list[str] = []
        self.script: dict[str, Reply] = {
            "GET /version": say(200, {"ApiVersion": "1.41", "Version": "20.10.24", "Arch": "amd64"}),
            "GET /containers/json": say(200, []),
            "GET /networks": say(200, []),
            "GET /volumes": say(200, {"Volumes": None}),
        }
        self.release = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is part of the play."""


def say(status: int, answer: object) -> Reply:
    return lambda handler: handler.say(status, answer)


def hang(handler: Handler) -> None:
    handler.server.release.wait(10)


def reset(handler: Handler) -> None:
    handler.close_connection = True
    handler.connection.close()


def stop_halfway(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"Id":')
    handler.wfile.flush()
    reset(handler)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sd-") as name:
        yield Path(name)


@pytest.fixture
def fake(folder: Path) -> Iterator[FakeEngine]:
    server = FakeEngine(folder / "docker.sock")
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


def engine_at(path: Path) -> DockerEngine:
    return DockerEngine(f"unix://{path}", instance="i1", monotonic=monotonic, timeout_s=1.0, effect_timeout_s=1.0)


@pytest.fixture
def engine(fake: FakeEngine) -> Iterator[DockerEngine]:
    made = engine_at(Path(str(fake.server_address)))
    for left in reversed(range(20)):  # on a busy machine the first answer may take longer than its time
        try:
            made.observe(WANTED)
            break
        except EngineError:
            if not left:
                raise
    yield made
    made.close()


# ── no engine ──────────────────────────────────────────────────────────────────────────────────────────────────────


def refused(path: Path) -> tuple[str, Result]:
    engine = engine_at(path)
    with contextlib.closing(engine), pytest.raises(EngineError) as error:
        engine.observe(WANTED)
    return str(error.value), engine.apply(StartContainer("x"))


@pytest.mark.fault("B1")
def test_a_missing_socket_says_what_to_start(folder: Path) -> None:
    words, result = refused(folder / "none.sock")
    assert (
        words
        == f"There is no {folder}/none.sock. Is the Docker Engine installed and running? (`systemctl start docker`)"
    )
    assert result == Result(Outcome.FAILED, words)


@pytest.mark.fault("B1")
def test_a_socket_nobody_listens_on_says_what_to_start(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(folder / "docker.sock"))
    words, result = refused(folder / "docker.sock")
    assert "Nobody listens" in words
    assert result.outcome is Outcome.FAILED


@pytest.mark.fault("B1")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_a_socket_we_may_not_use_says_which_group_to_join(fake: FakeEngine) -> None:
    path = Path(str(fake.server_address))
    path.parent.chmod(0o755)
    path.chmod(0o600)
    os.seteuid(65534)
    try:
        words, result = refused(path)
    finally:
        os.seteuid(0)
    assert words == (
        f"Permission denied on {path}. Add this user to the group `docker` and sign in again, or run as root."
    )
    assert result.outcome is Outcome.FAILED


def test_a_missing_engine_is_a_bad_fact_and_no_crash(folder: Path) -> None:
    [(name, is_good, words)] = engine_at(folder / "none.sock").facts()
    assert (name, is_good) == ("docker engine", False)
    assert "systemctl start docker" in words


@pytest.mark.fault("A15", "B2")
def test_an_engine_that_comes_back_is_used_again(folder: Path) -> None:
    path = folder / "docker.sock"
    engine = engine_at(path)
    with pytest.raises(EngineError):
        engine.observe(WANTED)
    for _ in range(2):
        server = FakeEngine(path)
        assert engine.observe(WANTED).containers == ()
        server.shutdown()
        server.server_close()
        path.unlink()
    engine.close()


@pytest.mark.fault("B16")
def test_an_engine_that_was_replaced_by_an_older_one_is_asked_its_version_anew(
    fake: FakeEngine, engine: DockerEngine
) -> None:
    too_new = {"message": "client version 1.41 is too new. Maximum supported API version is 1.30"}
    fake.script["GET /version"] = say(200, {"ApiVersion": "1.30"})
    fake.script["GET /v1.41/networks"] = say(400, too_new)
    fake.script = {"GET /v1.41/networks": fake.script.pop("GET /v1.41/networks"), **fake.script}
    with pytest.raises(EngineError, match=r"does not speak API version 1\.41"):
        engine.observe(WANTED)
    assert engine.observe(WANTED).networks == ()


# ── an act whose end nobody saw ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("B3", "B31")
@pytest.mark.parametrize("trouble", [hang, reset, stop_halfway])
def test_an_act_without_an_answer_is_neither_done_nor_failed(
    fake: FakeEngine, engine: DockerEngine, trouble: Reply
) -> None:
    fake.script["GET /json"] = say(200, OURS)
    fake.script["POST /start"] = trouble
    fake.script["DELETE /" + "c" * 64] = trouble
    expected = {stop_halfway: {Outcome.UNKNOWN, Outcome.OK}}.get(trouble, {Outcome.UNKNOWN})
    assert engine.apply(StartContainer("x")).outcome in expected
    assert engine.apply(RemoveContainer("c" * 64)).outcome in expected


@pytest.mark.fault("B31", "B32")
@pytest.mark.parametrize("trouble", [hang, reset, stop_halfway, say(200, b"<html>"), say(200, b'{"Id": ')])
def test_a_look_without_an_answer_is_an_error_worth_another_look(
    fake: FakeEngine, engine: DockerEngine, trouble: Reply
) -> None:
    fake.script["GET /networks"] = trouble
    with pytest.raises(EffectUnknown) as error:
        engine.observe(WANTED)
    assert error.value.retryable


@pytest.mark.fault("B32")
@pytest.mark.parametrize("answer", [5, None, "text", {"a": 1}, [1, None, "x"], [[]]])
def test_an_answer_of_another_shape_is_an_empty_one_or_an_error(
    fake: FakeEngine, engine: DockerEngine, answer: object
) -> None:
    for path in ("/containers/json", "/networks", "/volumes"):
        fake.script[f"GET {path}"] = say(200, answer)
    with contextlib.suppress(EngineError):
        assert engine.observe(WANTED).containers == ()


@pytest.mark.fault("B15")
def test_a_refusal_is_a_failure_in_the_engines_words(fake: FakeEngine, engine: DockerEngine) -> None:
    fake.script["POST /start"] = say(500, {"message": "the moon is in the wrong house"})
    assert engine.apply(StartContainer("x")) == Result(
        Outcome.FAILED, "The engine says: the moon is in the wrong house"
    )


@pytest.mark.fault("B39")
def test_what_an_authorization_plugin_denies_is_neither_done_nor_seen(fake: FakeEngine, engine: DockerEngine) -> None:
    denied = say(403, {"message": "authorization denied by plugin opa-docker-authz: no containers today"})
    fake.script |= {"POST /start": denied, "GET /networks": denied}
    done = engine.apply(StartContainer("x"))
    assert (done.outcome, "no containers today" in done.detail) == (Outcome.FAILED, True)
    with pytest.raises(EngineError, match="no containers today"):
        engine.observe(WANTED)


@pytest.mark.fault("B29")
def test_a_container_that_vanishes_between_list_and_look_is_not_there(fake: FakeEngine, engine: DockerEngine) -> None:
    fake.script["GET /containers/json"] = say(200, [{"Id": "c" * 64}])
    assert engine.observe(WANTED).containers == ()


@pytest.mark.fault("B13")
def test_a_removal_that_is_under_way_is_pending(fake: FakeEngine, engine: DockerEngine) -> None:
    fake.script["GET /json"] = say(200, OURS)
    fake.script["DELETE /" + "c" * 64] = say(409, {"message": "removal of container x is already in progress"})
    result = engine.apply(RemoveContainer("c" * 64))
    assert result.outcome is Outcome.PENDING
    assert result.look_again_s is not None


@pytest.mark.fault("B29", "J9")
def test_nothing_is_removed_before_a_project_was_observed(fake: FakeEngine) -> None:
    engine = engine_at(Path(str(fake.server_address)))
    fake.script["GET /json"] = say(200, OURS)
    assert engine.apply(RemoveContainer("c" * 64)).outcome is Outcome.FAILED
    assert not [asked for asked in fake.asked if asked.startswith("DELETE")]
    engine.close()


# ── work beside the loop ───────────────────────────────────────────────────────────────────────────────────────────


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up, "it did not come true in time"
        time.sleep(0.01)


def test_a_graceful_stop_does_not_hold_up_the_loop(fake: FakeEngine) -> None:
    woken: list[str] = []
    path = Path(str(fake.server_address))
    engine = DockerEngine(f"unix://{path}", instance="i1", monotonic=monotonic, wake=woken.append)
    engine.observe(WANTED)
    fake.script["GET /json"] = say(200, OURS)

    def stop(handler: Handler) -> None:
        handler.server.release.wait(10)
        handler.say(204, b"")

    fake.script["POST /stop"] = stop
    begun = time.monotonic()
    for _ in range(3):
        assert engine.apply(StopContainer("c" * 64, 30.0)).outcome is Outcome.PENDING
    assert time.monotonic() - begun < 2
    assert len([asked for asked in fake.asked if "/stop" in asked]) == 1
    assert "t=30" in next(asked for asked in fake.asked if "/stop" in asked)
    fake.release.set()
    until(lambda: bool(woken))
    assert engine.apply(StopContainer("c" * 64, 30.0)).outcome is Outcome.OK
    engine.close()


def test_a_stop_that_failed_beside_the_loop_is_told_once(fake: FakeEngine) -> None:
    woken: list[str] = []
    path = Path(str(fake.server_address))
    engine = DockerEngine(f"unix://{path}", instance="i1", monotonic=monotonic, wake=woken.append)
    engine.observe(WANTED)
    fake.script["GET /json"] = say(200, OURS)

    def stop(handler: Handler) -> None:
        handler.server.release.wait(10)
        handler.say(500, {"message": "cannot kill"})

    fake.script["POST /stop"] = stop
    assert engine.apply(StopContainer("c" * 64, 30.0)).outcome is Outcome.PENDING
    fake.release.set()
    until(lambda: bool(woken))
    assert engine.apply(StopContainer("c" * 64, 30.0)) == Result(Outcome.FAILED, "The engine says: cannot kill")
    engine.close()


class Builds:
    """One image can be built here."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.built: list[str] = []

    def substitute_for(self, reference: str) -> str | None:
        return "local/nginx" if reference == "nginx:1" else None

    def build(self, reference: str) -> None:
        self.built.append(reference)
        if self.fails:
            raise EngineError("The disk is full.")


def pulling(fake: FakeEngine, builds: Builds, now: Callable[[], float]) -> tuple[DockerEngine, list[str]]:
    woken: list[str] = []
    path = Path(str(fake.server_address))
    return DockerEngine(f"unix://{path}", instance="i1", monotonic=now, images=builds, wake=woken.append), woken


def stream(*events: object) -> Reply:
    return lambda handler: handler.stream(*events)


@pytest.mark.fault("B9")
def test_an_error_in_a_pulls_stream_is_a_failure_with_a_growing_pause(fake: FakeEngine) -> None:
    now = [0.0]
    engine, woken = pulling(fake, Builds(), lambda: now[0])
    fake.script["POST /images/create"] = stream({"status": "Pulling"}, {"error": "toomanyrequests: slow down"})
    pauses = []
    for count in range(1, 9):
        assert engine.apply(PullImage("app:1")).outcome is Outcome.PENDING
        until(lambda count=count: len(woken) == count)  # type: ignore[misc]
        failed = engine.apply(PullImage("app:1"))
        assert failed.outcome is Outcome.FAILED
        assert "toomanyrequests: slow down" in failed.detail
        pauses.append(int(failed.detail.split()[-2]))
        now[0] += pauses[-1]
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600]
    assert engine.observe(Wanted("p", "i1", "net", ("app:1",), ())).images_failed.keys() == {"app:1"}
    engine.forget_image_failures()
    assert engine.observe(Wanted("p", "i1", "net", ("app:1",), ())).images_failed == {}
    engine.close()


def test_a_pull_tells_how_far_it_is_and_is_asked_for_once(fake: FakeEngine) -> None:
    engine, woken = pulling(fake, Builds(), monotonic)

    def slow(handler: Handler) -> None:
        handler.stream(
            {"id": "1", "status": "Pulling from library/app"},
            {"id": "a", "status": "Pull complete"},
            {"id": "b", "status": "Downloading"},
            before_the_end=lambda: handler.server.release.wait(10),
        )

    fake.script["POST /images/create"] = slow
    until(lambda: engine.apply(PullImage("app:1")).detail == "pulling app:1: 1 of 2 layers")
    assert len([asked for asked in fake.asked if "/images/create" in asked]) == 1
    fake.release.set()
    until(lambda: bool(woken))
    assert engine.observe(Wanted("p", "i1", "net", ("app:1",), ())).images_failed == {}
    engine.close()


def test_what_cannot_be_pulled_is_built_where_something_can_stand_in(fake: FakeEngine) -> None:
    builds = Builds()
    engine, woken = pulling(fake, builds, monotonic)
    fake.script["POST /images/create"] = say(500, {"message": "lookup registry: no such host"})
    engine.apply(PullImage("nginx:1"))
    until(lambda: bool(woken))
    assert builds.built == ["nginx:1"]
    fake.script["GET /images/json"] = say(
        200,
        [
            {"Id": "old", "Created": 1, "RepoTags": ["local/nginx:1.2"]},
            {"Id": "new", "Created": 2, "RepoTags": ["other:1", "local/nginx:1.3"]},
        ],
    )
    fake.script["GET /images/local/nginx:1.3/json"] = say(200, {"Id": "new", "Config": {"User": "101"}})
    seen = engine.observe(Wanted("p", "i1", "net", ("nginx:1",), ()))
    assert seen.images["nginx:1"].used == "local/nginx:1.3"
    assert seen.images["nginx:1"].is_substitute
    assert seen.images_failed == {}
    engine.close()


def test_a_build_that_fails_too_tells_both_reasons(fake: FakeEngine) -> None:
    engine, woken = pulling(fake, Builds(fails=True), monotonic)
    fake.script["POST /images/create"] = say(500, {"message": "lookup registry: no such host"})
    engine.apply(PullImage("nginx:1"))
    until(lambda: bool(woken))
    failed = engine.apply(PullImage("nginx:1"))
    assert "no such host" in failed.detail
    assert "The disk is full." in failed.detail
    engine.close()


def test_a_bug_in_a_build_is_a_failure_and_not_a_pull_for_ever(
    fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = Builds()
    monkeypatch.setattr(builds, "build", lambda _reference: 1 / 0)
    monkeypatch.setattr(threading, "excepthook", lambda _arguments: None)
    engine, woken = pulling(fake, builds, monotonic)
    fake.script["POST /images/create"] = say(500, {"message": "no such host"})
    engine.apply(PullImage("nginx:1"))
    until(lambda: bool(woken))
    failed = engine.apply(PullImage("nginx:1"))
    assert failed.outcome is Outcome.FAILED
    assert "bug" in failed.detail
    engine.close()
