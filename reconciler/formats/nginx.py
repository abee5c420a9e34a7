"""The whole nginx.conf: two fixed slots per service, traffic moved by flag files (docs/adr/0005-nginx-slots.md).

Values reach the text through strict patterns only. The text is then read back and compared with what was meant, so that
no value, and no slip in the template, can add a directive, an upstream or a way in.
"""

from __future__ import annotations

import functools
import hashlib
import io
import ipaddress
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reconciler import assets
from reconciler.core.desired import Nginx, Route
from reconciler.core.errors import RenderError
from reconciler.core.observed import Slot
from reconciler.formats import ingress_log, tester

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATE = "nginx.conf.j2"
ERRORS = {
    403: "Forbidden",
    404: "Not Found",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
ACCEL_HEADERS = tuple(f"X-Accel-{name}" for name in ("Redirect", "Expires", "Limit-Rate", "Buffering", "Charset"))
_HASH_NOT_YET_KNOWN = "0" * 64
_UNIX_SOCKET_PATH_MAX = 107


@dataclass(frozen=True, slots=True)
class Upstreams:
    """One service as nginx sees it.

    `default` is the slot that serves at rest. `members` are `address:port`, or `alias:port` where the alias ends with
    a slot's name. `chaos` lets `/chaos` pass. `sticky` keeps a client where its first request went. Requests for a path
    in `uncounted` are no evidence. `probe` is a path that the private listener asks of either slot, see `probe_path`.
    `tester` is the digest of the secret behind the tester's header, None where there is no such header.
    """

    service: str
    default: Slot
    members: Mapping[Slot, tuple[str, ...]]
    route: Route
    chaos: bool
    sticky: bool
    uncounted: tuple[str, ...] = ()
    probe: str | None = None
    tester: str | None = None


@dataclass(frozen=True, slots=True)
class ProxyView:
    """All that nginx is told.

    `flags_dir` holds, per service, a folder whose files are named after buckets: a bucket that is there goes to the
    slot that is not the default. `supports_min_timeout` is false for nginx before 1.27.4. `evidence_log` is where what
    services answered is counted, None for nowhere. `testers_dir` holds testers' secrets. Paths are the container's.
    """

    nginx: Nginx
    upstreams: tuple[Upstreams, ...]
    flags_dir: str
    socket_path: str
    project: str
    supports_min_timeout: bool = True
    temp_dir: str = "/tmp"
    evidence_log: str | None = None
    testers_dir: str = f"/etc/nginx/live/{tester.MAPS}"


def render(view: ProxyView) -> str:
    """nginx.conf for `view`, verified; equal views give equal bytes. RenderError names the field that cannot go in."""
    text = _template().render(_values(_checked(view)))
    text = text.replace(_HASH_NOT_YET_KNOWN, _digest(text))
    verify(text, view)
    return text


def config_hash(text: str) -> str:
    """What the private listener of this text answers (64 hex digits); RenderError where it has none."""
    found = re.search(r'return 200 "([0-9a-f]{64}) \$pid\\n";', text)
    if found is None:
        raise RenderError("This nginx.conf carries no hash: it was not rendered by SwiftDeploy. Render it again.")
    return found[1]


def sockets(view: ProxyView) -> tuple[str, ...]:
    """The unix sockets nginx binds: one left by a killed nginx must go before the next start, else its bind fails."""
    return (view.socket_path, _nobody(view))


def probe_path(service: str, slot: Slot) -> str:
    """What to ask the private listener for, so that it asks the service's slot for the service's probe."""
    return f"/slot/{service}-{slot}"


def _digest(text_without_hash: str) -> str:
    return hashlib.sha256(text_without_hash.encode()).hexdigest()


def _nobody(view: ProxyView) -> str:
    return f"{view.temp_dir}/nobody.sock"


@functools.cache
def _template() -> Template:
    import jinja2  # slow to import, and only rendering needs it

    environment = jinja2.Environment(
        autoescape=False,  # no HTML; every value passes a pattern, see _checked
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(assets.read("render", TEMPLATE))


# ── what may go in ─────────────────────────────────────────────────────────────────────────────────────────────────

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_TEXT = re.compile(r"[A-Za-z0-9 @._+:/,()<>\[\]?&=%~#!*|-]{1,200}")
_HOST = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_PATH = re.compile(r"(?=.{1,255}\Z)/(?:(?!\.\.?(?:/|\Z))[A-Za-z0-9._~-]+(?:/|\Z))*")
_FILE = re.compile(r"(?=.{1,200}\Z)(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
_MEMBER = re.compile(r"(?P<host>[A-Za-z0-9_.-]{1,80}):(?P<port>[1-9][0-9]{0,4})")
_DIGEST = re.compile(r"[0-9a-f]{16}")
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*-(?:blue|green)")


def _checked(view: ProxyView) -> ProxyView:
    """`view`, if every value in it fits its pattern and no two of its services get in each other's way."""
    _fit(_NAME, "project.name", view.project, "letters, digits, dots, dashes and underscores")
    _fit(_TEXT, "nginx.contact", view.nginx.contact, "ASCII without quotes, $, braces, semicolons or backslashes")
    if view.nginx.service_name:
        _fit(_TEXT, "nginx.service_name", view.nginx.service_name, "ASCII without quotes, $, braces or semicolons")
    for field in (
        "flags_dir",
        "socket_path",
        "temp_dir",
        "testers_dir",
        *(("evidence_log",) if view.evidence_log is not None else ()),
    ):
        _fit(_FILE, field, getattr(view, field), "an absolute path of letters, digits, dots, dashes and underscores")
    for path in sockets(view):
        if len(path) > _UNIX_SOCKET_PATH_MAX:
            raise RenderError(f"The socket path {path} is too long. Use at most {_UNIX_SOCKET_PATH_MAX} bytes.")
    _port("nginx.port", view.nginx.port)
    _timeout(view)
    for upstreams in view.upstreams:
        _checked_upstreams(upstreams)
    _no_two(view.upstreams)
    return view


def _checked_upstreams(upstreams: Upstreams) -> None:
    service = upstreams.service
    route = upstreams.route
    _fit(_NAME, "a service's name", service, "letters, digits, dots, dashes and underscores")
    _fit(_PATH, f"services.{service}.route.path", route.path, "a path like /api, of unreserved characters")
    if route.host is not None:
        _fit(_HOST, f"services.{service}.route.host", route.host, "a lower-case host name like app.example.com")
    for path in upstreams.uncounted:
        _fit(_PATH, f"a path of {service} that is no evidence", path, "a path like /healthz, of unreserved characters")
    if upstreams.probe is not None:
        _fit(
            _PATH, f"services.{service}.rollout.probe.path", upstreams.probe, "a path like /, of unreserved characters"
        )
    if upstreams.tester is not None:
        _fit(_DIGEST, f"the digest of {service}'s tester_secret", upstreams.tester, "16 hex digits")
    for slot in Slot:
        for member in upstreams.members.get(slot, ()):
            _checked_member(f"{service}-{slot}", member)


def _checked_member(slot: str, member: str) -> None:
    """`address:port` of a container, or `alias:port`; an alias ends with a slot's name: no address in disguise."""
    match = _MEMBER.fullmatch(member) if isinstance(member, str) else None
    if match is None:
        raise RenderError(f"A member of {slot} is {member!r}. Use address:port.")
    _port(f"the port of a member of {slot}", int(match["port"]))
    if _ALIAS.fullmatch(match["host"]):
        return
    try:
        address = ipaddress.IPv4Address(match["host"])
    except ValueError:
        raise RenderError(f"A member of {slot} is {member!r}, neither an IPv4 address nor a slot's alias.") from None
    if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
        raise RenderError(f"A member of {slot} is {member!r}, which is no container's address.")


def _no_two(services: tuple[Upstreams, ...]) -> None:
    """nginx compares upstream names without case; one place (host and path) belongs to one service."""
    names: dict[str, str] = {}
    places: dict[tuple[str | None, str], str] = {}
    for each in services:
        if (twin := names.get(each.service.lower())) is not None:
            raise RenderError(f"The services {twin} and {each.service} have one name for nginx. Rename one of them.")
        names[each.service.lower()] = each.service
        place = (each.route.host, _prefix(each.route))
        other = places.setdefault(place, each.service)
        if other != each.service:
            where = f"{place[0] or 'any host'}, path {place[1] or '/'}"
            raise RenderError(f"{other} and {each.service} have the same route ({where}). Change one service's route.")


def _fit(pattern: re.Pattern[str], field: str, value: object, wanted: str) -> None:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise RenderError(f"{field} is {value!r}. Use {wanted}.")


def _port(field: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise RenderError(f"{field} is {value!r}. Use a whole number from 1 to 65535.")


def _timeout(view: ProxyView) -> str:
    """`30s`, or milliseconds where there is a fraction."""
    seconds = view.nginx.proxy_timeout_s
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0.001 <= seconds <= 86400:
        raise RenderError(f"nginx.proxy_timeout is {seconds!r} s. Use a duration from 1 ms to 24 h.")
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{round(seconds * 1000)}ms"


# ── what it becomes ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Place:
    """One `location`: `proxy` to a service, or `answer` with a code and a JSON body of ours."""

    matcher: str
    kind: str
    upstream: str = ""
    other: str = ""
    flag: str = ""
    sticky: bool = False
    wish: str = ""
    code: int = 0
    body: str = ""


@dataclass(frozen=True, slots=True)
class _Testers:
    """A service's testers: the `number` in the names of their variables, and the bucket of everybody else."""

    service: str
    number: int
    file: str
    others: str


@dataclass(frozen=True, slots=True)
class _Site:
    """One public `server`; without places it closes the connection (444)."""

    server_name: str
    is_default: bool
    places: tuple[_Place, ...]


def _values(view: ProxyView) -> dict[str, object]:
    """What the template may name."""
    return {
        "project": view.project,
        "temp": view.temp_dir,
        "socket": view.socket_path,
        "nobody": _nobody(view),
        "port": view.nginx.port,
        "timeout": _timeout(view),
        "min_timeout": view.supports_min_timeout,
        "sticky": any(each.sticky for each in view.upstreams),
        "hidden": (*ACCEL_HEADERS, "X-Deployed-By", "X-Served-By"),
        "upstreams": _upstreams(view),
        "testers": _testers(view),
        "sites": _sites(view),
        "evidence_format": ingress_log.FORMAT,
        "evidence": _evidence_target(view),
        "not_evidence": tuple(_not_evidence(view)),
        "probes": tuple(_probes(view)),
        "unavailable": _body(view, 503),
        "hash": _HASH_NOT_YET_KNOWN,
    }


def _upstreams(view: ProxyView) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Name and servers of every upstream; there is always a server.

    The slot that is not the default repeats the default's members while it is empty, so that a stray request is served
    by those. A default slot that is empty does not inherit the other's: a canary nobody judged must not get everything.
    """
    found = []
    for each in sorted(view.upstreams, key=lambda each: each.service):
        serving = _sorted(each.members, each.default) or (f"unix:{_nobody(view)}",)
        for slot in Slot:
            found.append((f"{each.service}-{slot}", _sorted(each.members, slot) or serving))
    return tuple(found)


def _testers(view: ProxyView) -> tuple[_Testers, ...]:
    services = sorted((each for each in view.upstreams if each.tester), key=lambda each: each.service)
    return tuple(
        _Testers(
            each.service,
            number,
            f"{view.testers_dir}/{tester.map_name(each.service, each.tester or '')}",
            _bucket(each),
        )
        for number, each in enumerate(services, 1)
    )


def _bucket(each: Upstreams) -> str:
    return "$client_bucket" if each.sticky else "$bucket"


def _sorted(members: Mapping[Slot, tuple[str, ...]], slot: Slot) -> tuple[str, ...]:
    return tuple(sorted(set(members.get(slot, ()))))


def _sites(view: ProxyView) -> tuple[_Site, ...]:
    """The default server first; hosts sorted. Unknown hosts get what has no host, or 444 when every service has one."""
    by_host: dict[str, list[Upstreams]] = {}
    for each in view.upstreams:
        by_host.setdefault(each.route.host or "", []).append(each)
    anywhere = by_host.pop("", [])
    places = _places(view, anywhere) if anywhere or not by_host else ()
    named = (_Site(host, False, _places(view, services)) for host, services in sorted(by_host.items()))
    return (_Site("_", True, places), *named)


def _places(view: ProxyView, services: Iterable[Upstreams]) -> tuple[_Place, ...]:
    """The locations of one server: the services' by path, what no service has, and nginx's own errors."""
    found = [place for each in sorted(services, key=lambda each: each.route.path) for place in _places_of(view, each)]
    if not any(place.matcher == "/" for place in found):
        found.append(_answer(view, "/", 404))
    found += [_answer(view, f"@{name}", code) for name, code in _OWN_ERRORS]
    return tuple(found)


_OWN_ERRORS = (("bad_gateway", 502), ("unavailable", 503), ("timeout", 504))


def _places_of(view: ProxyView, each: Upstreams) -> Iterator[_Place]:
    """A prefix is `/api` itself and what is below it, never `/apiary`. `/chaos` comes first: a regex beats a prefix.

    nginx matches the decoded, merged and resolved path, so `//chaos`, `/x/../chaos` and `/%63haos` are `/chaos` here.
    While the other slot has a share of the traffic, bucket 0 is in it: so chaos goes to the canary while there is one.
    """
    prefix = _prefix(each.route)
    chaos = f'~ "^{_chaos(each)}"'
    flags = f"{view.flags_dir}/{each.service}"

    number = next((testers.number for testers in _testers(view) if testers.service == each.service), None)

    def proxy(matcher: str, bucket: str, wish: str = "") -> _Place:
        return _Place(
            matcher,
            "proxy",
            upstream=f"{each.service}-{each.default}",
            other=f"{each.service}-{each.default.other}",
            flag=f"{flags}/{bucket}",
            sticky=each.sticky,
            wish=wish,
        )

    yield proxy(chaos, "0") if each.chaos else _answer(view, chaos, 403)
    bucket, wish = (f"$bucket_{number}", f"$wish_{number}") if number else (_bucket(each), "")
    if prefix:
        yield proxy(f"= {prefix}", bucket, wish)
    yield proxy(f"{prefix}/", bucket, wish)


def _chaos(each: Upstreams) -> str:
    """The regular expression of its `/chaos`, without the beginning."""
    return f"{_prefix(each.route).replace('.', '[.]')}/(?i)chaos(?![a-z0-9_-])"


def _evidence_target(view: ProxyView) -> tuple[str, ...]:
    """The arguments of `access_log` for what services answered. Written every 200 ms, or 32 kB."""
    return (view.evidence_log, "evidence", "buffer=32k", "flush=200ms") if view.evidence_log is not None else ()


def _not_evidence(view: ProxyView) -> Iterator[str]:
    """Patterns of `$up $uri` that do not count: what a service is asked about itself, and `/chaos`."""
    for each in sorted(view.upstreams, key=lambda each: each.service):
        for path in sorted({path.lower() for path in each.uncounted}):  # nginx compares them without case
            yield from (f"{each.service}-{slot} {path}" for slot in Slot)
        yield f"~^{each.service.replace('.', '[.]')}-(?:blue|green) {_chaos(each)}"


def _probes(view: ProxyView) -> Iterator[tuple[str, str]]:
    """Location of the private listener, and what it asks for."""
    for each in sorted(view.upstreams, key=lambda each: each.service):
        for slot in Slot if each.probe is not None else ():
            yield f"= {probe_path(each.service, slot)}", f"http://{each.service}-{slot}{each.probe}"


def _prefix(route: Route) -> str:
    return route.path.rstrip("/")


def _answer(view: ProxyView, matcher: str, code: int) -> _Place:
    return _Place(matcher, "answer", code=code, body=_body(view, code))


def _body(view: ProxyView, code: int) -> str:
    """The JSON a client gets where nginx answers itself: four strings."""
    only = view.upstreams[0].service if len(view.upstreams) == 1 else view.project
    fields = {
        "error": ERRORS[code],
        "code": str(code),
        "service": view.nginx.service_name or only,
        "contact": view.nginx.contact,
    }
    return json.dumps(fields, separators=(",", ":"))


# ── read back and compared ─────────────────────────────────────────────────────────────────────────────────────────

Fact = tuple[tuple[str, ...], str, tuple[str, ...]]
"""One directive: the blocks around it from the outside in, its name, its arguments without their quotes."""

_ALLOWED: Mapping[str, frozenset[str]] = {
    block: frozenset(names.split())
    for block, names in {
        "": "daemon pid error_log worker_processes worker_rlimit_nofile events http",
        "events": "worker_connections",
        "http": "default_type server_tokens merge_slashes open_file_cache server_names_hash_max_size "
        "server_names_hash_bucket_size map_hash_bucket_size uninitialized_variable_warn client_max_body_size "
        "keepalive_timeout keepalive_min_timeout client_body_temp_path proxy_temp_path fastcgi_temp_path "
        "uwsgi_temp_path scgi_temp_path log_format access_log "
        "split_clients map proxy_http_version proxy_set_header proxy_connect_timeout proxy_send_timeout "
        "proxy_read_timeout proxy_next_upstream proxy_next_upstream_timeout proxy_max_temp_file_size "
        "proxy_redirect proxy_ignore_headers proxy_hide_header proxy_intercept_errors upstream server",
        "split_clients": "1% *",
        "map": "default websocket ~*^websocket$ ~(?<port_of_host>:[0-9]+)$ ~^[0-9a-f]{32}$",
        "upstream": "server keepalive keepalive_timeout",
        "server": "listen server_name access_log return set add_header error_page location",
        "location": "set if add_header access_log proxy_pass default_type return stub_status",
        "if": "set",
    }.items()
}
_TEMP_PATHS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_TIMEOUTS = ("proxy_connect_timeout", "proxy_send_timeout", "proxy_read_timeout")
_PLACED = "pid error_log log_format access_log upstream server listen server_name location if set proxy_pass return"
_CARRIES_A_VALUE = frozenset(
    (*_PLACED.split(), "stub_status", *_TIMEOUTS, *(f"{name}_temp_path" for name in _TEMP_PATHS))
)
_EVIDENCE_MAP = "map $up $uri $evidence"


_TESTERS_MAP = re.compile(r"(?:map .* )?\$(?:(?:tester|wish|bucket)_[0-9]+|unsteered)")
_SECRET_HEADER = "X-Canary-Secret"


def _carries_a_value(fact: Fact) -> bool:
    around, name, arguments = fact
    return (
        name in _CARRIES_A_VALUE
        or around[-1:] == (_EVIDENCE_MAP,)
        or any(_TESTERS_MAP.fullmatch(block) for block in around[-1:])
        or (name == "map" and any(_TESTERS_MAP.fullmatch(variable) for variable in arguments[-1:]))
        or (name == "proxy_set_header" and " ".join(arguments[:1]).lower() == _SECRET_HEADER.lower())
    )


def verify(text: str, view: ProxyView) -> None:
    """Nothing, if `text` says what `view` means and no more; RenderError with the first difference otherwise.

    Every directive must be one we use, where we use it. Every directive into which a value goes (upstreams and their
    servers, listeners, names, locations, targets, answers) must be there exactly as often and exactly as meant.
    """
    said = config_hash(text)
    if said != _digest(text.replace(said, _HASH_NOT_YET_KNOWN)):
        raise RenderError("The hash in this nginx.conf is not the hash of its text. Render it again.")
    facts = tuple(read(text))
    meant = sorted(_meant(view, said))
    for around, name, arguments in facts:
        block = around[-1].split(" ", 1)[0] if around else ""
        if name not in _ALLOWED.get(block, ()) and (around, name, arguments) not in meant:
            shown = _shown((around, name, arguments))
            raise RenderError(f"nginx.conf would have {shown}, which SwiftDeploy never writes.")
    there = sorted(filter(_carries_a_value, facts))
    if there != meant:
        extra = _first_without(there, meant)
        missing = _first_without(meant, there)
        raise RenderError(f"nginx.conf is not what was meant: it has {_shown(extra)} and lacks {_shown(missing)}.")


def _first_without(facts: list[Fact], others: list[Fact]) -> Fact | None:
    left = list(others)
    for fact in facts:
        if fact not in left:
            return fact
        left.remove(fact)
    return None


def _shown(fact: Fact | None) -> str:
    if fact is None:
        return "nothing"
    around, name, arguments = fact
    return f"`{' '.join((name, *arguments))}`" + (f" in {' > '.join(around)}" if around else "")


def read(text: str) -> Iterator[Fact]:
    """Every directive of a configuration, a block before what is in it, as crossplane reads it; no include is followed.

    Blocks that begin alike are numbered: `server`, `server (2)`. RenderError where it is no configuration at all.
    """
    from crossplane import errors, lexer  # only where a text is read

    tokens = lexer._balance_braces(lexer._lex_file_object(io.StringIO(f"{text}\n{_END};")))
    around: list[str] = []
    words: list[str] = []
    blocks: Counter[tuple[str, ...]] = Counter()
    try:
        for token, _line, is_quoted in tokens:
            if is_quoted or token not in (";", "{", "}"):
                if is_quoted or not token.startswith("#"):
                    words.append(token)
                continue
            if (token == "}") is not (not words):
                raise RenderError(f"nginx.conf cannot be read: `{token}` after `{' '.join(words)}`.")
            if token == "}":
                around.pop()
                continue
            if words == [_END] and not around:
                return
            yield tuple(around), words[0], tuple(words[1:])
            if token == "{":
                around.append(_numbered(" ".join(words), tuple(around), blocks))
            words = []
    except errors.NgxParserBaseException as error:
        raise RenderError(f"nginx.conf cannot be read: {error}.") from error
    raise RenderError(f"nginx.conf ends within `{' '.join(words or around or ['a word'])}`.")


_END = "end_of_text"  # what an open quote or an unfinished directive swallows


def _numbered(block: str, around: tuple[str, ...], blocks: Counter[tuple[str, ...]]) -> str:
    blocks[*around, block] += 1
    return block if blocks[*around, block] == 1 else f"{block} ({blocks[*around, block]})"


def _meant(view: ProxyView, hash_inside: str) -> Iterator[Fact]:
    """Every directive that carries a value, from the view alone."""
    http = ("http",)
    yield (), "pid", (f"{view.temp_dir}/nginx.pid",)
    yield (), "error_log", ("stderr",)
    yield http, "log_format", ("swiftdeploy", "$time_iso8601 | $status | ${request_time}s | $upstream_addr | $request")
    yield http, "access_log", ("/dev/stdout", "swiftdeploy")
    yield from _meant_evidence(view)
    yield from _meant_testers(view)
    for name in _TEMP_PATHS:
        yield http, f"{name}_temp_path", (f"{view.temp_dir}/{name}",)
    for name in _TIMEOUTS:
        yield http, name, (_timeout(view),)
    for name, members in _upstreams(view):
        yield http, "upstream", (name,)
        for member in members:
            yield (*http, f"upstream {name}"), "server", (member, "max_fails=3", "fail_timeout=2s")
    sites = _sites(view)
    servers = [("http", "server"), *(("http", f"server ({number})") for number in range(2, len(sites) + 3))]
    for server, site in zip(servers, sites, strict=False):
        yield from _meant_site(view, server, site)
    yield from _meant_private(servers[-2], _nobody(view), {"/": ("503", _body(view, 503))})
    hash_answer = ("200", rf"{hash_inside} $pid\n")
    yield from _meant_private(servers[-1], view.socket_path, {"= /hash": hash_answer, "= /stub": (), "/": ("404",)})
    for matcher, target in _probes(view):
        yield servers[-1], "location", tuple(matcher.split(" "))
        location = (*servers[-1], f"location {matcher}")
        yield location, "proxy_pass", (target,)
        if view.evidence_log is not None:
            yield location, "access_log", _evidence_target(view)


def _meant_evidence(view: ProxyView) -> Iterator[Fact]:
    if view.evidence_log is None:
        return
    http = ("http",)
    yield http, "log_format", ("evidence", ingress_log.FORMAT)
    yield http, "access_log", (*_evidence_target(view), "if=$evidence")
    around = (*http, _EVIDENCE_MAP)
    yield around, "default", ("",)
    yield around, "~^[^ ]", ("$unsteered" if _testers(view) else "1",)
    for pattern in _not_evidence(view):
        yield around, pattern, ("",)


def _meant_testers(view: ProxyView) -> Iterator[Fact]:
    http, testers = ("http",), _testers(view)
    for each in testers:
        knows, wish, bucket = f"$tester_{each.number}", f"$wish_{each.number}", f"$bucket_{each.number}"
        maps: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {
            ("$http_x_canary_secret", knows): (("default", ""), ("include", each.file)),
            (f"{knows} $http_x_canary", wish): (("1 always", "0"), ("1 never", "99"), ("default", "")),
            (wish, bucket): (("", each.others), ("default", wish)),
        }
        for arguments, lines in maps.items():
            yield http, "map", arguments
            yield from (((*http, " ".join(("map", *arguments))), key, (value,)) for key, value in lines)
    if testers:
        yield http, "proxy_set_header", (_SECRET_HEADER, "")
    if testers and view.evidence_log is not None:
        yield http, "map", ("$wish", "$unsteered")
        yield from (((*http, "map $wish $unsteered"), key, (value,)) for key, value in (("", "1"), ("default", "")))


def _meant_site(view: ProxyView, server: tuple[str, ...], site: _Site) -> Iterator[Fact]:
    yield ("http",), "server", ()
    yield server, "listen", (str(view.nginx.port), *(("default_server",) if site.is_default else ()))
    yield server, "server_name", (site.server_name,)
    yield (server, "set", ("$up", "")) if site.places else (server, "return", ("444",))
    for place in site.places:
        matcher = tuple(place.matcher.replace('"', "").split(" "))
        location = (*server, " ".join(("location", *matcher)))
        yield server, "location", matcher
        if place.kind == "answer":
            yield location, "return", (str(place.code), place.body)
            continue
        yield location, "set", ("$up", place.upstream)
        if place.wish:
            yield location, "set", ("$wish", place.wish)
        yield location, "if", ("(-f", f"{place.flag})")
        yield (*location, f"if (-f {place.flag})"), "set", ("$up", place.other)
        yield location, "proxy_pass", ("http://$up",)


def _meant_private(server: tuple[str, ...], path: str, locations: Mapping[str, tuple[str, ...]]) -> Iterator[Fact]:
    yield ("http",), "server", ()
    yield server, "listen", (f"unix:{path}",)
    yield server, "server_name", ("_",)
    yield server, "access_log", ("off",)
    for matcher, answer in locations.items():
        yield server, "location", tuple(matcher.split(" "))
        location = (*server, f"location {matcher}")
        yield (location, "return", answer) if answer else (location, "stub_status", ())
