"""What a real nginx makes of our text: processes on loopback, no containers.

Runs where an `nginx` is on PATH, or where SWIFTDEPLOY_NGINX names one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import http.server
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
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from reconciler.core.desired import Nginx, Route
from reconciler.core.observed import Slot
from reconciler.formats import tester
from reconciler.formats.ingress_log import tally
from reconciler.formats.nginx import ACCEL_HEADERS, ProxyView, Upstreams, config_hash, probe_path, render

NGINX = os.environ.get("SWIFTDEPLOY_NGINX") or shutil.which("nginx") or ""
pytestmark = pytest.mark.skipif(not NGINX, reason="no nginx here (PATH or SWIFTDEPLOY_NGINX)")

LIMIT_S = 10.0


def eventually(is_so: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < end, f"not within {LIMIT_S} s: {what}"
        time.sleep(0.01)


# ── backends ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Backend(http.server.BaseHTTPRequestHandler):
    """Answers what the path asks for; `/` tells what arrived."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Application

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path))
        if path.startswith("/status/"):
            return self.answer(int(path.split("/")[2]), b"from the service")
        if path == "/slow":
            time.sleep(1.5)
        if path == "/accel":
            return self.answer(200, b"from the service", json.loads(self.headers["X-Want"]))
        if path == "/large":
            return self.answer(200, b"x" * 20_000_000)
        if path == "/stream":
            return self.stream()
        if path == "/abort":
            self.close_connection = True
            return None
        if path == "/truncated":
            return self.truncated()
        if self.headers.get("Upgrade") == "websocket":
            return self.tunnel()
        got = {name.lower(): self.headers.get_all(name) for name in self.headers}
        answer = {
            "name": self.server.label,
            "headers": got,
            "body": hashlib.sha256(body).hexdigest(),
            "path": self.path,
        }
        return self.answer(200, json.dumps(answer).encode(), self.server.extra)

    do_POST = do_PUT = do_DELETE = do_GET

    def answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"7\r\ndata: 1\r\n")
        self.wfile.flush()
        self.server.release.wait(LIMIT_S)
        self.wfile.write(b"0\r\n\r\n")

    def truncated(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"half")
        self.close_connection = True

    def tunnel(self) -> None:
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        self.wfile.flush()
        while received := self.connection.recv(1024):
            self.connection.sendall(received.upper())
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


class Application(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, label: str, extra: Mapping[str, str] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Backend)
        self.label = label
        self.extra = extra or {}
        self.connections = 0
        self.seen: list[tuple[str, str]] = []
        self.release = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def member(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def stop(self) -> None:
        self.release.set()
        self.shutdown()
        self.server_close()


@pytest.fixture
def start() -> Iterator[Callable[..., Application]]:
    running: list[Application] = []

    def started(label: str = "blue", **extra: str) -> Application:
        running.append(Application(label, {name.replace("_", "-"): value for name, value in extra.items()}))
        return running[-1]

    yield started
    for each in running:
        each.stop()


# ── nginx ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nginx_version() -> tuple[int, ...]:
    said = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"nginx/([\d.]+)", said)
    assert found
    return tuple(int(part) for part in found[1].split("."))


def dead_member() -> str:
    return f"127.0.0.1:{free_port()}"


@dataclasses.dataclass
class Proxy:
    folder: Path
    view: ProxyView
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.write()
        self.process = subprocess.Popen(
            [NGINX, "-e", "stderr", "-c", str(self.folder / "nginx.conf")],
            stdout=(self.folder / "access.log").open("ab"),
            stderr=(self.folder / "error.log").open("ab"),
        )
        eventually(lambda: self.live_hash() == config_hash(render(self.view)), f"nginx is up: {self.errors()}")

    def write(self) -> str:
        text = render(self.view)
        (self.folder / "nginx.conf").write_text(text)
        tested = subprocess.run(
            [NGINX, "-e", "stderr", "-t", "-c", str(self.folder / "nginx.conf")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert tested.returncode == 0, tested.stderr
        assert "[warn]" not in tested.stderr.replace('[warn] the "user" directive', "")
        return text

    def reload(self, view: ProxyView) -> None:
        assert self.process
        self.view = view
        text = self.write()
        self.process.send_signal(signal.SIGHUP)
        eventually(lambda: self.live_hash() == config_hash(text), "the new configuration is live")

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.terminate()
                self.process.wait(LIMIT_S)

    def private(self, path: str) -> str:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(LIMIT_S)
            line.connect(self.view.socket_path)
            line.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            return b"".join(iter(lambda: line.recv(65536), b"")).decode().partition("\r\n\r\n")[2]

    def live_hash(self) -> str:
        with contextlib.suppress(OSError):
            return self.private("/hash").split(" ")[0]
        return ""

    def errors(self) -> str:
        return (self.folder / "error.log").read_text()

    def access_lines(self) -> list[str]:
        return (self.folder / "access.log").read_text().splitlines()

    def counted(self) -> Mapping[str, tuple[int, int]]:
        """Requests and errors by address; nginx keeps them to itself for a second at most."""
        self.stop()
        self.process = None
        found = tally((self.folder / "evidence.log").read_bytes())
        assert found.damaged == 0
        return {address: (each.requests, each.errors) for address, each in found.by_address.items()}

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.view.nginx.port, timeout=LIMIT_S)

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        line = self.connect()
        try:
            line.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = line.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            line.close()

    def raw(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.view.nginx.port), LIMIT_S) as line:
            line.sendall(request)
            with contextlib.suppress(ConnectionError):
                return b"".join(iter(lambda: line.recv(65536), b""))
            return b""

    def weigh(self, service: str, weight: int) -> None:
        """Link the service's flags to a set of buckets 0 to weight-1, atomically."""
        sets = self.folder / "sets"
        prepared = sets / str(weight)
        prepared.mkdir(parents=True, exist_ok=True)
        for bucket in range(weight):
            (prepared / str(bucket)).touch()
        flags = Path(self.view.flags_dir)
        flags.mkdir(exist_ok=True)
        (flags / f".{service}").symlink_to(prepared)
        (flags / f".{service}").rename(flags / service)


def service(name: str = "app", route: Route | None = None, **members: str) -> Upstreams:
    """A service whose slots have one member each, as given."""
    by_slot = {Slot(slot): (member,) for slot, member in members.items()}
    return Upstreams(name, Slot.BLUE, by_slot, route or Route(), False, False, ("/metrics", "/Health"), "/ping")


SECRET = "Aa.b+c/d=e-_0123"


def admit(view: ProxyView) -> None:
    """The included files of services with a tester's header, all with one secret."""
    for each in view.upstreams:
        if each.tester:
            folder = Path(view.testers_dir)
            folder.mkdir(exist_ok=True)
            (folder / tester.map_name(each.service, each.tester)).write_text(tester.map_text(SECRET))


@pytest.fixture
def proxy() -> Iterator[Callable[..., Proxy]]:
    running: list[Proxy] = []
    folder = Path(tempfile.mkdtemp(prefix="sd-nginx-"))
    folder.chmod(0o755)

    def started(*services: Upstreams, timeout_s: float = 5.0) -> Proxy:
        view = ProxyView(
            nginx=Nginx("nginx", free_port(), timeout_s, contact="Ops <ops@example.com>"),
            upstreams=services,
            flags_dir=str(folder / "flags"),
            socket_path=str(folder / "nginx.sock"),
            project="demo",
            supports_min_timeout=nginx_version() >= (1, 27, 4),
            temp_dir=str(folder),
            evidence_log=str(folder / "evidence.log"),
            testers_dir=str(folder / tester.MAPS),
        )
        admit(view)
        running.append(Proxy(folder, view))
        running[-1].start()
        return running[-1]

    yield started
    for each in running:
        each.stop()
    shutil.rmtree(folder)


# ── the private listener ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_private_listener_answers_hash_and_worker(proxy, start):
    running = proxy(service(blue=start().member))
    said, pid = running.private("/hash").split()
    assert said == config_hash(render(running.view))
    os.kill(int(pid), 0)
    assert "Active connections" in running.private("/stub")


def test_the_private_listener_is_not_reachable_from_the_public_one(proxy, start):
    running = proxy(service(blue=start("blue").member))
    for path in ("/hash", "/stub"):
        assert json.loads(running.ask(path)[2])["name"] == "blue"


@pytest.mark.fault("I2")
def test_a_reload_is_seen_by_its_hash(proxy, start):
    running = proxy(service(blue=start("first").member))
    before = running.live_hash()
    running.reload(dataclasses.replace(running.view, upstreams=(service(blue=start("second").member),)))
    eventually(lambda: before not in {running.live_hash() for _ in range(20)}, "old workers no longer answer")
    assert json.loads(running.ask("/")[2])["name"] == "second"


# ── answers of nginx's own ─────────────────────────────────────────────────────────────────────────────────────────


def is_ours(answer: tuple[int, http.client.HTTPMessage, bytes], code: int, error: str) -> None:
    status, headers, body = answer
    assert status == code
    assert headers["Content-Type"] == "application/json"
    assert headers.get_all("X-Deployed-By") == ["swiftdeploy"]
    assert headers["Server"] == "nginx"
    assert json.loads(body) == {
        "error": error,
        "code": str(code),
        "service": "app",
        "contact": "Ops <ops@example.com>",
    }


def test_a_dead_backend_is_a_502_in_json(proxy):
    is_ours(proxy(service(blue=dead_member())).ask("/"), 502, "Bad Gateway")


@pytest.mark.fault("I7")
def test_a_service_without_containers_is_a_503_in_json(proxy):
    running = proxy(service())
    is_ours(running.ask("/"), 503, "Service Unavailable")
    is_ours(running.ask("/", "POST", b"x" * 5_000_000), 503, "Service Unavailable")
    running.weigh("app", 100)
    is_ours(running.ask("/"), 503, "Service Unavailable")


def test_a_late_backend_is_a_504_in_json_and_is_asked_once(proxy, start):
    late = start()
    running = proxy(service(blue=late.member), timeout_s=0.3)
    is_ours(running.ask("/slow"), 504, "Gateway Timeout")
    assert late.seen == [("GET", "/slow")]


def test_a_services_own_error_passes_untouched(proxy, start):
    running = proxy(service(blue=start().member))
    for code in (400, 403, 404, 422, 429, 500, 502, 503, 504):
        status, headers, body = running.ask(f"/status/{code}")
        assert (status, body) == (code, b"from the service")
        assert headers.get_all("X-Deployed-By") == ["swiftdeploy"]


def test_the_mode_passes_and_the_deployer_is_named_once(proxy, start):
    backend = start(X_Mode="canary", X_Deployed_By="somebody", X_Served_By="somebody")
    _, headers, _ = proxy(service(blue=backend.member)).ask("/")
    assert headers.get_all("X-Mode") == ["canary"]
    assert headers.get_all("X-Deployed-By") == ["swiftdeploy"]
    assert headers.get_all("X-Served-By") == ["app-blue"]


# ── hostile ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_backend_cannot_jump_into_a_location(proxy, start):
    running = proxy(service(blue=start().member))
    for target in ("/hash", "/stub", "@bad_gateway", "@unavailable", "@timeout", "/", "/chaos", "//nowhere/", "x"):
        want = {name: target if name == "X-Accel-Redirect" else "1" for name in ACCEL_HEADERS}
        status, headers, body = running.ask("/accel", X_Want=json.dumps(want))
        assert (status, body) == (200, b"from the service")
        assert not [name for name in headers if name.lower().startswith("x-accel")]


# fmt: off
REFUSED = (
    "/chaos", "/chaos/", "/chaos?x=1", "/chaos/x", "//chaos", "///chaos//", "/%63haos", "/%63%68%61%6f%73",
    "/./chaos", "/x/../chaos", "/x/..%2fchaos", "/%2e/chaos", "/x/%2e%2e/chaos", "/%2fchaos", "/CHAOS", "/Chaos",
    "/chaos;x=1", "/chaos.json", "/chaos%20", "/chaos%09", "/chaos%2f", "/chaos%3f", "/chaos%23", "/chaos:x",
    "/chaos,", "/chaos%0d%0aX:1", "/chaos%5c"
)
# fmt: on


def test_chaos_is_refused_however_it_is_written(proxy, start):
    backend = start()
    running = proxy(service(blue=backend.member))
    for path in REFUSED:
        for method in ("GET", "POST", "PUT", "DELETE"):
            is_ours(running.ask(path, method), 403, "Forbidden")
    assert not backend.seen


def test_chaos_is_refused_in_absolute_form_and_to_any_host(proxy, start):
    backend = start()
    running = proxy(service(blue=backend.member))
    for request in (
        b"POST http://x/chaos HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n",
        b"POST /chaos HTTP/1.0\r\n\r\n",
        b"POST /chaos\x00 HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n",
        b"POST \\chaos HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n",
    ):
        assert running.raw(request).split(b" ")[1] in (b"403", b"400"), request
    assert not backend.seen


def test_what_only_looks_like_chaos_passes(proxy, start):
    backend = start()
    running = proxy(service(blue=backend.member))
    paths = ["/chaosmonkey", "/chaos-theory", "/chaos_x", "/x/chaos", "/cha", "/?chaos", "/%2563haos"]
    assert {running.ask(path)[0] for path in paths} == {200}
    assert backend.seen == [("GET", path) for path in paths]


def test_chaos_where_allowed_goes_to_the_canary_while_there_is_one(proxy, start):
    allowed = dataclasses.replace(service(blue=start("blue").member, green=start("green").member), chaos=True)
    running = proxy(allowed)
    answers = []
    for weight in (0, 1, 50, 0):
        running.weigh("app", weight)
        answers.append({json.loads(running.ask("/chaos", "POST")[2])["name"] for _ in range(20)})
    assert answers == [{"blue"}, {"green"}, {"green"}, {"blue"}]


def test_a_client_cannot_forge_what_the_proxy_says(proxy, start):
    backend = start()
    running = proxy(service(blue=backend.member))
    _, _, body = running.ask(
        "/",
        X_Forwarded_For="6.6.6.6", X_Real_IP="6.6.6.6", X_Forwarded_Proto="https", X_Forwarded_Host="evil",
        X_Request_Id="mine", Forwarded="for=6.6.6.6", X_Original_URL="/chaos", X_Rewrite_URL="/chaos", Proxy="http://evil",
        X_Forwarded_Prefix="/x",
    )  # fmt: skip
    got = json.loads(body)["headers"]
    host = f"127.0.0.1:{running.view.nginx.port}"
    assert re.fullmatch("[0-9a-f]{32}", got.pop("x-request-id")[0])
    assert got == {
        "host": [host],
        "x-real-ip": ["127.0.0.1"],
        "x-forwarded-for": ["127.0.0.1"],
        "x-forwarded-host": [host],
        "x-forwarded-port": [str(running.view.nginx.port)],
        "x-forwarded-proto": ["http"],
        "accept-encoding": ["identity"],
    }


def test_only_websockets_upgrade(proxy, start):
    running = proxy(service(blue=start().member))
    _, _, body = running.ask(
        "/", Upgrade="h2c", Connection="Upgrade, HTTP2-Settings", HTTP2_Settings="AAMAAABkAAQAAP__"
    )
    got = json.loads(body)["headers"]
    assert "upgrade" not in got
    assert "connection" not in got
    request = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.view.nginx.port), LIMIT_S) as line:
        line.sendall(request)
        assert line.recv(4096).startswith(b"HTTP/1.1 101 ")
        for word in (b"hello", b"again"):
            line.sendall(word)
            assert line.recv(100) == word.upper()


# ── traffic ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_flags_move_the_share_and_losing_them_means_the_default(proxy, start):
    running = proxy(service(blue=start("blue").member, green=start("green").member))
    line = running.connect()

    def share(requests: int = 2000) -> float:
        names: Counter[str] = Counter()
        for _ in range(requests):
            line.request("GET", "/")
            answer = line.getresponse()
            answer.read()
            names[answer.headers["X-Served-By"]] += 1
        return names["app-green"] / requests

    assert share(200) == 0
    for weight, low, high in ((5, 0.03, 0.08), (25, 0.21, 0.29), (50, 0.45, 0.55), (100, 1, 1), (0, 0, 0)):
        running.weigh("app", weight)
        assert low <= share() <= high, weight
    running.weigh("app", 100)
    (Path(running.view.flags_dir) / "app").unlink()
    assert share(200) == 0


@pytest.mark.fault("I14")
def test_no_request_is_lost_while_the_weight_moves(proxy, start):
    blue, green = start("blue"), start("green")
    running = proxy(service(blue=blue.member, green=green.member))
    with load(running) as counted:
        for _ in range(4):
            for weight in (5, 25, 50, 100, 0):
                running.weigh("app", weight)
                time.sleep(0.05)
    assert set(counted) == {200}
    assert counted[200] > 500
    assert green.seen


@pytest.mark.fault("I14")
@pytest.mark.skipif(bool(NGINX) and nginx_version() < (1, 27, 4), reason="reloads lose requests before nginx 1.27.4")
def test_no_request_is_lost_while_members_change(proxy, start):
    backends = [start(str(number)) for number in range(4)]
    running = proxy(service(blue=backends[0].member, green=backends[1].member))
    with load(running) as counted:
        for number in (2, 3, 1):
            changed = service(blue=backends[0].member, green=backends[number].member)
            running.reload(dataclasses.replace(running.view, upstreams=(changed,)))
            time.sleep(0.2)
            running.weigh("app", 100)
            time.sleep(0.2)
            running.weigh("app", 0)
            time.sleep(1.2)
    assert set(counted) == {200}
    assert all(backend.seen for backend in backends)


@contextlib.contextmanager
def load(running: Proxy, clients: int = 8) -> Iterator[Counter[object]]:
    """Naive keep-alive clients, half of them posting, until the block ends; counts statuses and exceptions."""
    counted: Counter[object] = Counter()
    over = threading.Event()
    lock = threading.Lock()

    def client(number: int) -> None:
        line = running.connect()
        while not over.is_set():
            try:
                line.request("POST" if number % 2 else "GET", "/", b"x" * 100 if number % 2 else None)
                answer = line.getresponse()
                answer.read()
                result: object = answer.status
            except (OSError, http.client.HTTPException) as error:
                result = repr(error)
                line = running.connect()
            with lock:
                counted[result] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield counted
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_connections_to_a_backend_are_kept(proxy, start):
    backend = start()
    running = proxy(service(blue=backend.member))
    line = running.connect()
    for _ in range(200):
        line.request("GET", "/")
        line.getresponse().read()
    assert backend.connections <= 3


@pytest.mark.fault("B22")
def test_a_dead_member_costs_no_request(proxy, start):
    alive = start()
    members = {Slot.BLUE: (alive.member, dead_member())}
    running = proxy(Upstreams("app", Slot.BLUE, members, Route(), False, False))
    assert {running.ask("/", method)[0] for _ in range(20) for method in ("GET", "POST")} == {200}


def test_a_post_that_failed_midway_is_not_sent_again(proxy, start):
    backends = [start("a"), start("b")]
    members = {Slot.BLUE: tuple(backend.member for backend in backends)}
    running = proxy(Upstreams("app", Slot.BLUE, members, Route(), False, False), timeout_s=0.3)
    for path, status in (("/slow", 504), ("/abort", 502)):
        assert running.ask(path, "POST", b"order")[0] == status
        assert [seen for backend in backends for seen in backend.seen if seen[1] == path] == [("POST", path)]
    assert running.ask("/abort")[0] == 502
    assert [len([seen for seen in backend.seen if seen == ("GET", "/abort")]) for backend in backends] == [1, 1]


def test_large_bodies_pass_both_ways(proxy, start):
    running = proxy(service(blue=start().member))
    body = os.urandom(20_000_000)
    assert json.loads(running.ask("/", "POST", body)[2])["body"] == hashlib.sha256(body).hexdigest()
    assert len(running.ask("/large")[2]) == 20_000_000
    status, _, _ = running.ask("/", "POST", b"", Content_Length="67108865")
    assert status == 413


def test_a_stream_arrives_as_it_is_sent(proxy, start):
    backend = start()
    line = proxy(service(blue=backend.member)).connect()
    line.request("GET", "/stream")
    answer = line.getresponse()
    assert answer.read1(100) == b"data: 1"
    backend.release.set()


def test_a_truncated_answer_is_seen_as_one(proxy, start):
    with pytest.raises(http.client.IncompleteRead):
        proxy(service(blue=start().member)).ask("/truncated")


def test_a_sticky_client_stays_and_others_spread(proxy, start):
    both = service(blue=start("blue").member, green=start("green").member)
    running = proxy(dataclasses.replace(both, sticky=True))
    running.weigh("app", 50)
    seen = set()
    for _ in range(40):
        _, headers, body = running.ask("/")
        cookie, *attributes = headers["Set-Cookie"].split("; ")
        assert attributes == ["Path=/", "Max-Age=86400", "HttpOnly", "SameSite=Lax"]
        assert headers.get_all("X-Deployed-By") == ["swiftdeploy"]
        name = json.loads(body)["name"]
        seen.add(name)
        for _ in range(5):
            _, headers, body = running.ask("/", Cookie=f"a=b; {cookie}")
            assert json.loads(body)["name"] == name
            assert headers["Set-Cookie"] is None
    assert seen == {"blue", "green"}
    assert running.ask("/", Cookie="swiftdeploy=../../etc")[1]["Set-Cookie"].startswith("swiftdeploy=")


# ── routes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_unknown_hosts_are_cut_off_only_when_hosts_are_declared(proxy, start):
    one = service("one", Route(host="one.example.com"), blue=start("one").member)
    any_host = service("any", blue=start("any").member)
    running = proxy(one)
    assert json.loads(running.ask("/", Host="one.example.com:81")[2])["headers"]["host"] == ["one.example.com:81"]
    assert running.ask("/", Host="ONE.example.com")[0] == 200
    for host in ("two.example.com", "127.0.0.1", "one.example.com.evil", "xone.example.com"):
        with pytest.raises(http.client.RemoteDisconnected):
            running.ask("/", Host=host)
    running.reload(dataclasses.replace(running.view, upstreams=(any_host, one)))
    eventually(lambda: running.raw(b"GET / HTTP/1.0\r\nHost: z\r\n\r\n") != b"", "old workers are gone")
    assert json.loads(running.ask("/", Host="two.example.com")[2])["name"] == "any"
    assert json.loads(running.ask("/", Host="one.example.com")[2])["name"] == "one"


def test_a_prefix_is_a_whole_segment(proxy, start):
    root, below = start("root"), start("below")
    running = proxy(service("root", blue=root.member), service("below", Route(path="/api/v1.0"), blue=below.member))
    served = {
        path: json.loads(running.ask(path)[2])
        for path in ("/", "/api/v1.0", "/api/v1.0/x?y", "/api/v1.0x", "/api/v1x0/")
    }
    assert {path: answer["name"] for path, answer in served.items()} == {
        "/": "root", "/api/v1.0": "below", "/api/v1.0/x?y": "below", "/api/v1.0x": "root", "/api/v1x0/": "root",
    }  # fmt: skip
    assert {answer["path"] for answer in served.values()} == set(served)
    assert running.ask("/api/v1.0/chaos", "POST")[0] == 403


def test_what_no_service_serves_is_a_404_in_json(proxy, start):
    running = proxy(service("app", Route(path="/api"), blue=start().member))
    is_ours(running.ask("/other"), 404, "Not Found")


# ── the log ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_access_log_has_the_guides_line(proxy, start):
    backend = start()
    running = proxy(service(blue=backend.member))
    running.ask("/path?x=1")
    eventually(lambda: bool(running.access_lines()), "a line is written")
    (line,) = running.access_lines()
    moment, status, took, upstream, request = line.split(" | ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", moment)
    assert re.fullmatch(r"\d+\.\d{3}s", took)
    assert (status, upstream, request) == ("200", backend.member, "GET /path?x=1 HTTP/1.1")


def test_the_evidence_is_what_the_service_was_asked_for_and_no_more(proxy, start):
    blue = start()
    running = proxy(service("app", Route(path="/api"), blue=blue.member))
    for path in ("/api", "/api/x?/metrics", "/api/status", "/metrics/x", "/chaosx", "/api/chaos-monkey"):
        running.ask(path)
    asked = len(blue.seen)
    for path in ("/elsewhere", "/api/chaos", "/api/CHAOS;x", "/metrics", "/health"):
        running.ask(path)
    running.raw(b"nonsense\r\n\r\n")
    running.raw(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    running.private("/hash")
    assert asked == 4
    assert running.counted() == {"127.0.0.1": (4, 0)}


def test_what_the_service_is_asked_about_itself_is_no_evidence(proxy, start):
    running = proxy(service(blue=start().member))
    for path in ("/metrics", "/health", "/HEALTH", "/metrics?x=1", "//metrics", "/%6detrics", "/x/../health"):
        assert running.ask(path)[0] == 200
    assert running.counted() == {}


def test_an_error_that_nginx_makes_is_that_of_the_address_it_asked(proxy, start):
    running = proxy(service(blue=dead_member()), timeout_s=0.3)
    assert running.ask("/")[0] == 502
    assert running.counted() == {"127.0.0.1": (1, 1)}


def test_every_attempt_is_evidence(proxy, start):
    members = {Slot.BLUE: ("127.0.0.1:1", start().member)}
    both = dataclasses.replace(service(), members=members)
    running = proxy(both)
    for _ in range(4):
        assert running.ask("/")[0] == 200
    requests, errors = running.counted()["127.0.0.1"]
    assert errors >= 1
    assert requests == 4 + errors


def test_either_slot_can_be_asked_from_beside_and_is_counted(proxy, start):
    blue, green = start("blue"), start("green")
    running = proxy(service(blue=blue.member, green=green.member))
    for slot, backend in ((Slot.BLUE, blue), (Slot.GREEN, green)):
        answer = json.loads(running.private(probe_path("app", slot)))
        assert (answer["name"], answer["path"]) == (backend.label, "/ping")
        assert running.private(f"{probe_path('app', slot)}/x") != ""
        assert len(backend.seen) == 1
    assert running.counted() == {"127.0.0.1": (2, 0)}


def test_nginx_complains_about_nothing(proxy, start):
    running = proxy(service(blue=start().member))
    for path in ("/", "/chaos", "/status/500"):
        running.ask(path)
    running.raw(b"GET / HTTP/1.1\r\n\r\n")
    running.private("/hash")
    running.stop()
    running.process = None
    complaints = [line for line in running.errors().splitlines() if "[" in line and 'the "user" directive' not in line]
    assert complaints == []


# ── testers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_testers(start: Callable[..., Application], **changes: object) -> Upstreams:
    """A service with a tester's header, and a backend in each slot."""
    plain = service(blue=start("blue").member, green=start("green").member)
    return dataclasses.replace(plain, tester="0" * 16, **changes)  # type: ignore[arg-type]


def test_a_tester_gets_the_side_that_it_asks_for_and_its_secret_goes_no_further(proxy, start):
    running = proxy(with_testers(start))
    for weight, always, never in ((0, "blue", "blue"), (1, "green", "blue"), (99, "green", "blue")):
        running.weigh("app", weight)
        for wish, name in (("always", always), ("never", never), ("ALWAYS", always)):
            for _ in range(20):
                told = json.loads(running.ask("/", X_Canary=wish, X_Canary_Secret=SECRET)[2])
                assert told["name"] == name
                assert "x-canary-secret" not in told["headers"]
    running.stop()
    assert SECRET not in "\n".join(running.access_lines()) + running.errors()


@pytest.mark.parametrize("secret", ["", SECRET.lower(), SECRET[:-1], f"{SECRET}4", SECRET.replace(".", "x"), "1", ".*"])
def test_a_stranger_is_sent_where_everybody_is(proxy, start, secret):
    running = proxy(with_testers(start))
    running.weigh("app", 0)
    answers = {json.loads(running.ask("/", X_Canary="always", X_Canary_Secret=secret)[2])["name"] for _ in range(5)}
    running.weigh("app", 100)
    answers |= {json.loads(running.ask("/", X_Canary="never", X_Canary_Secret=secret)[2])["name"] for _ in range(5)}
    assert answers == {"blue", "green"}
    running.weigh("app", 50)
    for wish in ("always", "never"):
        names = [json.loads(running.ask("/", X_Canary=wish, X_Canary_Secret=secret)[2])["name"] for _ in range(60)]
        assert set(names) == {"blue", "green"}


def test_a_stickys_tester_steers_too_and_others_stay_where_they_were(proxy, start):
    running = proxy(with_testers(start, sticky=True))
    running.weigh("app", 50)
    cookie = f"swiftdeploy={'0' * 32}"
    usual = {json.loads(running.ask("/", Cookie=cookie)[2])["name"] for _ in range(10)}
    assert len(usual) == 1
    for wish, name in (("always", "green"), ("never", "blue")):
        answers = [running.ask("/", Cookie=cookie, X_Canary=wish, X_Canary_Secret=SECRET)[2] for _ in range(10)]
        assert {json.loads(answer)["name"] for answer in answers} == {name}


def test_only_what_nobody_steered_is_evidence(proxy, start):
    upstreams = with_testers(start)
    running = proxy(upstreams)
    running.weigh("app", 5)
    for wish in ("always", "never"):
        for _ in range(10):
            running.ask("/", X_Canary=wish, X_Canary_Secret=SECRET)
            running.ask("/status/500", X_Canary=wish, X_Canary_Secret=SECRET)
    for _ in range(10):
        running.ask("/", X_Canary="always", X_Canary_Secret="f" * 32)
        running.ask("/", X_Canary_Secret=SECRET)
        running.ask("/", X_Canary="sometimes", X_Canary_Secret=SECRET)
    assert sum(requests for requests, _ in running.counted().values()) == 30
    assert sum(errors for _, errors in running.counted().values()) == 0


def test_a_secret_that_is_not_at_hand_makes_nobody_a_tester(proxy, start):
    running = proxy(with_testers(start))
    (file,) = Path(running.view.testers_dir).iterdir()
    file.write_text(tester.map_text(None))
    running.reload(dataclasses.replace(running.view, project="again"))
    running.weigh("app", 1)
    names = Counter(
        json.loads(running.ask("/", X_Canary="always", X_Canary_Secret=SECRET)[2])["name"] for _ in range(40)
    )
    assert names["blue"] > 20
