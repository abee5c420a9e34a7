"""X and O: what a container, nginx or OPA may answer when it lies."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters import docker_decode, http_client
from reconciler.core.errors import EngineError
from reconciler.formats import exposition, ingress_log, policy
from tests.fuzz.seeds import ASKED, REVISION
from tests.fuzz.targets import Wire
from tests.security.cases import Attack, in_time, steering

NAMES = exposition.Names()
COUNTED = (
    b"# TYPE http_requests_total counter\n"
    b'http_requests_total{path="/",status_code="200"} 9\n'
    b"# TYPE http_request_duration_seconds histogram\n"
    b'http_request_duration_seconds_bucket{le="0.1"} 8\nhttp_request_duration_seconds_bucket{le="+Inf"} 9\n'
    b"http_request_duration_seconds_count 9\n"
)


@dataclass(frozen=True)
class BadPage(Attack):
    """A metrics page that must count for nothing; `words` are in the reason."""

    page: bytes
    words: str = ""

    def attempt(self, folder: Path) -> None:
        with in_time(), pytest.raises(exposition.ExpositionError) as caught:
            exposition.read(self.page, NAMES)
        assert self.words in str(caught.value)
        assert not steering(str(caught.value))
        assert len(str(caught.value)) < 300


@dataclass(frozen=True)
class HarmlessPage(Attack):
    """A metrics page that counts as it says, with `paths` and nothing that steers a terminal."""

    page: bytes
    paths: frozenset[str]

    def attempt(self, folder: Path) -> None:
        with in_time():
            found = exposition.read(self.page, NAMES)
        assert set(found.requests) == self.paths
        assert not any(steering(path) for path in found.requests)


def _page(old: bytes, new: bytes) -> bytes:
    assert old in COUNTED
    return COUNTED.replace(old, new, 1)


PAGES: tuple[Attack, ...] = (
    *(
        BadPage("X1", f"value {value.decode()}", _page(b"} 9", b"} " + value))
        for value in (
            b"NaN",
            b"+Inf",
            b"-1",
            b"1e309",
            b"9007199254740994",
            b"0.5",
            b"0x9",
            b"1_000",
            "٣".encode(),
            b"",
        )
    ),
    BadPage("X1", "a count below its errors' sum", _page(b"_count 9", b"_count 7"), "last bucket"),
    BadPage("X1", "buckets that fall", _page(b'"0.1"} 8', b'"0.1"} 10'), "fall"),
    BadPage("X1", "milliseconds", _page(b'le="0.1"', b'le="1000"'), "seconds"),
    BadPage("X1", "a series twice", COUNTED + b'http_requests_total{path="/",status_code="200"} 9\n', "twice"),
    BadPage("X1", "another type", _page(b"total counter", b"total gauge"), "gauge"),
    BadPage("X1", "two types", COUNTED + b"# TYPE http_requests_total gauge\n", "two values"),
    BadPage("X1", "no histogram", COUNTED.partition(b"# TYPE http_request_d")[0]),
    BadPage("X1", "a status that is none", _page(b'"200"', b'"2OO"'), "status"),
    BadPage("X1", "an escape in a status", _page(b'"200"', b'"2\x1b[2J"'), "status"),
    BadPage("X2", "a line without end", b"http_requests_total{" + b"a" * 900_000, "line"),
    BadPage(
        "X2", "a million series", b"".join(b'http_requests_total{a="%d",status="200"} 1\n' % i for i in range(12_000))
    ),
    BadPage("X2", "not UTF-8", COUNTED + b"# \xff", "UTF-8"),
    BadPage("X2", "binary", b"\x1f\x8b\x08\0" * 5000),
    BadPage("X2", "nothing", b"", "no http_requests_total"),
    BadPage("X2", "HTML", b"<html>" * 1000),
    BadPage(
        "X2", "a name with labels before it", b'{"http_requests_total"} 1\n' + COUNTED.replace(b"http_req", b"x_req")
    ),
    BadPage("X2", "quotes that never close", _page(b'status_code="200"', b'status_code="200' + b"\\" * 10_000)),
    BadPage("X3", "two modes", COUNTED + b'app_mode{a="1"} 1\napp_mode{a="2"} 0\n', "series"),
    BadPage("X3", "a mode that is none", COUNTED + b"app_mode 7\n", "app_mode"),
    BadPage("X3", "chaos that is none", COUNTED + b"chaos_active -1\n", "chaos_active"),
    HarmlessPage("X3", "a path with an escape", _page(b'path="/"', b'path="/\x1b[2J"'), frozenset({"(other)"})),
    HarmlessPage(
        "X3", "a path with a bidi mark", _page(b'path="/"', 'path="/\u202ea"'.encode()), frozenset({"(other)"})
    ),
    HarmlessPage("X3", "a path with a newline", _page(b'path="/"', b'path="/\\nx 1"'), frozenset({"(other)"})),
    HarmlessPage("X3", "a path with a tag", _page(b'path="/"', b'path="/</script>"'), frozenset({"/</script>"})),
    HarmlessPage("X3", "foreign families", COUNTED + b'up NaN\nother{a="\\n"} -1\n', frozenset({"/"})),
)


@dataclass(frozen=True)
class BadAnswer(Attack):
    """Bytes of an HTTP server that are no answer, in the way `failure` says."""

    data: bytes
    failure: http_client.Failure = http_client.Failure.MALFORMED

    def attempt(self, folder: Path) -> None:
        with in_time(), pytest.raises(http_client.HttpError) as caught:
            answer_of(self.data)
        assert caught.value.failure is self.failure
        assert not steering(str(caught.value))


@dataclass(frozen=True)
class NotFollowed(Attack):
    """An answer that is handed out as it is: nothing else is asked for."""

    data: bytes
    status: int

    def attempt(self, folder: Path) -> None:
        assert answer_of(self.data).status == self.status


def answer_of(data: bytes) -> http_client.Response:
    """What the client makes of a server that says `data`; a second connection is a failure."""
    wires = [Wire(data)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(http_client, "_open", lambda _server, _timeout: wires.pop())
        return http_client.fetch(http_client.Tcp("10.0.0.1", 80), http_client.Request("/"), 60.0)


OK = b"HTTP/1.1 200 OK\r\n"
LARGE = http_client.Failure.TOO_LARGE
HTTP: tuple[Attack, ...] = (
    BadAnswer("X4", "gzip bomb", OK + b"Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\n\x1f\x8b\x08abcdef"),
    BadAnswer("X4", "br", OK + b"Content-Encoding: br\r\n\r\nx"),
    BadAnswer("X4", "endless body", OK + b"\r\n" + b"x" * 2_000_000, LARGE),
    BadAnswer("X4", "10 GB announced", OK + b"Content-Length: 10000000000\r\n\r\nx", LARGE),
    BadAnswer("X4", "digits without end", OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nx", LARGE),
    BadAnswer("X4", "negative length", OK + b"Content-Length: -1\r\n\r\nx"),
    BadAnswer("X4", "plus length", OK + b"Content-Length: +1\r\n\r\nx"),
    BadAnswer("X4", "foreign digits", OK + "Content-Length: ٣\r\n\r\nxxx".encode()),
    BadAnswer("X4", "two lengths", OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
    BadAnswer("X4", "length and chunks", OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    BadAnswer("X4", "xchunked", OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    BadAnswer("X4", "chunked twice", OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    BadAnswer("X4", "4 GB chunk", OK + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\nx", LARGE),
    BadAnswer("X4", "negative chunk", OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx"),
    BadAnswer("X4", "chunk that lies", OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n"),
    BadAnswer("X4", "large headers", OK + b"".join(b"X%d: %b\r\n" % (i, b"y" * 900) for i in range(100)), LARGE),
    BadAnswer("X4", "a line without end", b"HTTP/1.1 200 " + b"x" * 100_000, LARGE),
    BadAnswer("X4", "1xx without end", b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + OK + b"\r\n"),
    BadAnswer("X4", "HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    BadAnswer("X4", "HTTP/0.9", b"<html>"),
    BadAnswer("X4", "folded header", OK + b"A: b\r\n c: d\r\n\r\n"),
    BadAnswer("X4", "NUL in a header", OK + b"A: \0\r\n\r\n"),
    BadAnswer("X4", "space before the colon", OK + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    BadAnswer("X4", "nothing", b""),
    BadAnswer("X4", "half an answer", OK + b"Content-Length: 10\r\n\r\nabc"),
    BadAnswer("X4", "status 999", b"HTTP/1.1 999 X\r\n\r\n"),
    NotFollowed(
        "X5", "redirect to the metadata service", b"HTTP/1.1 302 F\r\nLocation: http://169.254.169.254/\r\n\r\n", 302
    ),
    NotFollowed("X5", "redirect to a file", b"HTTP/1.1 301 M\r\nLocation: file:///etc/shadow\r\n\r\n", 301),
    NotFollowed("X5", "upgrade", b"HTTP/1.1 101 S\r\nUpgrade: h2c\r\n\r\nPRI", 101),
    NotFollowed("X5", "authentication", b"HTTP/1.1 401 U\r\nWWW-Authenticate: Basic realm=x\r\n\r\n", 401),
)


@dataclass(frozen=True)
class NoYes(Attack):
    """An answer of OPA that is not exactly a yes: it must never be one."""

    status: int
    body: bytes
    known: bool = False

    def attempt(self, folder: Path) -> None:
        with in_time():
            verdict = policy.read_answer(self.status, self.body, "canary", REVISION, ASKED)
        assert not verdict.allow, "it was taken for a yes"
        assert verdict.known is self.known
        assert verdict.action != "promote"
        texts = (verdict.reason, verdict.decision_id, *(v.message + v.observed + v.limit for v in verdict.violations))
        assert not any(steering(text) for text in texts)
        assert all(len(text) < 1200 for text in texts)


def decision(**changes: Any) -> bytes:
    said = {"allow": True, "action": "promote", "reason": "", "revision": REVISION, "asked": ASKED, **changes}
    return json.dumps({"result": {key: value for key, value in said.items() if value is not ...}}).encode()


YES = decision()
OPA: tuple[Attack, ...] = (
    *(NoYes("O2", f"status {status}", status, YES) for status in (201, 204, 301, 302, 400, 401, 403, 404, 500, 503)),
    *(
        NoYes("O2", f"allow is {allow!r}", 200, decision(allow=allow))
        for allow in (None, 1, "true", [], {}, ["true"], ..., 1.0, "yes")
    ),
    *(
        NoYes("O2", f"action {action!r}", 200, decision(action=action))
        for action in ("hold", "rollback", "go", 5, [], None)
    ),
    NoYes("O2", "no, but promote", 200, decision(allow=False)),
    NoYes("O2", "another revision", 200, decision(revision="a" * 64)),
    NoYes("O2", "no revision", 200, decision(revision=...)),
    NoYes("O2", "another question", 200, decision(asked="a" * 64)),
    NoYes("O2", "no question", 200, decision(asked=...)),
    NoYes("O2", "allowed with violations", 200, decision(violations=[{"id": "a", "message": "b"}])),
    NoYes("O2", "violations that are none", 200, decision(violations={"id": "a"})),
    NoYes("O2", "a reason that is none", 200, decision(reason=["x"])),
    NoYes("O2", "key twice", 200, YES.replace(b'"allow": true', b'"allow": false, "allow": true')),
    NoYes("O2", "NaN", 200, YES.replace(b'"reason": ""', b'"reason": NaN')),
    NoYes("O2", "no result", 200, b"{}"),
    NoYes("O2", "result true", 200, b'{"result": true}'),
    NoYes("O2", "a list", 200, b"[" + YES + b"]"),
    NoYes("O2", "empty", 200, b""),
    NoYes("O2", "HTML", 200, b"<html>"),
    NoYes("O2", "too large", 200, YES[:-1] + b', "x": "' + b"y" * 2_000_000 + b'"}'),
    NoYes("O2", "too deep", 200, b'{"result":' * 50_000),
    *(
        NoYes("O2", f"deep at {depth}", 200, decision(action="@").replace(b'"@"', b"[" * depth + b"]" * depth))
        for depth in (200, 900, 960, 980)
    ),
    NoYes("O2", "digits", 200, YES.replace(b'"reason": ""', b'"reason": ' + b"9" * 5000)),
    NoYes("O2", "UTF-16", 200, YES.decode().encode("utf-16")),
    NoYes(
        "O2", "escapes in a reason", 200, decision(allow=False, action="hold", reason="\x1b[2J\u202e\u200b\x9b"), True
    ),
    NoYes("O2", "a reason without end", 200, decision(allow=False, action="hold", reason="x" * 900_000), True),
    NoYes("O2", "escapes in an error", 500, b'{"code": "\\u001b[2J", "message": "\\u202e"}'),
)


@dataclass(frozen=True)
class BadEngine(Attack):
    """An answer of the engine's: read as far as it makes sense, never trusted, never fatal."""

    answer: Any

    def attempt(self, folder: Path) -> None:
        row = docker_decode.table(self.answer)
        with suppress(EngineError):
            found = docker_decode.container(row, project="shop", instance="i1", network="net", network_ids={})
            assert not found.ours, "a stranger's container is taken for ours"
        assert all(port >= 0 for port in docker_decode.bound_ports(row))
        assert isinstance(docker_decode.listed_name(row), str)


IDENTITY = {"io.swiftdeploy.project": "shop", "io.swiftdeploy.instance": "i2"}
ENGINE: tuple[Attack, ...] = (
    *(BadEngine("X6", f"answer {answer!r}", answer) for answer in (None, [], "x", {}, {"Id": 5}, {"Id": ""})),
    BadEngine("X6", "another instance's", {"Id": "x", "Config": {"Labels": IDENTITY}}),
    BadEngine("X6", "labels as a list", {"Id": "x", "Config": {"Labels": ["io.swiftdeploy.project=shop"]}}),
    BadEngine("X6", "a label as a list", {"Id": "x", "Config": {"Labels": {"io.swiftdeploy.project": ["shop"]}}}),
    *(
        BadEngine(
            "X6",
            f"port {port[:6]}",
            {"Id": "x", "State": {"Running": True}, "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": port}]}}},
        )
        for port in ("²", "٣", "9" * 5000, "-1", "1e3", "0x50", "70000")
    ),
    BadEngine("X6", "a replica without end", {"Id": "x", "Config": {"Labels": {"io.swiftdeploy.replica": "9" * 5000}}}),
)


@dataclass(frozen=True)
class BadLine(Attack):
    """A line of nginx's private log that must count for nobody."""

    line: bytes

    def attempt(self, folder: Path) -> None:
        with in_time():
            found = ingress_log.tally(self.line + b"\n")
        assert found.by_address == {}, "it counts"


LOG: tuple[Attack, ...] = tuple(
    BadLine("X7", f"{number} {line[:20]!r}", line)
    for number, line in enumerate(
        (
            b"~10.0.0.2:80|200|0.01|0.1",
            b"~10.0.0.2:80|0|0.010|0.010",
            b"~10.0.0.2:80, 10.0.0.3:80|200|0.010|0.010",
            b"~10.0.0.2:80|200|0.010|0.010|",
            b"~\x1b[2J:80|200|0.010|0.010",
            b"~10.0.0.2:80|200|0.010|0.010~10.0.0.2:80|200|0.010|0.010",
            b"10.0.0.2:80|200|0.010|0.010",
            b"~" + b"a" * 100_000 + b":80|200|0.010|0.010",
            b"~10.0.0.2:80|200|9999999999.000|0.010",
            "~10.0.0.٢:80|200|0.010|0.010".encode(),
        )
    )
)
CASES = (*PAGES, *HTTP, *OPA, *ENGINE, *LOG)
