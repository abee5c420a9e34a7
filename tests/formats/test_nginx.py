"""The text of nginx.conf: what it says, that nothing else can get in, and that it never changes by itself."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crossplane
import pytest
from hypothesis import HealthCheck as Check
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.desired import Nginx, Route
from reconciler.core.errors import RenderError
from reconciler.core.observed import Slot
from reconciler.formats.nginx import ProxyView, Upstreams, config_hash, probe_path, read, render, sockets, verify

GOLDEN = Path(__file__).parent.parent / "golden"
NOBODY = ("unix:/tmp/nobody.sock",)


def service(name: str = "app", **changes: Any) -> Upstreams:
    plain = Upstreams(name, Slot.BLUE, {Slot.BLUE: ("10.0.0.2:3000",)}, Route(), False, False)
    return dataclasses.replace(plain, **changes)


def view(*services: Upstreams, **changes: Any) -> ProxyView:
    plain = ProxyView(
        nginx=Nginx("nginx:latest", 8080),
        upstreams=services or (service(),),
        flags_dir="/etc/nginx/live/flags",
        socket_path="/run/swiftdeploy/nginx.sock",
        project="demo",
    )
    return dataclasses.replace(plain, **changes)


MANY = view(
    service("web", members={Slot.BLUE: ("10.0.0.3:80", "10.0.0.2:80"), Slot.GREEN: ("10.0.0.9:80",)}, sticky=True),
    service(
        "api",
        default=Slot.GREEN,
        members={Slot.GREEN: ("10.0.0.4:80",)},
        route=Route(path="/api/v1.0"),
        uncounted=("/metrics", "/Health", "/health"),
        probe="/api/v1.0/ping",
    ),
    service("shop", members={}, route=Route(host="shop.example.com"), chaos=True),
    nginx=Nginx("nginx:latest", 80, 2.5, "Ops <ops@example.com>, #ops", "the shop"),
    evidence_log="/var/log/swiftdeploy/evidence.log",
)

TESTED = view(
    service("web", members={Slot.BLUE: ("10.0.0.3:80",), Slot.GREEN: ("10.0.0.9:80",)}, sticky=True, tester="1" * 16),
    service("api", members={Slot.BLUE: ("10.0.0.4:80",)}, route=Route(path="/api"), tester="0" * 16),
    service("shop", members={}, route=Route(host="shop.example.com"), chaos=True),
    evidence_log="/var/log/swiftdeploy/evidence.log",
)


def servers(text: str) -> dict[str, tuple[str, ...]]:
    """The members of each upstream."""
    found: dict[str, list[str]] = {}
    for around, name, arguments in read(text):
        if name == "server" and around[-1].startswith("upstream "):
            found.setdefault(around[-1].removeprefix("upstream "), []).append(arguments[0])
    return {name: tuple(members) for name, members in found.items()}


def all_of(directive: str, text: str) -> list[tuple[str, ...]]:
    return [arguments for _, name, arguments in read(text) if name == directive]


# ── the bytes ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "golden"),
    [("nginx-one-service.conf", view()), ("nginx-many-services.conf", MANY), ("nginx-testers.conf", TESTED)],
    ids=["one", "many", "testers"],
)
def test_the_text_is_the_golden_one(name, golden):
    text = render(golden)
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / name).write_text(text)
    assert text == (GOLDEN / name).read_text()


def test_equal_views_give_equal_bytes():
    other = dataclasses.replace(
        MANY,
        upstreams=tuple(
            dataclasses.replace(each, members={slot: each.members[slot][::-1] for slot in reversed(list(each.members))})
            for each in reversed(MANY.upstreams)
        ),
    )
    assert render(other) == render(MANY)


def test_the_hash_is_of_the_text_and_follows_every_change():
    text = render(view())
    said = config_hash(text)
    assert said == hashlib.sha256(text.replace(said, "0" * 64).encode()).hexdigest()
    assert said != config_hash(render(view(project="other")))


def test_a_text_without_a_hash_has_none():
    with pytest.raises(RenderError, match="carries no hash"):
        config_hash("events {}")


def test_an_old_nginx_gets_no_directive_it_does_not_know():
    assert all_of("keepalive_min_timeout", render(view())) == [("1s",)]
    assert all_of("keepalive_min_timeout", render(view(supports_min_timeout=False))) == []


@pytest.mark.parametrize(("seconds", "written"), [(30.0, "30s"), (30, "30s"), (2.5, "2500ms"), (0.001, "1ms")])
def test_the_timeout_is_in_whole_units(seconds, written):
    text = render(view(nginx=Nginx("nginx", 8080, seconds)))
    for directive in ("proxy_connect_timeout", "proxy_send_timeout", "proxy_read_timeout"):
        assert all_of(directive, text) == [(written,)]


def test_the_sockets_are_the_ones_it_listens_on():
    listening = [arguments[0] for arguments in all_of("listen", render(view())) if arguments[0].startswith("unix:")]
    assert sorted(listening) == sorted(f"unix:{path}" for path in sockets(view()))


# ── slots ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("I7")
@pytest.mark.parametrize(
    ("default", "blue", "green", "expected_blue", "expected_green"),
    [
        (Slot.BLUE, ("10.0.0.2:80",), (), ("10.0.0.2:80",), ("10.0.0.2:80",)),
        (Slot.GREEN, (), ("10.0.0.2:80",), ("10.0.0.2:80",), ("10.0.0.2:80",)),
        (Slot.BLUE, (), ("10.0.0.2:80",), NOBODY, ("10.0.0.2:80",)),
        (Slot.GREEN, ("10.0.0.2:80",), (), ("10.0.0.2:80",), NOBODY),
        (Slot.BLUE, (), (), NOBODY, NOBODY),
        (Slot.BLUE, ("10.0.0.3:80", "10.0.0.2:80"), ("10.0.0.4:80",), ("10.0.0.2:80", "10.0.0.3:80"), ("10.0.0.4:80",)),
    ],
    ids=["rest", "rest on green", "lost its last", "lost its last on green", "before the first start", "rollout"],
)
def test_an_empty_slot_repeats_the_serving_one_and_an_empty_serving_one_inherits_nothing(
    default, blue, green, expected_blue, expected_green
):
    text = render(view(service(default=default, members={Slot.BLUE: blue, Slot.GREEN: green})))
    assert servers(text) == {"app-blue": expected_blue, "app-green": expected_green}


def test_an_absent_slot_is_an_empty_one():
    assert servers(render(view(service(members={})))) == {"app-blue": NOBODY, "app-green": NOBODY}


@pytest.mark.parametrize("default", Slot)
def test_a_flag_picks_the_slot_that_is_not_the_default(default):
    facts = list(read(render(view(service(default=default)))))
    (condition,) = [arguments for _, name, arguments in facts if name == "if"]
    assert condition == ("(-f", "/etc/nginx/live/flags/app/$bucket)")
    chosen = [arguments for around, name, arguments in facts if name == "set" and "location /" in around]
    assert chosen == [("$up", f"app-{default}"), ("$up", f"app-{default.other}")]


@pytest.mark.fault("I13")
def test_every_bucket_exists_once_and_the_last_takes_the_rest():
    lines = re.findall(r"^        (1%|\*) (\d+);$", render(view()), re.M)
    assert [int(bucket) for _, bucket in lines] == list(range(100))
    assert {share for share, _ in lines[:-1]} == {"1%"}
    assert lines[-1][0] == "*"


def test_aliases_may_stand_for_addresses():
    text = render(view(service(members={Slot.BLUE: ("app-blue:3000",)})))
    assert servers(text) == {"app-blue": ("app-blue:3000",), "app-green": ("app-blue:3000",)}


def test_the_one_variable_in_a_target_has_only_constants_of_this_file():
    text = render(MANY)
    assert {target for (target,) in all_of("proxy_pass", text) if "$" in target} == {"http://$up"}
    assert {arguments[0] for arguments in all_of("set", text)} == {"$up"}
    assert {value for _, value in all_of("set", text)} - {""} == set(servers(text))


# ── routes and answers ─────────────────────────────────────────────────────────────────────────────────────────────


def test_unknown_hosts_get_444_only_when_every_service_has_a_host():
    hosts = service("a", route=Route(host="a.example.com"))
    assert ("444",) in all_of("return", render(view(hosts)))
    assert ("444",) not in all_of("return", render(view(hosts, service("b"))))
    assert ("444",) not in all_of("return", render(view()))


def test_a_view_without_services_answers_404():
    text = render(ProxyView(Nginx("nginx", 80), (), "/flags", "/run/nginx.sock", "demo"))
    answers = [arguments for around, name, arguments in read(text) if name == "return" and around[-1] == "location /"]
    assert answers[0][0] == "404"


def test_error_bodies_have_four_strings():
    bodies = [json.loads(arguments[1]) for arguments in all_of("return", render(MANY)) if "{" in arguments[-1]]
    assert bodies
    for body in bodies:
        assert body["service"] == "the shop"
        assert body["contact"] == "Ops <ops@example.com>, #ops"
        assert list(body) == ["error", "code", "service", "contact"]
        assert {type(value) for value in body.values()} == {str}


def test_errors_name_the_only_service_or_else_the_project():
    assert '"service":"app"' in render(view())
    assert '"service":"demo"' in render(view(service("a"), service("b", route=Route(path="/b"))))


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        (service("a"), service("b"), "a and b have the same route"),
        (service("a", route=Route(path="/x")), service("b", route=Route(path="/x/")), "any host, path /x"),
        (service("app"), service("App", route=Route(path="/x")), "app and App have one name"),
        (service("app"), service("app", route=Route(path="/x")), "app and app have one name"),
    ],
)
def test_two_services_in_one_place_are_refused_by_name(one, two, message):
    with pytest.raises(RenderError, match=message):
        render(view(one, two))


# ── evidence ───────────────────────────────────────────────────────────────────────────────────────────────────────

EVIDENCE = view(service(uncounted=("/metrics", "/healthz"), probe="/ping"), evidence_log="/var/log/e.log")


def test_without_an_evidence_log_there_is_only_the_one_for_people():
    assert set(all_of("access_log", render(view(service(uncounted=("/x",)))))) == {
        ("/dev/stdout", "swiftdeploy"),
        ("off",),
    }


def test_the_evidence_log_holds_nothing_that_a_client_chose():
    formats = dict(all_of("log_format", render(EVIDENCE)))
    assert not re.search(r"\$(?:uri|request|http_|arg_|cookie_|args|host|remote)", formats["evidence"])


def test_either_slot_can_be_asked_for_the_probe_and_for_nothing_else():
    asked = {around[-1]: arguments for around, name, arguments in read(render(EVIDENCE)) if name == "proxy_pass"}
    assert asked.pop("location /") == ("http://$up",)
    assert asked == {
        f"location = {probe_path('app', Slot.BLUE)}": ("http://app-blue/ping",),
        f"location = {probe_path('app', Slot.GREEN)}": ("http://app-green/ping",),
    }
    assert len(all_of("proxy_pass", render(view()))) == 1


# ── what must not get in ───────────────────────────────────────────────────────────────────────────────────────────

ATTACKS = [
    "a;\n location /pwn/ { proxy_pass http://127.0.0.1:8181/; } #",
    "/ { return 200; } location /pwn/ { proxy_pass http://127.0.0.1:8181/; } location /zz",
    'x"; return 302 http://evil/$request_uri; add_header Z "y',
    "x'; return 302 http://evil/; #",
    "unix:/run/docker.sock",
    "1 max_fails=0; server 127.0.0.1:8181",
    "127.0.0.1 backup; server 127.0.0.1:8181",
    "$http_authorization$cookie_session",
    "${x",
    "$upstream_addr",
    "x\\",
    "\r\nEvil: 1",
    "~ .*",
    "= /",
    "^~ /",
    "@name",
    '""',
    "*.com *",
    "~^(?<x>.*)$",
    "x" * 600,
    "/" + "x" * 600,
    "a\x00b",
    "wеb",
    "include /etc/passwd;",
    "load_module /tmp/x.so;",
    "}",
    "{",
    "'",
    "`",
    "%00\x00",
    "/a b;",
    "/$http_host",
    "/../../etc",
    "/a/../b",
    "//",
    "/a//b",
    "\u2028",
    "\x7f",
    "\x1b[31m",
    "",
    " ",
    "-x",
    "/x\n",
    "x\n",
]
FIELDS = {
    "project": lambda text: view(project=text),
    "flags_dir": lambda text: view(flags_dir=text),
    "socket_path": lambda text: view(socket_path=text),
    "temp_dir": lambda text: view(temp_dir=text),
    "contact": lambda text: view(nginx=Nginx("nginx", 8080, contact=text)),
    "service_name": lambda text: view(nginx=Nginx("nginx", 8080, service_name=text)),
    "service": lambda text: view(service(text)),
    "host": lambda text: view(service(route=Route(host=text))),
    "path": lambda text: view(service(route=Route(path=text))),
    "evidence_log": lambda text: view(evidence_log=text),
    "uncounted": lambda text: view(service(uncounted=("/ok", text)), evidence_log="/e"),
    "probe": lambda text: view(service(probe=text), evidence_log="/e"),
    "member": lambda text: view(service(members={Slot.BLUE: (text,)})),
    "other member": lambda text: view(service(members={Slot.GREEN: ("10.0.0.2:80", text)})),
}
BITES = re.compile(r"""[$"'{};\\`]|[^ -~]""")


def is_inert(text: str, accepted: ProxyView) -> bool:
    """The text of `accepted` has the directives, and no others, that a harmless view of the same shape has."""
    strict = parsed(text, check=True)
    return shape(strict) == shape(parsed(render(harmless(accepted)))) and '"status": "failed"' not in json.dumps(strict)


@pytest.mark.parametrize("field", FIELDS)
def test_an_attack_is_refused_or_inert_in_every_field(field):
    for attack in ATTACKS:
        built = FIELDS[field](attack)
        try:
            text = render(built)
        except RenderError as refusal:
            assert len(str(refusal)) > 20  # noqa: PT017
        else:
            assert not BITES.search(attack), attack
            assert is_inert(text, built), attack


@pytest.mark.parametrize("field", FIELDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[Check.function_scoped_fixture])
@given(text=st.text(max_size=12) | st.text("ab/.-_:10@ <>,#$\"'{};\\\n", max_size=12))
def test_any_text_is_refused_or_inert_in_every_field(field, text):
    built = FIELDS[field](text)
    try:
        rendered = render(built)
    except RenderError:
        return
    assert not BITES.search(text)
    assert is_inert(rendered, built)


NO_CONTAINERS = (
    *("169.254.169.254:80", "0.0.0.0:80", "224.0.0.1:80", "240.0.0.1:80", "255.255.255.255:80", "2130706433:80"),
    *("0x7f000001:80", "0177.0.0.1:80", "127.1:80", "[::1]:8181", "::1:80", "localhost:8181", "opa:8181", "opa.:80"),
    *(
        "unix:/run/docker.sock",
        "10.0.0.2:0",
        "10.0.0.2:65536",
        "10.0.0.2:080",
        "10.0.0.2:+80",
        "10.0.0.2",
        ":80",
        "10.0.0.2:",
    ),
    *(
        "10.0.0.2:80 backup",
        "10.0.0.2:80/x",
        "10.0.0.2:80\n",
        "10.0.0.02:80",
        "evil.example.com:80",
        "-blue:80",
        "",
        " ",
    ),
)


@pytest.mark.parametrize("member", NO_CONTAINERS)
def test_a_member_is_a_containers_address_or_a_slots_alias(member):
    with pytest.raises(RenderError, match=r"(A|the port of a) member of app-blue"):
        render(view(service(members={Slot.BLUE: (member,)})))


@pytest.mark.parametrize("port", [0, -1, 65536, True, 80.0, "80", None])
def test_a_port_is_a_port(port):
    with pytest.raises(RenderError, match=r"nginx\.port"):
        render(view(nginx=Nginx("nginx", port)))


@pytest.mark.parametrize("seconds", [0, -1, 0.0001, 1e9, float("nan"), float("inf"), True, "30s", None])
def test_a_timeout_is_a_duration(seconds):
    with pytest.raises(RenderError, match=r"nginx\.proxy_timeout"):
        render(view(nginx=Nginx("nginx", 80, seconds)))


def test_a_refusal_names_the_field_and_what_to_write():
    with pytest.raises(RenderError, match=r"^services\.app\.route\.host is 'Evil host'\. Use a lower-case host name"):
        render(view(service(route=Route(host="Evil host"))))


# ── accepted views, against another parser ─────────────────────────────────────────────────────────────────────────


def parsed(text: str, *, check: bool = False) -> list[dict[str, Any]]:
    """crossplane's own tree of the text, its public way, through a file."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(text)
        file.flush()
        payload = crossplane.parse(file.name, single=True, catch_errors=False, strict=False, check_ctx=check)
    assert payload["status"] == "ok"
    return payload["config"][0]["parsed"]


def shape(tree: list[dict[str, Any]]) -> list[Any]:
    """Names of directives and the number of their arguments, nested; values left out, order of siblings too.

    What stands for a name in a map, with a path in it, is a value.
    """
    names = [each["directive"] if "/" not in each["directive"] else "a path" for each in tree]
    return sorted(
        ([name, len(each["args"]), shape(each.get("block", []))] for name, each in zip(names, tree, strict=True)),
        key=json.dumps,
    )


def harmless(accepted: ProxyView) -> ProxyView:
    """A view of the same shape with nothing but tame values."""
    hosts = sorted({each.route.host for each in accepted.upstreams if each.route.host})
    return dataclasses.replace(
        accepted,
        project="p",
        flags_dir="/f",
        socket_path="/s/x",
        temp_dir="/t",
        evidence_log="/e" if accepted.evidence_log else None,
        testers_dir="/s",
        nginx=Nginx("nginx", 8080, accepted.nginx.proxy_timeout_s),
        upstreams=tuple(
            dataclasses.replace(
                each,
                service=f"s{number}",
                members={
                    slot: tuple(f"10.1.{number}.{index}:80" for index, _ in enumerate(sorted(set(members))))
                    for slot, members in each.members.items()
                },
                route=Route(
                    f"h{hosts.index(each.route.host)}" if each.route.host else None,
                    "/" if each.route.path == "/" else f"/p{number}",
                ),
                uncounted=tuple(f"/u{index}" for index, _ in enumerate({path.lower() for path in each.uncounted})),
                probe=None if each.probe is None else "/",
            )
            for number, each in enumerate(accepted.upstreams)
        ),
    )


NAMES = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,20}", fullmatch=True)
HOSTS = st.none() | st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{1,9}){0,2}", fullmatch=True)
PATHS = st.just("/") | st.from_regex(r"(/(?!\.\.?(/|\Z))[A-Za-z0-9._~-]{1,7}){1,3}", fullmatch=True)
ADDRESSES = st.tuples(st.integers(0, 255), st.integers(1, 254), st.integers(1, 65535)).map(
    lambda parts: f"10.0.{parts[0]}.{parts[1]}:{parts[2]}"
)
TEXTS = st.text("abcXYZ019 @._+:/,()<>[]?&=%~#!*|-", min_size=1, max_size=30)


@st.composite
def views(draw: Any) -> ProxyView:
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    routes = draw(
        st.lists(
            st.builds(Route, HOSTS, PATHS),
            min_size=len(names),
            max_size=len(names),
            unique_by=lambda r: (r.host, r.path),
        )
    )
    members = st.dictionaries(st.sampled_from(Slot), st.lists(ADDRESSES, max_size=4).map(tuple))
    return ProxyView(
        nginx=Nginx(
            "nginx",
            draw(st.integers(1, 65535)),
            draw(st.integers(1, 600) | st.floats(0.1, 60)),
            draw(TEXTS),
            draw(TEXTS),
        ),
        upstreams=tuple(
            Upstreams(
                name,
                draw(st.sampled_from(Slot)),
                draw(members),
                route,
                draw(st.booleans()),
                draw(st.booleans()),
                draw(st.lists(PATHS, max_size=3).map(tuple)),
                draw(st.none() | PATHS),
            )
            for name, route in zip(names, routes, strict=True)
        ),
        flags_dir="/flags",
        socket_path="/run/nginx.sock",
        project=draw(NAMES),
        supports_min_timeout=draw(st.booleans()),
        evidence_log=draw(st.none() | st.just("/log/evidence.log")),
    )


@settings(max_examples=40, deadline=None)
@given(accepted=views())
def test_an_accepted_view_is_read_back_as_what_it_means(accepted):
    text = render(accepted)
    assert render(accepted) == text
    tree = parsed(text, check=True)
    assert is_inert(text, accepted)
    http = next(each["block"] for each in tree if each["directive"] == "http")
    upstreams = {
        each["args"][0]: [line["args"][0] for line in each["block"] if line["directive"] == "server"]
        for each in http
        if each["directive"] == "upstream"
    }
    assert upstreams == dict(expected_upstreams(accepted))
    listening = [
        line["args"]
        for each in http
        if each["directive"] == "server"
        for line in each["block"]
        if line["directive"] == "listen"
    ]
    public = [arguments for arguments in listening if not arguments[0].startswith("unix:")]
    hosts = {each.route.host for each in accepted.upstreams if each.route.host}
    assert public == [[str(accepted.nginx.port), "default_server"], *([[str(accepted.nginx.port)]] * len(hosts))]
    assert len(listening) == len(public) + 2


def expected_upstreams(accepted: ProxyView) -> Iterator[tuple[str, list[str]]]:
    """The rule of the two slots once more, in other words."""
    for each in accepted.upstreams:
        blue, green = (sorted(set(each.members.get(slot, ()))) for slot in (Slot.BLUE, Slot.GREEN))
        if each.default == Slot.BLUE:
            blue = blue or list(NOBODY)
            green = green or blue
        else:
            green = green or list(NOBODY)
            blue = blue or green
        yield f"{each.service}-blue", blue
        yield f"{each.service}-green", green


# ── a text that is not what was meant ──────────────────────────────────────────────────────────────────────────────

TAMPERINGS = {
    "another server": ("server 10.0.0.2:3000 max", "server 127.0.0.1:8181 max"),
    "one more server": ("        keepalive 32;", "        server 127.0.0.1:8181;\n        keepalive 32;"),
    "another target": ("proxy_pass http://$up;", "proxy_pass http://$http_host;"),
    "one more location": ("        location / {", "        location /x { return 204; }\n        location / {"),
    "another listener": ("listen 8080 default_server", "listen 22 default_server"),
    "another flag": ("flags/app/$bucket", "flags/app/$arg_x"),
    "the slots swapped": ("set $up app-blue", "set $up app-green"),
    "an include": ("http {", "http {\n    include /etc/passwd;"),
    "an include in a map": ("        default \"\";", "        include /etc/passwd;"),
    "a module": ("daemon off;", "daemon off;\nload_module /tmp/x.so;"),
    "a root": ("        server_name _;", "        root /;\n        server_name _;"),
    "a rewrite": ("            proxy_pass", "            rewrite ^ http://evil/;\n            proxy_pass"),
    "chaos let through": ("return 403", "return 200"),
    "another body": ("ops@localhost", "evil@localhost"),
    "another socket": ("unix:/run/swiftdeploy/nginx.sock", "unix:/run/docker.sock"),
    "another log": ("access_log /dev/stdout swiftdeploy", "access_log /tmp/x swiftdeploy"),
    "a missing brace": ("events {", "events"),
    "one brace more": ("events {\n    worker_connections 4096;\n}", "events {\n    worker_connections 4096;\n}\n}"),
    "an open end": ("            return 404;\n        }\n    }\n}\n", "            return 404;\n        }\n    }\n"),
    "a word at the end": ("    }\n}\n", "    }\n}\nevents"),
    "an open quote at the end": ("    }\n}\n", "    }\n}\n'"),
    "a directive at the end": ("    }\n}\n", "    }\n}\ninclude /x;"),
}  # fmt: skip


EVIDENCE_TAMPERINGS = {
    "another path that does not count": ('"app-blue /metrics" "";', '"app-blue /" "";'),
    "one more": ('"app-blue /metrics" "";', '"app-blue /metrics" ""; "app-blue /" "";'),
    "one less": ('        "app-blue /metrics" "";\n', ""),
    "nothing counts": ('"~^[^ ]" 1;', '"~^[^ ]" "";'),
    "everything counts": (
        '        default "";\n    }\n    log_format e',
        "        default 1;\n    }\n    log_format e",
    ),
    "an include": ('"~^[^ ]" 1;', '"~^[^ ]" 1; include /etc/passwd;'),
    "another condition": ("if=$evidence", "if=$http_x"),
    "another file": ("access_log /var/log/e.log evidence buffer=32k flush=200ms;", "access_log /tmp/x evidence;"),
    "another format": ("'~$upstream_addr", "'~$request_uri"),
    "another probe": ("http://app-blue/ping", "http://app-blue/"),
    "a probe anywhere": ("http://app-blue/ping", "http://$http_host/ping"),
    "a probe for all": ("location = /slot/app-blue", "location /slot/app-blue"),
}


@pytest.mark.parametrize("change", EVIDENCE_TAMPERINGS)
def test_a_changed_way_of_counting_does_not_verify(change):
    before, after = EVIDENCE_TAMPERINGS[change]
    text = render(EVIDENCE)
    assert before in text
    with pytest.raises(RenderError, match=r"nginx\.conf"):
        verify(resealed(text.replace(before, after)), EVIDENCE)


def resealed(text: str) -> str:
    """The text with the hash that fits it."""
    said = config_hash(text)
    blank = text.replace(said, "0" * 64)
    return text.replace(said, hashlib.sha256(blank.encode()).hexdigest())


def test_a_good_text_verifies():
    verify(resealed(render(view())), view())
    verify(render(MANY), MANY)


@pytest.mark.parametrize("change", TAMPERINGS)
def test_a_changed_text_does_not_verify(change):
    before, after = TAMPERINGS[change]
    text = render(view())
    assert before in text
    with pytest.raises(RenderError, match=r"nginx\.conf"):
        verify(resealed(text.replace(before, after)), view())


def test_a_text_edited_by_hand_does_not_verify():
    with pytest.raises(RenderError, match="not the hash of its text"):
        verify(render(view()).replace("server_tokens off", "server_tokens on"), view())


def test_the_text_of_another_view_does_not_verify():
    with pytest.raises(RenderError, match=r"nginx\.conf"):
        verify(render(MANY), view())


# ── testers ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("tester", ["", "0" * 15, "0" * 17, "G" * 16, "0" * 15 + ";", "0" * 16 + "\n", 5])
def test_only_a_digest_stands_for_a_secret(tester):
    with pytest.raises(RenderError, match="tester_secret"):
        render(view(service(tester=tester)))


def test_another_secret_is_another_text():
    other = dataclasses.replace(TESTED.upstreams[0], tester="2" * 16)
    assert config_hash(render(TESTED)) != config_hash(
        render(dataclasses.replace(TESTED, upstreams=(other, *TESTED.upstreams[1:])))
    )


def test_a_service_without_testers_is_written_as_ever():
    (location,) = [place for place in all_of("if", render(TESTED)) if "/shop/$" in place[1]]
    assert location == ("(-f", "/etc/nginx/live/flags/shop/$bucket)")


# fmt: off
CHANGED_TESTERS = {
    "a secret in the text": ("        include /etc/nginx/live/testers/api.0000000000000000.map;", '        "a" 1;'),
    "a secret beside the file": ("api.0000000000000000.map;", 'api.0000000000000000.map; "a" 1;'),
    "another file": ("api.0000000000000000.map", "api.1111111111111111.map"),
    "one more include": ("    proxy_http_version", "    include /tmp/x; proxy_http_version"),
    "everybody is a tester": ("api.0000000000000000.map;\n        default \"\";",
                              "api.0000000000000000.map;\n        default 1;"),
    "another header": ("map $http_x_canary_secret $tester_1", "map $http_x_other $tester_1"),
    "no secret needed": ('map "$tester_1 $http_x_canary"', 'map "1 $http_x_canary"'),
    "another bucket": ('"1 always" 0;\n        "1 never" 99;\n        default "";\n    }\n    map $wish_1',
                       '"1 always" 1;\n        "1 never" 99;\n        default "";\n    }\n    map $wish_1'),
    "somebody else's bucket": ('"" $client_bucket;', '"" $bucket;'),
    "the secret goes on": ('    proxy_set_header X-Canary-Secret "";\n', ""),
    "the secret is sent": ('X-Canary-Secret ""', "X-Canary-Secret $http_x_canary_secret"),
    "sent by another name": ('X-Canary-Secret "";',
                             'X-Canary-Secret ""; proxy_set_header x-canary-secret $http_x_canary_secret;'),
    "testers are evidence": ('"~^[^ ]" $unsteered;', '"~^[^ ]" 1;'),
    "all are evidence": ('map $wish $unsteered {\n        "" 1;\n        default "";',
                         'map $wish $unsteered {\n        "" 1;\n        default 1;'),
    "not noted": ("            set $wish $wish_1;\n", ""),
    "noted as another": ("set $wish $wish_1;", "set $wish $wish_2;"),
}
# fmt: on


@pytest.mark.parametrize("change", CHANGED_TESTERS)
def test_a_changed_way_of_testing_does_not_verify(change):
    before, after = CHANGED_TESTERS[change]
    text = render(TESTED)
    assert before in text
    with pytest.raises(RenderError, match=r"never writes|not what was meant"):
        verify(resealed(text.replace(before, after, 1)), TESTED)
    verify(text, TESTED)
