"""Ways to OPA for somebody who must not have one. Each probe answers with the holes it found, in words.

Two witnesses: what came back, and what OPA itself has read. A byte that reaches OPA moves its process's count of
bytes read, whoever sent it and whatever was answered; at rest that count stands still.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.e2e.stack import IMAGE, Stack

SHORTEST_REQUEST_BYTES = len(b"GET / HTTP/1.0\r\n\r\n")
ANSWER_LIMIT_S = 10.0
USUAL_PORTS = (8181, 8182, 8282)
LISTENS = "0A"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)

SERVICE_SHAPES: tuple[set[str], ...] = (
    {"message", "mode", "version", "timestamp"},
    {"message", "bytes", "mode", "version", "timestamp"},
    {"status", "uptime_seconds", "mode", "version"},
    {"error", "message"},
)
NGINX_SHAPE = {"error", "code", "service", "contact"}
NGINX_PAGE = re.compile(rb"<html>\r\n<head><title>[45]\d\d [A-Za-z .-]+</title></head>.*<hr><center>nginx", re.DOTALL)
OPAS_WORDS = (b'"result"', b"decision_id", b"unauthorized", b"administrative policy", b'"errors"', b"go_goroutines")
HOSTILE_BODY = b"hostile\n"

TRAITOR = f"""
import sys, urllib.parse

sys.path.insert(0, "/app")
import app, service

class Traitor(service.Service):
    async def __call__(self, scope, receive, send):
        if not scope["path"].startswith("/hostile/"):
            return await super().__call__(scope, receive, send)
        to = urllib.parse.unquote_to_bytes(scope["query_string"].removeprefix(b"to="))
        names = (b"x-accel-redirect", b"x-sendfile", b"x-reproxy-url", b"x-original-url", b"refresh")
        await service.respond(send, service.Response(200, {HOSTILE_BODY!r}, tuple((name, to) for name in names)))

app.Service = Traitor
sys.exit(app.main())
"""
"""The sample service, and below /hostile/ one that tells nginx to go on wherever its client wants it to."""


@dataclass(frozen=True)
class Intruder:
    """Somebody who even knows the token; `marker` is in every path asked for."""

    stack: Stack
    token: str
    marker: str

    def opas(self) -> list[Any]:
        return self.stack.containers("opa")

    def names(self) -> list[str]:
        """What OPA could be called, by anybody."""
        project = self.stack.project
        called = [name for opa in self.opas() for name in (opa.name, opa.short_id, opa.id[:12])]
        guesses = ["opa", "openpolicyagent", "policy", f"{project}-opa", f"{project}-opa-1", f"{project}_opa_1"]
        networked = [f"{name}.{project}-net" for name in (*called[:1], "opa")]
        return [*guesses, *called, *networked, "host.docker.internal", "gateway.docker.internal"]


# ── the witnesses ──────────────────────────────────────────────────────────────────────────────────────────────────


def bytes_read(container: Any) -> int:
    """How many bytes the container's main process has read since it started, from files and sockets."""
    return int(re.findall(r"^rchar: (\d+)$", Path(f"/proc/{pid_of(container)}/io").read_text(), re.M)[0])


def pid_of(container: Any) -> int:
    container.reload()
    pid = int(container.attrs["State"]["Pid"])
    assert pid, f"{container.name} does not run"
    return pid


@contextmanager
def watched(intruder: Intruder, holes: list[str]) -> Iterator[None]:
    """Adds a hole for each OPA that was sent something meanwhile."""
    before = {opa.id: bytes_read(opa) for opa in intruder.opas()}
    assert before, "there is no OPA to watch"
    yield
    for opa in intruder.opas():
        came = bytes_read(opa) - before.get(opa.id, 0)
        if came >= SHORTEST_REQUEST_BYTES:
            holes.append(f"{opa.name} was sent {came} bytes")


def is_of_the_service_or_nginx(received: bytes) -> bool:
    """Recognised by shape, so that an answer from anywhere else stands out, whatever it is. No answer is fine."""
    return not any(word in received for word in OPAS_WORDS) and all(map(_is_ours, bodies(received)))


def bodies(received: bytes) -> Iterator[bytes]:
    """The body of each answer; an answer of HTTP/0.9 is a body and nothing else."""
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        if not end or not head.startswith(b"HTTP/1.1 "):
            yield received
            return
        length = LENGTH.search(head)
        size = int(length[1]) if length else len(rest)
        yield rest[:size]
        received = rest[size:]


def _is_ours(body: bytes) -> bool:
    if not body or body == HOSTILE_BODY or NGINX_PAGE.match(body):
        return True
    try:
        keys = set(json.loads(body))
    except ValueError:
        return False
    return keys in SERVICE_SHAPES or keys == NGINX_SHAPE


# ── (a) from outside, through nginx ────────────────────────────────────────────────────────────────────────────────


def through_nginx(intruder: Intruder) -> list[str]:
    """Every host, path, method and header that ever led somebody past a proxy."""
    holes: list[str] = []
    with watched(intruder, holes):
        for request in requests_from_outside(intruder):
            answer = ask(("127.0.0.1", intruder.stack.port), request)
            if not is_of_the_service_or_nginx(answer):
                holes.append(f"{request[:120]!r} was answered {answer[:200]!r}")
    return holes


def through_a_backend(intruder: Intruder) -> list[str]:
    """A backend that tells nginx where to go on."""
    opas_paths = [path.format(marker=intruder.marker) for path in OPAS_PATHS]
    targets = [*opas_paths, "@bad_gateway", "/hash", *(f"http://{name}:8181/v1/data" for name in intruder.names())]
    holes: list[str] = []
    with watched(intruder, holes):
        for target in targets:
            path = f"/hostile/{intruder.marker}?to={quote(target, safe='')}"
            answer = ask(("127.0.0.1", intruder.stack.port), plain("GET", path, "localhost", intruder.token))
            if not answer.endswith(b"\r\n\r\n" + HOSTILE_BODY):
                holes.append(f"sent on to {target}, nginx answered {answer[:200]!r}")
    return holes


OPAS_PATHS = (
    "/v1/data",
    "/v1/data/{marker}",
    "/v1/data/swiftdeploy/canary/decision",
    "/v1/policies",
    "/v1/policies/{marker}",
    "/v1/query?q=data",
    "/v1/compile",
    "/v1/config",
    "/v1/status",
    "/v0/data/{marker}",
    "/health",
    "/health?plugins",
    "/debug/pprof/",
)
TWISTED_PATHS = (
    "//v1/data/{marker}",
    "///health",
    "/./v1/data",
    "/x/../v1/data",
    "/../v1/data",
    "/%2e%2e/v1/data",
    "/..%2fv1%2fdata",
    "/..;/v1/data",
    "/;/v1/data",
    "/%76%31/%64ata",
    "/v1%2fdata",
    "/v1/data%00{marker}",
    "/v1\\data",
    "/hostile/..;/v1/data",
    "/hostile/%2e%2e/v1/data",
    "/hostile/../v1/data",
    "/hostile../v1/data",
    "/%2f%2fopa:8181/v1/data",
    "//opa:8181/v1/data",
    "/http://opa:8181/v1/data",
    "/proxy?url=http://opa:8181/v1/data",
    "/@bad_gateway",
    "/hash",
    "/stub",
    "http://opa:8181/v1/data/{marker}",
    "http://opa/v1/data",
    "http://localhost:8181/v1/data",
    "http://unix:/run/opa/opa.sock:/v1/data",
    "https://opa:8181/v1/data",
    "HTTP://OPA:8181/v1/data",
    "unix:/run/opa/opa.sock",
    "opa:8181/v1/data",
    "@opa:8181/v1/data",
    "*",
)


def requests_from_outside(intruder: Intruder) -> Iterator[bytes]:
    paths = [path.format(marker=intruder.marker) for path in (*OPAS_PATHS, *TWISTED_PATHS)]
    hosts = ["localhost", "opa:8181", "unix:/run/opa/opa.sock", "", *intruder.names()]
    for path, host in itertools.product(paths, hosts):
        yield plain("GET", path, host, intruder.token)
    for path, method in itertools.product(
        paths, ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "GE\tT")
    ):
        yield plain(method, path, "opa", intruder.token, b"{}")
    for target, host in itertools.product((*intruder.names(), "127.0.0.1", "unix:/run/opa/opa.sock"), ("opa:8181", "")):
        yield plain("CONNECT", f"{target}:8181", host, intruder.token)
    for headers, path in itertools.product(MISLEADING, ("/", f"/v1/data/{intruder.marker}")):
        yield plain("GET", path, "localhost", intruder.token, headers=headers)
    yield from malformed(intruder)


MISLEADING = (
    "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings",
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
    "Upgrade: websocket, h2c\r\nConnection: Upgrade",
    "X-Forwarded-Host: opa:8181",
    "X-Forwarded-Server: opa\r\nX-Forwarded-Port: 8181\r\nX-Forwarded-Proto: http+unix",
    "X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1",
    "Forwarded: host=opa:8181;proto=http",
    "X-Original-URL: /v1/data",
    "X-Rewrite-URL: /v1/data",
    "X-Original-Host: opa:8181\r\nX-Host: opa:8181",
    "X-Accel-Redirect: /v1/data\r\nX-Accel-Internal: /v1/data",
    "X-Sendfile: /run/opa/opa.sock",
    "X-HTTP-Method-Override: PUT\r\nX-Method-Override: PUT",
    "Proxy: http://opa:8181",
    "Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic b3BhOm9wYQ==",
    "Host: opa:8181",
    "X-Request-Id: opa\r\nX-Canary: always\r\nX-Served-By: opa",
    "Cookie: swiftdeploy=../../opa",
)


def malformed(intruder: Intruder) -> Iterator[bytes]:
    """Requests within requests, other protocols, and what only looks like HTTP."""
    inner = plain("GET", f"/v1/data/{intruder.marker}", "opa:8181", intruder.token)
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)
    yield head + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (len(inner) + 5) + inner
    yield head + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk
    yield head + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n" + chunk
    yield head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk
    yield head + b"Transfer-Encoding:\x0bchunked\r\n\r\n" + chunk
    yield head + b"Content-Length: %d\r\nContent-Length: 0\r\n\r\n" % len(inner) + inner
    yield head.replace(b"Connection: close\r\n", b"") + b"Content-Length: 0\r\n\r\n" + inner
    yield b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: b\nHost: opa:8181\r\nConnection: close\r\n\r\n"
    yield b"GET / HTTP/1.1\r\nHost: localhost\r\n Host: opa:8181\r\nConnection: close\r\n\r\n"
    yield b"GET /v1/data\r\n"
    yield b"GET /v1/data HTTP/1.0\r\n\r\n"
    yield b"GET http://opa:8181/v1/data HTTP/1.0\r\n\r\n"
    yield b"GET /v1/data HTTP/3.0\r\n\r\n"
    yield b"PROXY TCP4 127.0.0.1 127.0.0.1 8181 8181\r\n" + inner
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    yield b"\x16\x03\x01\x00\x05hello"


def plain(method: str, path: str, host: str, token: str, body: bytes = b"", *, headers: str = "") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {token}"]
    if headers:
        lines.append(headers)
    if "Connection:" not in headers.replace("Proxy-Connection:", ""):
        lines.append("Connection: close")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def ask(address: tuple[str, int] | str, request: bytes) -> bytes:
    """All that comes back: until the other side closes, where it was asked to, else one whole answer."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    until_closed = b"connection: close" in request.lower()
    with socket.socket(family) as connection:
        connection.settimeout(ANSWER_LIMIT_S)
        connection.connect(address)
        answer = b""
        try:
            connection.sendall(request)
            while (until_closed or not _is_whole(answer)) and (more := connection.recv(65536)):
                answer += more
        except (ConnectionError, TimeoutError):
            return answer
        return answer


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = LENGTH.search(head)
    return bool(end and length and len(body) >= int(length[1]))


# ── (b) from every network namespace ───────────────────────────────────────────────────────────────────────────────

SCAN = r"""
import json, socket, sys

wanted = json.loads(sys.argv[1])
places, found = {(address, port) for address in wanted["addresses"] for port in wanted["ports"]}, []
for name in wanted["names"]:
    try:
        known = {info[4][0] for info in socket.getaddrinfo(name, None, socket.AF_INET)}
    except OSError:
        continue
    found += [["name", name, address] for address in sorted(known)]
    places |= {(address, port) for address in known for port in wanted["ports"]}
for address, port in sorted(places):
    try:
        connection = socket.create_connection((address, port), 1)
    except OSError:
        continue
    with connection:
        connection.settimeout(1)
        answer = b""
        try:
            connection.sendall(wanted["request"].encode())
            while more := connection.recv(65536):
                answer += more
        except OSError:
            pass
    found.append(["port", f"{address}:{port}", answer.decode("latin-1")])
print(json.dumps(found))
"""
"""Every name and every port of every address, asked; what answered, as JSON. It needs nothing but Python."""


def from_every_container(intruder: Intruder) -> list[str]:
    """Each container's own network, by name and by address; nginx's first."""
    holes: list[str] = []
    known = everything_that_listens(intruder)
    request = plain("GET", f"/v1/data/{intruder.marker}", "opa", intruder.token)
    wanted = {"names": intruder.names(), "request": request.decode(), **known}
    with watched(intruder, holes):
        for container in intruder.stack.containers():
            for kind, where, what in seen_from(intruder.stack, container, wanted):
                if kind == "name" and where not in ("host.docker.internal", "gateway.docker.internal"):
                    holes.append(f"{container.name} knows {where} as {what}")
                elif kind == "port" and not is_of_the_service_or_nginx(what.encode("latin-1")):
                    holes.append(f"{container.name} was answered by {where}: {what[:200]!r}")
    return holes


def everything_that_listens(intruder: Intruder) -> dict[str, list[Any]]:
    """All addresses of the project's network and its own loopbacks; all ports that anything in the project listens on.

    A bridge with as many ports as the engine knows endpoints has no stranger on it, so the addresses are complete.
    """
    (network,) = intruder.stack.engine.networks.list(names=[f"{intruder.stack.project}-net"], greedy=True)
    endpoints = [each["IPv4Address"].partition("/")[0] for each in network.attrs["Containers"].values()]
    bridge = f"br-{str(network.id)[:12]}"
    plugged = os.listdir(f"/sys/class/net/{bridge}/brif")
    assert len(plugged) == len(endpoints), (plugged, endpoints)
    gateways = [config["Gateway"] for config in network.attrs["IPAM"]["Config"] if "Gateway" in config]
    addresses = {*endpoints, *gateways, bridge_address(bridge), "127.0.0.1", "127.0.0.11", "172.17.0.1"}
    pids = [pid_of(container) for container in intruder.stack.containers()]
    ports = {*USUAL_PORTS, *(port for pid in pids for _, port in listeners(pid))}
    return {"addresses": sorted(addresses), "ports": sorted(ports)}


def bridge_address(bridge: str) -> str:
    """The host's own address on the network."""
    found = json.loads(subprocess.check_output(("ip", "-j", "-4", "address", "show", bridge)))
    return str(found[0]["addr_info"][0]["local"])


def listeners(pid: int) -> set[tuple[str, int]]:
    """Address (hexadecimal, as the kernel writes it) and port of what listens in the process's network."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == LISTENS:
                address, _, port = local.partition(":")
                found.add((address, int(port, 16)))
    return found


def seen_from(stack: Stack, container: Any, wanted: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What a process beside the container's own would find."""
    output = stack.engine.containers.run(
        IMAGE,
        entrypoint=["python3", "-c", SCAN, json.dumps(wanted)],
        network_mode=f"container:{container.id}",
        remove=True,
    )
    return [(kind, where, what) for kind, where, what in json.loads(output)]


# ── (c) from the host ──────────────────────────────────────────────────────────────────────────────────────────────


def wires(intruder: Intruder) -> list[str]:
    """Whatever could carry a packet to OPA: interfaces, listeners, published ports, others in its network."""
    holes: list[str] = []
    host = os.readlink("/proc/self/ns/net")
    for opa in intruder.opas():
        pid = pid_of(opa)
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
        interfaces = [line.partition(":")[0].strip() for line in lines]
        found = {
            "shares the host's network": os.readlink(f"/proc/{pid}/ns/net") == host,
            f"has the interfaces {interfaces}": interfaces != ["lo"],
            f"listens on {listeners(pid)}": bool(listeners(pid)),
            f"publishes {opa.ports}": bool(opa.ports) or bool(opa.attrs["HostConfig"]["PortBindings"]),
            f"is in {list(opa.attrs['NetworkSettings']['Networks'])}": list(opa.attrs["NetworkSettings"]["Networks"])
            != ["none"],
            "has internet sockets": bool(internet_sockets(pid)),
        }
        holes += [f"{opa.name} {what}" for what, is_so in found.items() if is_so]
    return holes


def internet_sockets(pid: int) -> set[str]:
    """The process's sockets that are in any table of its network but the unix one."""
    descriptors = Path(f"/proc/{pid}/fd")
    mine = {os.readlink(each) for each in descriptors.iterdir() if each.is_symlink()}
    inodes = {name[8:-1] for name in mine if name.startswith("socket:[")}
    tables = ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "icmp", "icmp6")
    return {
        f"{table} {line.split()[1]}"
        for table in tables
        if (path := Path(f"/proc/{pid}/net/{table}")).exists()
        for line in path.read_text().splitlines()[1:]
        if line.split()[9] in inodes
    }


# ── (d) the socket ─────────────────────────────────────────────────────────────────────────────────────────────────


def sockets_of(intruder: Intruder) -> list[Path]:
    """OPA's sockets, seen from the host."""
    return sorted((intruder.stack.folder / "state/run/opa").glob("*/opa.sock"))


def mounts(intruder: Intruder) -> list[str]:
    """Containers beside OPA that see its socket's folder, or the folder of its token."""
    secrets = [intruder.stack.folder / "state/run/opa-token", *sockets_of(intruder)]
    opas = {opa.id for opa in intruder.opas()}
    return [
        f"{container.name} mounts {mount['Source']}"
        for container in intruder.stack.containers()
        for mount in container.attrs["Mounts"]
        for secret in secrets
        if (container.id not in opas or secret.name == "opa-token")
        and secret.resolve().is_relative_to(Path(mount["Source"]).resolve())
    ]


def permissions(intruder: Intruder) -> list[str]:
    """Modes, and whether a stranger on this host gets through, even one who need not pass the folders above."""
    holes: list[str] = []
    run = intruder.stack.folder / "state/run"
    wanted = {run: 0o750, run / "opa-token": 0o600}
    for path in sockets_of(intruder):
        wanted |= {path.parent: 0o700, path: 0o600}
    for path, mode in wanted.items():
        if (found := stat.S_IMODE(path.lstat().st_mode)) & ~mode:
            holes.append(f"{path.name} has mode {found:o}")
    for path in sockets_of(intruder):
        if stranger_connects(path):
            holes.append(f"user {STRANGER} connects to {path.name}")
    return holes


STRANGER = 12345
KNOCK = """
import os, socket, sys
os.setgroups([])
os.setgid({user})
os.setuid({user})
try:
    socket.socket(socket.AF_UNIX).connect("/proc/self/fd/{folder}/opa.sock")
except PermissionError:
    sys.exit(13)
"""


def stranger_connects(path: Path) -> bool:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        script = KNOCK.format(user=STRANGER, folder=folder)
        done = subprocess.run((sys.executable, "-c", script), pass_fds=(folder,), check=False)
    finally:
        os.close(folder)
    assert done.returncode in (0, 13), done
    return done.returncode == 0


def questions(intruder: Intruder) -> list[str]:
    """On the socket itself: what is answered that must not be, and what is not that must be."""
    holes: list[str] = []
    for path in sockets_of(intruder):
        data = next((intruder.stack.folder / "state/rendered/opa" / path.parent.name).glob("data.json"))
        domains = json.loads(data.read_text())["domains"]
        for method, target, token in forbidden(intruder, domains):
            if (status := asked(path, method, target, token)) not in REFUSALS:
                holes.append(f"{method} {target} {'with' if token == intruder.token else 'without'} token: {status}")
        for domain in domains:
            if (status := asked(path, "POST", decision(domain), intruder.token)) != 200:
                holes.append(f"the decision of {domain} is refused to its owner: {status}")
        if (status := asked(path, "GET", "/health", None)) != 200:
            holes.append(f"health is refused: {status}")
    return holes


REFUSALS = (301, 401, 405)
"""301 names the tidied path, 405 the method; 401 is the word of our rules."""


def decision(domain: str) -> str:
    return f"/v1/data/swiftdeploy/{domain}/decision"


def forbidden(intruder: Intruder, domains: list[str]) -> Iterator[tuple[str, str, str | None]]:
    """Method, path, token. Everybody without the token; its owner, beyond the decisions."""
    token = intruder.token
    wrong = (None, "", token[:-1], token[::-1], token.upper(), f"{token}0", f"{token} {token}")
    for domain, given in itertools.product(domains, wrong):
        yield "POST", decision(domain), given
    for domain in domains:
        path = decision(domain)
        beside = (f"{path}/", f"{path}/allow", f"{path}?metrics", f"{path}?explain=full", f"{path}?pretty=true")
        above = (path.removesuffix("/decision"), path.replace("/v1/", "/v0/"), f"{path}?instrument", f"//{path}")
        for target in (*beside, *above):
            yield "POST", target, token
        for method in ("GET", "PUT", "PATCH", "DELETE", "HEAD"):
            yield method, path, token
    for domain in ("evidence", "authz", "system", "nothing", "..", "%2e%2e"):
        yield "POST", decision(domain), token
    others = (
        *("/", "/v1", "/v1/data", "/v1/data/limits", "/v1/data/swiftdeploy_auth", "/v1/data/swiftdeploy"),
        *("/v1/data/system/authz", "/v1/policies", "/v1/policies/x", "/v1/query", "/v1/query?q=data", "/v1/compile"),
        *("/v1/config", "/v1/status", "/v1/cache", "/v0/data", "/metrics", "/debug/pprof/", "/health?plugins"),
        *("/health?bundles", "/health/", "/health/live", "//health"),
    )
    for target, method in itertools.product(others, ("GET", "POST", "PUT", "PATCH", "DELETE")):
        yield method, target.replace("x", intruder.marker), token
    for method in ("POST", "PUT", "HEAD", "DELETE"):
        yield method, "/health", token


def asked(path: Path, method: str, target: str, token: str | None) -> int:
    """The status that OPA answers."""
    lines = [f"{method} {target} HTTP/1.1", "Host: opa", "Connection: close", "Content-Length: 12"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    answer = ask(str(path), "\r\n".join((*lines, "", "")).encode() + b'{"input":{}}')
    return int(answer.split(b" ", 2)[1])


Probe = Callable[[Intruder], list[str]]
PROBES: tuple[Probe, ...] = (
    through_nginx,
    through_a_backend,
    from_every_container,
    wires,
    mounts,
    permissions,
    questions,
)
