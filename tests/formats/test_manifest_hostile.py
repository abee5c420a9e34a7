"""Manifests that are valid YAML and must still be refused: what reaches for the host, for nginx, or beyond sense."""

from __future__ import annotations

import json
import re
import time

import pytest

from reconciler.core.errors import Problem
from reconciler.formats import compose_keys, manifest

SERVICE, NGINX, NETWORK, TOP = "service", "nginx", "network", "top"
LINES = {SERVICE: 4, NGINX: 7, NETWORK: 10, TOP: 10}


def text(service: str = "", nginx: str = "", network: str = "", top: str = "") -> bytes:
    """The six keys and more: a service's own lines start on line 4, top-level ones on line 10."""

    def indented(lines: str) -> str:
        return "".join(f"  {line}\n" for line in lines.splitlines())

    return (
        f"services:\n  image: shop/web:1\n  port: 3000\n{indented(service)}"
        f"nginx:\n  image: nginx:latest\n  port: 8080\n{indented(nginx)}"
        f"network:\n  name: net\n  driver_type: bridge\n{indented(network)}{top}"
    ).encode()


def problems(data: bytes, **options: object) -> tuple[Problem, ...]:
    started = time.process_time()
    reading = manifest.read(data, **options)  # type: ignore[arg-type]
    assert time.process_time() - started < 2
    assert (reading.desired is None) == bool(reading.problems)
    return reading.problems


# where, lines, column of the first problem, words of it
HOST: list[tuple[str, str, int, str]] = [
    (SERVICE, "privileged: true", 15, "services.privileged is refused"),
    (SERVICE, "cap_add: [ALL]", 13, "services.cap_add[0]"),
    (SERVICE, "cap_add: [SYS_ADMIN]", 13, "reach for the host"),
    (SERVICE, "cap_add: [NET_RAW]", 13, "services.cap_add[0]"),
    (SERVICE, "cap_add: [chown]", 13, "services.cap_add[0]"),
    (SERVICE, "cap_add: ALL", 12, "services.cap_add"),
    (SERVICE, "pid: host", 8, "services.pid is refused"),
    (SERVICE, "ipc: host", 8, "services.ipc is refused"),
    (SERVICE, "ipc: container:opa", 8, "services.ipc is refused"),
    (SERVICE, "network_mode: host", 17, "services.network_mode is refused"),
    (SERVICE, "network_mode: container:opa", 17, "services.network_mode is refused"),
    (SERVICE, "uts: host", 8, "services.uts is refused"),
    (SERVICE, "userns_mode: host", 16, "services.userns_mode is refused"),
    (SERVICE, "cgroup: host", 11, "services.cgroup is refused"),
    (SERVICE, "cgroup_parent: /", 18, "services.cgroup_parent is refused"),
    (SERVICE, "devices: [/dev/mem]", 12, "services.devices is refused"),
    (SERVICE, "device_cgroup_rules: ['c 1:3 mr']", 24, "services.device_cgroup_rules is refused"),
    (SERVICE, "gpus: all", 9, "services.gpus is refused"),
    (SERVICE, "runtime: evil", 12, "services.runtime is refused"),
    (SERVICE, "security_opt: [seccomp=unconfined]", 17, "services.security_opt is refused"),
    (SERVICE, "security_opt: [no-new-privileges, apparmor=unconfined]", 17, "services.security_opt is refused"),
    (SERVICE, "security_opt: ['label=disable']", 17, "services.security_opt is refused"),
    (SERVICE, "security_opt: [{a: [x]}]", 17, "services.security_opt is refused"),
    (SERVICE, "sysctls: {net.ipv4.ip_forward: 1}", 12, "services.sysctls is refused"),
    (SERVICE, "ulimits: {nofile: 1000000}", 12, "services.ulimits is refused"),
    (SERVICE, "oom_score_adj: -1000", 18, "services.oom_score_adj is refused"),
    (SERVICE, "oom_kill_disable: true", 21, "services.oom_kill_disable is refused"),
    (SERVICE, "shm_size: 1000000000000", 13, "services.shm_size is refused"),
    (SERVICE, "volumes_from: [other]", 17, "services.volumes_from is refused"),
    (SERVICE, "extra_hosts: ['opa:127.0.0.1']", 16, "services.extra_hosts is refused"),
    (SERVICE, "dns: 1.1.1.1", 8, "services.dns is refused"),
    (SERVICE, "ports: ['3000:3000']", 10, "nginx.port"),
    (SERVICE, "build: .", 10, "docker build"),
    (SERVICE, "links: [db]", 10, "services.links is refused"),
    (SERVICE, "use_api_socket: true", 19, "services.use_api_socket is refused"),
    (SERVICE, "group_add: [docker]", 14, "services.group_add is refused"),
    (SERVICE, "storage_opt: {size: 1T}", 16, "services.storage_opt is refused"),
    (SERVICE, "extends: {file: /etc/passwd}", 12, "services.extends is refused"),
    (SERVICE, "configs: [a]", 12, "services.configs is refused"),
    (SERVICE, "secrets: [a]", 3, "secrets come later"),
    (SERVICE, "platform: linux/arm64", 13, "services.platform is refused"),
    (SERVICE, "post_start: [{command: id}]", 15, "services.post_start is refused"),
    (SERVICE, "volume_driver: nfs", 18, "services.volume_driver is refused"),
    (SERVICE, "labels: {io.swiftdeploy.project: other}", 12, "ours to set"),
    (SERVICE, "labels: ['com.docker.compose.service=opa']", 11, "ours to set"),
    (SERVICE, "labels: {'a b': c}", 12, "cannot be a name"),
    (SERVICE, "hostname: 'a;b'", 13, "services.hostname"),
    (SERVICE, "tester_secret: hunter2", 18, "never stands in the manifest"),
    (SERVICE, "tester_secret: file:/etc/shadow", 18, "services.tester_secret"),
    (SERVICE, "tester_secret: file:../x", 18, "services.tester_secret"),
    (NETWORK, "driver: host", 11, "network.driver is"),
    (
        TOP,
        "volumes: {v: {driver: local, driver_opts: {type: none, o: bind, device: /}}}",
        43,
        "volumes.v.driver_opts is refused",
    ),
    (TOP, "volumes: {v: {driver: nfs}}", 23, "volumes.v.driver"),
    (TOP, "policy: {system: {a: 1}}", 10, "policy.system"),
    (TOP, "policy: {A: {a: 1}}", 10, "policy.A"),
    (TOP, "policy: {opa_url: 'http://169.254.169.254/'}", 19, "policy.opa_url"),
    (TOP, "opa: {policies_dir: ../../../etc}", 21, "opa.policies_dir"),
    (TOP, "opa: {policies_dir: /etc}", 21, "opa.policies_dir"),
    (TOP, "opa: {policies_dir: .git}", 21, "opa.policies_dir"),
    (TOP, "opa: {policies_dir: a/../b}", 21, "opa.policies_dir"),
]
VOLUMES = [
    "/:/h",
    "/var/run/docker.sock:/var/run/docker.sock",
    "/run/docker.sock:/s:ro",
    "/run:/r",
    "/proc:/p",
    "/sys:/s",
    "/etc:/e",
    "../../:/x",
    "../x:/y",
    "./../x:/y",
    "./a/../../x:/y",
    "~:/home",
    "~/x:/home",
    "//:/x",
    "//etc:/x",
    ".:/app",
    "./:/app",
    "./.:/app",
    "./state:/s",
    "./state/run:/s:ro",
    "./STATE:/s",
    "./.git:/g",
    "./manifest.yaml:/m",
    "./policies:/p",
    "./a//b:/x",
    "./a/./b:/x",
    "./..%2fx:/x",
    "./a\\\\b:/x",
    "C:\\\\x:/x",
    "./a b:/x",
    "./a:/x:rshared",
    "./a:/x:rw,z",
    "./a:/x:ro:more",
    "./a:relative",
    "./a:/",
    "./a:/x/../../y",
    "./a:",
    ":/x",
    "/data",
    "\\t/data",
    "data:/var/log/app",
    "data:/x$y",
    "da ta:/x",
    "-rm:/x",
    "./é:/x",
    "./" + "a" * 256 + ":/x",
    "./" + "a/" * 600 + ":/x",
]
LONG_MOUNTS = [
    "{type: bind, source: /etc, target: /x}",
    "{type: bind, source: ./a, target: /x, bind: {propagation: rshared}}",
    "{type: volume, source: d, target: /x, volume: {subpath: ../..}}",
    "{type: npipe, source: d, target: /x}",
    "{type: volume, target: /x}",
    "{type: tmpfs, source: d, target: /x}",
    "{type: bind, source: ./a}",
    "{source: ./a, target: /x}",
    "{type: bind, source: ./a, target: ../x}",
]
IMAGES = [
    "-x",
    "a b",
    "../../x",
    "evil.tld/x@sha256:short",
    "x@sha256:" + "G" * 64,
    "a" * 300,
    "Shop/Web",
    "scratch",
    "scratch:latest",
    "a" * 64,
    "sha256:" + "a" * 64,
    "shop/web:",
    "shop//web",
    "shop/web:1;rm",
    "shop/web:$TAG",
    "http://shop/web",
    "shop/web\n",
    "shop/web:1\nx",
    "/web",
    "web/",
    "we..b",
    "wеb",
    "web:" + "t" * 129,
    "",
    " ",
]
NAMES = [
    "opa",
    "nginx",
    "localhost",
    "..",
    "-rm",
    "a/b",
    "a;b",
    "a" * 64,
    "host.docker.internal",
    "Web",
    "wеb",
    "a b",
    "_a",
]
BAD_VALUES: list[tuple[str, str]] = [
    *(
        ("port", value)
        for value in ("0", "65536", "-1", '"22"', "22:22", "3000.0", "3000:3000", "true", "[3000]", "{}", "")
    ),
    *(("replicas", value) for value in ("-1", "0", "1000000000", "1.5", "true", '"3"', "[]")),
    *(("mode", value) for value in ("cannary", "Stable", "true", "1", "[]", '""', "")),
    *(("version", value) for value in ("1.10", "1", "true", "[]", '"a b"', '"$x"', '"a\\n"', '""')),
    *(("restart_policy", value) for value in ("never", "on-failure:x", "on-failure:0", "true", "No")),
    *(("chaos", value) for value in ("yes", "1", '"true"', "True")),
    *(("read_only", value) for value in ("no", "0", "null")),
    *(("stop_grace_period", value) for value in ("5 m", "PT5M", "-1", "10x", "99999h", '""', "true", "1d")),
    *(("stop_signal", value) for value in ("9", "TERM", "sigterm", '"SIGTERM; x"')),
    *(("user", value) for value in ("-1", "a:b:c", '"$(id)"', '"a b"', "1.5", "true", "[]")),
    *(("command", value) for value in ("[]", '""', '"  "', '"a \'b"', "{}", "[[a]]", "true", "[true]")),
    *(("entrypoint", value) for value in ("[]", "'\"x'")),
    *(
        ("tmpfs", value)
        for value in ("relative", "/", "/run:suid", "/run:size=", "[/run:]", "/a:/b", "/var/log/app", "{a: b}")
    ),
    *(("working_dir", value) for value in ("srv", "/a/../b", "/a//b", '"/a b"')),
    *(("log_volume", value) for value in ("/var/log", "./logs", "a b", "-x", '""')),
    *(
        ("environment", value)
        for value in ("A", "[A]", "['=x']", "['1A=x']", "{'': x}", "{'A=B': x}", "{'A B': x}", "{é: x}")
    ),
    *(("environment", value) for value in ("{A: {}}", "{A: []}", "{A: }", "{A: null}", '{A: "\\0"}', "[A=1, A=2]")),
    *(
        ("env_file", value)
        for value in ("missing.env", "../x.env", "/etc/shadow", "{}", "[[]]", "~/x", "file:/etc/shadow")
    ),
    *(
        ("healthcheck", value)
        for value in ("{path: healthz}", '{path: "/a\\r\\nX: y"}', "{path: 'http://evil/'}", "{path: //evil/}")
    ),
    *(
        ("healthcheck", value)
        for value in ("{path: /@x}", "{path: '/{{x}}'}", "{path: /%00}", "{path: /../x}", "{path: '/a b'}")
    ),
    *(
        ("healthcheck", value)
        for value in ("{path: '/" + "a" * 8192 + "'}", "{interval: 0}", "{interval: 0.0001}", "{interval: -1}")
    ),
    *(
        ("healthcheck", value)
        for value in ("{timeout: 5 m}", "{retries: 0}", "{retries: 1.5}", "{test: []}", "{test: [curl, x]}")
    ),
    *(
        ("healthcheck", value)
        for value in ("{test: [CMD]}", "{test: {}}", "{test: ''}", "curl -f x", "true", "[]", "{intervall: 5}")
    ),
    *(
        ("route", value)
        for value in ("true", "/shop", "{path: shop}", "{path: /a;b}", "{host: 'a b'}", "{host: A.B}", "{sticky: 1}")
    ),
    *(
        ("route", value)
        for value in ("", "{hosts: a}", "{host: '*.a.b'}", "{host: 'a.b:80'}", "{path: /a/../b}", "{host: -a}")
    ),
    *(
        ("rollout", f"{{steps: [{{weight: {weight}}}]}}")
        for weight in ("-1", "101", "0.0000001", "1.5", ".nan", "true", "'5'")
    ),
    *(
        ("rollout", value)
        for value in ("{steps: null}", "{steps: [5]}", "{steps: [{duration: 5}]}", "{steps: {weight: 5}}")
    ),
    *(("rollout", value) for value in ("{steps: [{weight: 50}, {weight: 5}]}", "{steps: [{weight: 5}, {weight: 5}]}")),
    *(
        ("rollout", value)
        for value in ("{step: []}", "{strategi: canary}", "{foo: 1}", "{strategy: blue_green}", "{strategy: x}")
    ),
    *(
        ("rollout", value)
        for value in ("{max_wait: 0}", "{min_requests: 0}", "{on_timeout: explode}", "{probe: /}", "{probe: {}}")
    ),
    *(
        ("rollout", value)
        for value in ("{probe: {path: /, rate: 0}}", "{probe: {path: /, rate: 1000000}}", "{promotion: x}", "5")
    ),
    *(
        ("metrics", value)
        for value in ("{provider: prometheus}", "{provider: x}", "{path: x}", "{names: {requests: 'a b'}}", "app")
    ),
    *(
        ("metrics", f"{{provider: prometheus, server: '{value}'}}")
        for value in (
            *(
                "https://p:9090",
                "http://u:p@p",
                "http://p:0",
                "http://p:65536",
                "http://p/?x",
                "http://p#x",
                "http://p/..",
            ),
            *("p:9090", "http://", "http://P", "http://a b", "http://p:9090\\n", "file:///x", "http://::1", "unix:/x"),
        )
    ),
    *(
        ("metrics", f"{{provider: prometheus, server: 'http://p', match: {value}}}")
        for value in (
            *("{__name__: x}", "{'a b': x}", "{1a: x}", "{x-a: x}", "{a: 'x\"y'}", "{a: 'x\\y'}", "{a: ''}", "{a: 5}"),
            *("{a: '{nam}'}", "{instance: x}", "x", "[a]", "{a: [b]}", "{a: 'x|y'}"),
        )
    ),
    *(("metrics", value) for value in ("{server: 'http://p'}", "{match: {a: b}}", "{provider: app, match: {a: b}}")),
    *(
        ("deploy", value)
        for value in ("{replicas: 0}", "{resources: {limits: {memory: 1}}}", "{resources: {limits: {memory: 5x}}}")
    ),
    *(
        ("deploy", value)
        for value in ("{resources: {limits: {cpus: 0}}}", "{resources: {limits: {cpus: '0'}}}", "{replica: 2}", "3")
    ),
    *(
        ("deploy", value)
        for value in ("{resources: {limits: {cpus: '9999'}}}", "{resources: {limits: {pids: 0}}}", "{resources: 1}")
    ),
    *(("depends_on", value) for value in ("[db]", "{db: {condition: service_healthy}}", "db")),
    *(("volumes", value) for value in ("{}", "a:/b", "[[]]", "[5]", "['']", "[{}]", "[a:/x, b:/x]")),
    *(("cap_drop", value) for value in ("ALL", "[1]", "['a b']")),
    *(("init", value) for value in ("1", "yes")),
    *(("labels", value) for value in ("a", "[a]", "{a: {}}", "{a: }")),
    *(("image", value) for value in ("null", "5", "[a]", "{a: b}", "true")),
    *(("name", value) for value in ("5", "null", "[]")),
]
BAD_TOP: list[tuple[str, str]] = [
    *(
        ("policy", value)
        for value in (
            "{canary: {max_error_rate: 1}}",
            "{canary: {max_error_rate: 5}}",
            "{canary: {max_error_rate: -1}}",
        )
    ),
    *(
        ("policy", value)
        for value in ("{max_error_rate: 1}", "{canary: {max_p99_latency_ms: 0}}", "{canary: {max_error_rate: '1%'}}")
    ),
    *(
        ("policy", value)
        for value in (
            "{infrastructure: {max_cpu_load: 50}}",
            "{infrastructure: {max_cpu_load: 80}}",
            "{infra: {foo: 1}}",
        )
    ),
    *(
        ("policy", value)
        for value in ("{infrastructure: {max_mem_used_percent: 1}}", "{infrastructure: {max_mem_pct: 0.9}}", "{foo: 1}")
    ),
    *(
        ("policy", value)
        for value in ("{infrastructure: {max_mem_used_percent: 101}}", "{infrastructure: {min_disk_free_gb: -1}}", "5")
    ),
    *(
        ("policy", value)
        for value in (
            "{canary: {foo: 1}}",
            "{canari: {}}",
            "{infrastructure: {cpu: 1}}",
            "{admission: {deny_lates: true}}",
        )
    ),
    *(
        ("policy", value)
        for value in (
            "",
            "{canary: }",
            "{canary: {window_seconds: 0}}",
            "{canary: {alpha: 1}}",
            "{canary: {min_requests: 0}}",
        )
    ),
    *(
        ("policy", value)
        for value in ("{canary: {relative_gate: maybe}}", "{canary: []}", "[]", "{mine: 5}", "{mine: [1]}")
    ),
    *(
        ("project", value)
        for value in ("{name: A}", "{name: ''}", "{name: 5}", "{name: 'a b'}", "{name: ../x}", "{nam: x}", "5")
    ),
    *(
        ("opa", value)
        for value in ("{image: -x}", "{decision_timeout_seconds: 0}", "{decision_timeout_seconds: 1000}", "{imagge: x}")
    ),
    *(
        ("deploy", value)
        for value in ("{health_timeout_seconds: 0}", "{health_timeout_seconds: '60'}", "{health_timeout_second: 60}")
    ),
    *(("source", value) for value in ("{git: x}", "x")),
    *(("notifications", value) for value in ("[{url: x}]",)),
    *(("sync", value) for value in ("{suspend: true}",)),
    *(("servics", value) for value in ("{}",)),
    *(("networks", value) for value in ("{a: {}}",)),
    *(("volumes", value) for value in ("[]", "{'a b': {}}", "{v: 5}", "{v: {name: '../x'}}")),
    *(("policies_dir", value) for value in ("../x", "/etc")),
    *(("secrets", value) for value in ("{a: {file: x}}",)),
]
BAD_NGINX: list[tuple[str, str]] = [
    *(("proxy_timeout", value) for value in ("0", "-1", "30ss", "5 m", "true", "[]", "999999999")),
    *(("contact", value) for value in ("5", "''", "'a\"b'", "a;b", "'{a}'", "a$b", "ä@b.de")),
    *(("service_name", value) for value in ("''", "a;b", "-a", "5")),
    *(("proxy_timout", value) for value in ("30",)),
    *(("ports", value) for value in ("['80:80']",)),
    *(("tls", value) for value in ("{port: 443, certificate: a.pem, certificate_key: b.pem}", "{port: 443}", "5")),
]


@pytest.mark.parametrize(("where", "lines", "column", "words"), HOST)
def test_what_reaches_for_the_host_is_refused_by_name(where: str, lines: str, column: int, words: str) -> None:
    first = problems(text(**{where: lines}))[0]
    assert words in first.message
    assert (first.line, first.column) == (LINES[where], column)


@pytest.mark.parametrize("volume", VOLUMES)
def test_a_mount_that_leaves_the_project_is_refused(volume: str) -> None:
    (first, *_) = problems(text(service=f'volumes: ["{volume}"]'))
    assert first.message.isprintable()
    assert (first.line, first.column) == (4, 13 if "var/log/app" not in volume else 12)
    assert first.message.startswith("services.volumes")


@pytest.mark.parametrize("mount", LONG_MOUNTS)
def test_a_long_mount_that_leaves_the_project_is_refused(mount: str) -> None:
    assert problems(text(service=f"volumes: [{mount}]"))[0].line == 4


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("where", ["services", "nginx", "opa"])
def test_an_image_that_names_none_is_refused(where: str, image: str) -> None:
    tree = tree_with({where: {"image": image}})
    assert f"{where}.image" in str(problems(json.dumps(tree).encode())[0])


def tree_with(changes: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    tree: dict[str, dict[str, object]] = {
        "services": {"image": "shop/web:1", "port": 3000},
        "nginx": {"image": "nginx:latest", "port": 8080},
        "network": {"name": "net", "driver_type": "bridge"},
    }
    for key, change in changes.items():
        tree[key] = {**tree.get(key, {}), **change}
    return tree


@pytest.mark.fault("E7")
@pytest.mark.parametrize("name", NAMES)
def test_a_service_that_must_not_be_called_so_is_refused(name: str) -> None:
    single = tree_with({"services": {"name": name}})
    assert "services" in str(problems(json.dumps(single).encode())[0])
    among = tree_with({}) | {"services": {name: {"image": "shop/web:1", "port": 3000}}}
    assert "services" in str(problems(json.dumps(among).encode())[0])


@pytest.mark.fault("B20", "B21", "E7")
@pytest.mark.parametrize(("key", "value"), BAD_VALUES)
def test_a_wrong_value_of_a_service_is_refused_where_it_stands(key: str, value: str) -> None:
    data = text(service=f"{key}: {value}")
    if key in ("port", "image"):
        data = text().replace(b"port: 3000", f"port: {value}".encode()) if key == "port" else data
        data = text().replace(b"image: shop/web:1", f"image: {value}".encode()) if key == "image" else data
    first = problems(data)[0]
    assert first.line in (2, 3, 4)
    assert first.column >= 3
    assert len(first.message) < 500
    assert first.message.isprintable()


@pytest.mark.parametrize(("key", "value"), BAD_TOP)
def test_a_wrong_value_elsewhere_is_refused_where_it_stands(key: str, value: str) -> None:
    assert problems(text(top=f"{key}: {value}"))[0].line == 10


@pytest.mark.fault("E7")
@pytest.mark.parametrize(("key", "value"), BAD_NGINX)
def test_a_wrong_value_of_nginx_is_refused_where_it_stands(key: str, value: str) -> None:
    assert problems(text(nginx=f"{key}: {value}"))[0].line == 7


# --- what nginx would obey

INJECTIONS = [
    "a;\n location /pwn/ { proxy_pass http://127.0.0.1:8181/; } #",
    "/ { return 200; } location /pwn/ { proxy_pass http://127.0.0.1:8181/; } location /zz",
    'x"; return 302 http://evil/$request_uri; add_header Z "y',
    "127.0.0.1:8181",
    "unix:/run/docker.sock",
    "169.254.169.254:80",
    "1 max_fails=0; server 127.0.0.1:8181",
    "127.0.0.1 backup; server 127.0.0.1:8181",
    "$http_authorization$cookie_session",
    "${x",
    "/${x}",
    "$upstream_addr",
    "/$upstream_addr",
    "x\\",
    "/x\\",
    "x\r\nEvil: 1",
    "/x\r\nEvil: 1",
    "x\\r\\nEvil: 1",
    "~ .*",
    "= /",
    "^~ /",
    "@name",
    "_",
    '""',
    "*.com *",
    "~^(?<x>.*)$",
    "h" * 600,
    "/" + "h" * 600,
    "a\0b",
    "хост",
    "/хост",
    "include /etc/passwd;",
    "load_module /tmp/x.so;",
    "ssl_engine x;",
    "lua_code_cache off;",
    "perl 'x';",
    "#",
    "/#",
    "}",
    "/}",
    "{",
    "'",
    "/'",
    "`id`",
    "%00",
    "/%00",
    "/a b",
    "/$http_host",
    "http://evil/x?y#z",
    "listen 0.0.0.0:22",
    "client_max_body_size 0",
    "# x\nreturn 200;",
    "/x;",
    '/x"',
    "{{ x }}",
    "/a\n",
    "a\n",
    "//evil",
    "/..",
    "/../x",
    "/x/..;/y",
    "</script>",
    "=cmd|' /C calc'!A0",
    "\x1b]52;c;x\x07",
    "010",
    "99999999999",
    "1e9",
    "True",
    "0.5",
]
FIELDS = [
    "services.name",
    "services.route.host",
    "services.route.path",
    "services.healthcheck.path",
    "services.metrics.path",
    "services.metrics.names.requests",
    "services.rollout.probe.path",
    "services.tester_secret",
    "services.hostname",
    "services.log_volume",
    "services.version",
    "services.user",
    "services.image",
    "nginx.contact",
    "nginx.service_name",
    "nginx.image",
    "nginx.proxy_timeout",
    "network.name",
    "project.name",
    "opa.image",
    "opa.policies_dir",
]
SAFE = re.compile(r"[A-Za-z0-9 @._+:/,()?=&~-]*")


@pytest.mark.parametrize("injection", INJECTIONS)
@pytest.mark.parametrize("field", FIELDS)
def test_no_string_can_carry_a_directive(field: str, injection: str) -> None:
    tree = tree_with({})
    *above, last = field.split(".")
    at: dict[str, object] = tree  # type: ignore[assignment]
    for step in above:
        at = at.setdefault(step, {})  # type: ignore[assignment]
    at[last] = injection
    found = problems(json.dumps(tree).encode())
    if not found:
        assert SAFE.fullmatch(injection), f"{field} took {injection!r}"
        assert len(injection) < 256
    else:
        assert all(problem.message.isprintable() for problem in found)


@pytest.mark.parametrize("weight", ["010", "99999999999", "1e9", "True", "0.5", "'10'"])
def test_no_weight_but_a_whole_number_passes(weight: str) -> None:
    assert problems(text(service=f"rollout: {{steps: [{{weight: {weight}}}]}}"))


# --- environment values are data, whatever they hold

VALUES = ["$(id)", "`id`", "$$", "a\nPWNED=1", "x" * 16_000, "=", "'\"\\", "/usr/bin", "é✓", "", " ", "#", "{{x}}"]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", ["A", "PATH", "LD_PRELOAD", "BASH_ENV", "PYTHONPATH", "HTTP_PROXY", "DOCKER_HOST"])
def test_an_environment_value_is_kept_exactly(name: str, value: str) -> None:
    tree = tree_with({"services": {"environment": {name: value}}})
    reading = manifest.read(json.dumps(tree).encode())
    assert reading.desired is not None, reading.problems
    assert reading.desired.services[0].environment == ((name, value),)


def test_an_environment_that_is_too_large_is_refused() -> None:
    many = tree_with({"services": {"environment": {f"V{i}": "x" * 1000 for i in range(200)}}})
    assert "environment" in str(problems(json.dumps(many).encode())[0])
    thousands = tree_with({"services": {"environment": {f"V{i}": "x" for i in range(5000)}}})
    assert "environment" in str(problems(json.dumps(thousands).encode())[0])


@pytest.mark.parametrize(
    "lines",
    [
        "env: {PASSWORD: hunter2}",
        "env: [PASSWORD=hunter2, 1PASSWORD=hunter2]",
        "env: {PASSWORD: hunter2}\nenvironment: {PASSWORD: hunter22}",
        "environment: [hunter2, PASSWORD=hunter2, PASSWORD=hunter2]",
        "environment: {PASSWORD: '${hunter2}'}",
        "environment: hunter2",
    ],
)
def test_what_may_be_a_secret_is_never_shown(lines: str) -> None:
    reading = manifest.read(text(service=lines))
    assert reading.problems or reading.warnings
    assert "hunter2" not in "".join(map(str, (*reading.problems, *reading.warnings)))


def test_an_environment_value_is_never_shown() -> None:
    data = text(service='environment: ["1PASSWORD=hunter2", OTHER, "MODE=hunter2"]')
    assert "1PASSWORD=hunter2" not in "".join(map(str, problems(data)))


@pytest.mark.fault("E5")
@pytest.mark.parametrize(
    "tree",
    [
        {"services": {f"s{i}": {"image": "a", "port": 1} for i in range(1000)}},
        {"services": {f"s{i}": {"image": "A B", "port": "x", "foo": {}} for i in range(60)}},
        {"services": {"image": "a", "port": 1, **{f"k{i}": i for i in range(5000)}}},
        {"services": {"image": "a", "port": 1, "environment": [f"{i}" for i in range(9000)]}},
        {"services": {"image": "a", "port": 1, "environment": {f"A{i}": {} for i in range(9000)}}},
        {"services": {"image": "a", "port": 1, "labels": {f" {i}": "x" for i in range(9000)}}},
        {"services": {"image": "a", "port": 1, "volumes": [f"/{i}:/x" for i in range(9000)]}},
        {"services": {"image": "a", "port": 1, "volumes": [{"type": 1} for _ in range(6000)]}},
        {"services": {"image": "a", "port": 1, "command": [{} for _ in range(9000)]}},
        {"services": {"image": "a", "port": 1, "rollout": {"steps": [{"weight": 140} for _ in range(6000)]}}},
        {"services": {"image": "a" * 16_000, "port": 1, "route": {"host": "a-" * 8000, "path": "/a" * 8000}}},
        {"services": {"image": "a-" * 8000, "port": 1, "healthcheck": {"path": "/" + "a." * 8000}}},
        {"services": {"image": "a", "port": 1}, "policy": {f"p{i}": i for i in range(9000)}},
        {"services": {"image": "a", "port": 1}, "policy": {"canary": {f"p{i}": i for i in range(9000)}}},
        {"services": {"image": "a", "port": 1}, "volumes": {f"p{i}": i for i in range(9000)}},
        {f"service{i}": {} for i in range(9000)},
        {"app": {f"service{i}": {} for i in range(9000)}},
    ],
)
def test_a_large_wrong_manifest_is_refused_quickly(tree: dict[str, object]) -> None:
    found = problems(json.dumps(tree).encode())
    assert 1 <= len(found) <= 101


ODD = [
    *(
        ["a"],
        [["a"]],
        [[{}]],
        [None],
        [{"a": 1}],
        [{"a": ["x"]}],
        ["a", {"b": "c"}],
        [],
        {},
        {"": ""},
        {"a": [{"b": 1}]},
    ),
    *(None, True, 1, -1, 1.5, 10**30, "", "text", "\0"),
]


@pytest.mark.parametrize("key", sorted({*compose_keys.REFUSED, *compose_keys.IGNORED}))
def test_no_value_of_a_key_that_compose_has_is_more_than_a_problem(key: str) -> None:
    for value in ODD:
        tree = {**tree_with({}), "services": {"app": {"image": "shop/web:1", "port": 3000, key: value}}}
        found = problems(json.dumps(tree).encode(), env_files=lambda _: "")
        assert all(str(problem) for problem in found)
