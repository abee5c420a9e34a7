"""What the targets are fed first: sound documents of each kind, and the words they are made of."""

from __future__ import annotations

import base64
import functools
import hmac
import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

from reconciler.adapters import rollout_store
from reconciler.core.errors import Problem
from reconciler.core.plan import Outcome, Plan, PlannedAction, PullImage, Result
from reconciler.core.record import Cycle, Trigger, Verdict, Violation
from reconciler.core.rollout import Decision, Move, Rollout
from reconciler.formats import compose_keys, cycle_record, history
from reconciler.formats.schema import part
from tests import builders

ROOT = Path(__file__).resolve().parents[2]
REVISION, ASKED = "c2" * 32, "d3" * 32

# --- manifests -------------------------------------------------------------------------------------------------------

SIX: dict[str, Any] = {
    "services": {"image": "shop/web:1", "port": 3000},
    "nginx": {"image": "nginx:latest", "port": 8080},
    "network": {"name": "net", "driver_type": "bridge"},
}
LOADED: dict[str, Any] = {
    **SIX,
    "project": {"name": "shop"},
    "services": {
        "app": {
            "image": "shop/web:1",
            "port": 3000,
            "mode": "stable",
            "version": "1.2.3",
            "environment": {"A": "b", "PASSWORD": "hunter2"},
            "env_file": ["a.env"],
            "volumes": ["data:/var/lib/data", "./config:/etc/app:ro", {"type": "tmpfs", "target": "/run"}],
            "healthcheck": {"path": "/healthz", "interval": "5s", "retries": 3},
            "route": {"host": "shop.example", "path": "/api", "sticky": True},
            "rollout": {
                "strategy": "canary",
                "steps": [{"weight": 5, "duration": "1m"}, {"weight": 50, "duration": "10s"}],
                "probe": {"path": "/", "rate": 5},
                "on_timeout": "hold",
            },
            "metrics": {"provider": "ingress", "path": "/metrics", "names": {"requests": "r_total"}},
            "deploy": {"replicas": 2, "resources": {"limits": {"cpus": "0.5", "memory": "256m", "pids": 100}}},
            "tester_secret": "file:testers",
            "labels": {"team": "web"},
            "cap_add": ["CHOWN"],
            "tmpfs": ["/scratch:size=64m"],
            "user": "1000:1000",
            "command": ["serve", "--port", "3000"],
            "stop_grace_period": "10s",
            "restart_policy": "unless-stopped",
            "x-note": "free",
        }
    },
    "nginx": {"image": "nginx:1.30", "port": 8080, "proxy_timeout": "30s", "contact": "ops@example.org"},
    "opa": {"image": "openpolicyagent/opa:1.19.0-static", "decision_timeout_seconds": 5, "policies_dir": "policies"},
    "policy": {"canary": {"max_error_rate": 0.01}, "infrastructure": {"min_disk_free_gb": 5}, "mine": {"a": 1}},
    "volumes": {"data": {"name": "shop-data"}},
    "deploy": {"health_timeout_seconds": 30},
    "sync": {
        "windows": [
            {"kind": "deny", "schedule": "0 22 * * 5", "duration": "60h", "time_zone": "Europe/Berlin", "reason": "we"},
            {"kind": "allow", "schedule": "*/5 8-18 1,L * MON#1", "duration": 3600, "services": ["app"]},
        ]
    },
}


def manifests() -> list[bytes]:
    """The same in both of YAML's shapes, and other spellings of it."""
    other = {**SIX, "policy_limits": {"max_error_rate_percent": 1}, "metadata": {"contact": "a@b.de"}, "mode": "canary"}
    plain = (
        b"services:\n  image: shop/web:1 # the one\n  port: 3000\n  mode: stable\n  environment: [A=b, 'C=d e']\n"
        b"nginx: {image: 'nginx:latest', port: 8080}\nnetwork:\n  name: net\n  driver_type: bridge\n"
    )
    folded = b'services:\n  "image": >-\n    shop/web:1\n  port: 3000\n  command: |\n    a b\n' + plain[-70:]
    return [
        *(json.dumps(one).encode() for one in (SIX, LOADED, other)),
        *(plain, plain.replace(b"\n", b"\r\n"), folded, (ROOT / "manifest.yaml").read_bytes()),
        b"a: [1, 2.5, true, null, 'x', \"y\\n\"]\nb:\n- c: d\n  e: |\n    f\n",
    ]


YAML_WORDS = tuple(
    word.encode()
    for word in (
        *("&a ", "*a", "<<: *a", "!!python/object/apply:os.system", "!!binary ", "!<x>", "%TAG ! tag:x,2002:", "---\n"),
        *("...\n", "? ", ": ", "- ", "|\n", ">-\n", "|2+\n", "# ", "[", "]", "{", "}", ", ", "'", '"', "\\x41", "\\u"),
        *("0755", "22:22", "2024-02-30", "0x_", ".nan", ".inf", "1e999999", "~", "null", "no", "on", "True", "=", "\t"),
    )
)
_PROPERTIES = sorted(
    {
        *part("$defs", "service")["properties"],
        *part("properties"),
        *(
            key
            for name in ("rollout", "route", "metrics", "healthcheck", "window")
            for key in part("$defs", name)["properties"]
        ),
        *compose_keys.REFUSED,
        *compose_keys.IGNORED,
    }
)
MANIFEST_WORDS = (
    *(key.encode() for key in _PROPERTIES if re.fullmatch(r"[a-z_]+", key)),
    *(b"app_version", b"policy_limits", b"container_name", b"host_port", b"driver_opts", b"limits", b"x-a", b"MODE"),
    *(b"/var/run/docker.sock:/s", b"/:/h", b"../x:/y", b"ALL", b"SYS_ADMIN", b"host", b"container:opa", b"file:../x"),
    *(b"5 m", b"30s", b"1h", b"256m", b"io.swiftdeploy.project", b"com.docker.compose.service", b"unix:/x", b"a;b{}"),
)

# --- the daemon's own file, and webhooks ------------------------------------------------------------------------------

HOOK_SECRET = b"a secret of the fuzzer's own"
FOLLOWED = "refs/heads/main"


def configs() -> list[bytes]:
    git = {"url": "https://git.example/shop.git", "branch": "main", "path": "deploy/manifest.yaml", "poll": "15s"}
    trust = {"signatures": "every", "allowed_signers": "/etc/swiftdeploy/signers", "max_size": "1g", "timeout": 60}
    back = {"author": "A B", "email": "a@b.example", "signing_key": "/etc/key", "signing_format": "ssh", "attempts": 3}
    hook = {"listen": "127.0.0.1:9470", "path": "/hooks", "secret_file": "/etc/swiftdeploy/hook", "kind": "auto"}
    source = {"git": {**git, **trust, "write_back": back, "ssh_key": "/etc/k"}, "folder": "/srv/shop"}
    whole = {"source": source, "webhook": hook, "state_dir": "/var/lib/s", "metrics_port": 1, "group": "docker"}
    return [
        json.dumps(whole).encode(),
        b"source:\n  git:\n    url: git@git.example:shop.git\n    tag: v1.0\nlog: {level: info, json: true}\n",
        b"source: {manifest: /srv/manifest.yaml}\nwebhook:\n  listen: '[::1]:80'\n  secret_file: /x\n",
    ]


CONFIG_WORDS = (
    *(
        b"ext::sh -c id",
        b"https://u:hunter2@h/x",
        b"--upload-pack=id",
        b"-x",
        b"file:///",
        b"../",
        b"git@h:x",
        b"[::1]:1",
    ),
    *(b"commit", b"tag", b"branch", b"token_file", b"off", b"head", b"every", b"openpgp", b"0.0.0.0:1", b"1.10", b"1h"),
)


def hooks() -> list[bytes]:
    """Headers, an empty line, a body."""
    body = json.dumps({"ref": FOLLOWED, "repository": {"full_name": "a/b"}}).encode()
    form = b"payload=%7B%22ref%22%3A%22refs%2Fheads%2Fmain%22%7D"
    digest = hmac.digest(HOOK_SECRET, body, "sha256").hex().encode()
    return [
        b"X-GitHub-Event: push\nX-Hub-Signature-256: sha256=" + digest + b"\n\n" + body,
        b"X-Gitea-Event: push\nX-Gitea-Signature: " + digest + b"\n\n" + body,
        b"X-Gitlab-Event: Push Hook\nX-Gitlab-Token: " + HOOK_SECRET + b"\n\n" + body,
        b"X-Gitlab-Token: x\nContent-Type: application/x-www-form-urlencoded\n\n" + form,
        b"X-Signature: " + digest + b"\nX-Signature: " + digest + b"\n\n" + body,
    ]


HOOK_WORDS = (
    *(b"X-Hub-Signature-256: ", b"X-Forgejo-Signature: ", b"X-Gogs-Event: ", b"X-Gitlab-Token: ", b"sha256=", b"sha1="),
    *(
        b'"ref":',
        b"refs/heads/main",
        b"refs/tags/",
        b"ping",
        b'"repository":{"name":',
        b"\\ud800",
        b"\n\n",
        b"payload=",
    ),
)

# --- beside the manifest ---------------------------------------------------------------------------------------------


def env_files() -> list[bytes]:
    return [
        b"# comment\nA=1\nexport B='two words'\nC=\"x\\ny\" # after\nD=a # b\nE=\nF.G-H= v \n",
        b'\xef\xbb\xbfA=$(id)\nB=${HOME}\r\nC=`id`\rD="\\"\\\\"\n',
    ]


ENV_WORDS = (b"export ", b"=", b"'", b'"', b"\\", b"\\n", b" #", b"A=", b"\0", b"${A}", b"A==")


def testers() -> list[bytes]:
    return [b"s" * 32, b"0123456789abcdef.+/=_-\n", b"include /etc/nginx/live/testers/app.0123456789abcdef.map;"]


def policies() -> list[bytes]:
    return [
        b"mine.rego\n# mine\npackage swiftdeploy.canary.user # yes\n\nviolations contains v if false\n",
        b"mine.rego\n\n\n# a\n# b\npackage lib.mine\r\nx := 1\n",
    ]


REGO_WORDS = (b"package ", b"system.authz", b"swiftdeploy.canary", b".user", b"# ", b"limits", b"import ", b"\n#")

# --- what containers, nginx and OPA say ------------------------------------------------------------------------------


def pages() -> list[bytes]:
    good = (
        b"# TYPE http_requests_total counter\n"
        b'http_requests_total{method="GET",path="/",status_code="200"} 7\n'
        b'http_requests_total{method="GET",path="/",status_code="503"} 2\n'
        b"# TYPE http_request_duration_seconds histogram\n"
        b'http_request_duration_seconds_bucket{le="0.1"} 6\nhttp_request_duration_seconds_bucket{le="+Inf"} 9\n'
        b"http_request_duration_seconds_sum 3.5\nhttp_request_duration_seconds_count 9\n"
        b"# TYPE app_uptime_seconds gauge\napp_uptime_seconds 12.5\napp_mode 1\nchaos_active 2\n"
    )
    return [good, good + b"# EOF\n", good.replace(b"counter", b"unknown").replace(b'"/"', b'"/a\\"b\\nc"')]


PAGE_WORDS = (
    *(b"# TYPE ", b"# UNIT ", b"# HELP ", b"http_requests_total", b"http_request_duration_seconds_bucket", b"counter"),
    *(b"histogram", b'{le="', b'"}', b'status_code="', b'le="+Inf"', b"NaN", b"+Inf", b"-1", b"1e309", b"0x1p3"),
    *(b" 1700000000000", b"app_mode ", b"chaos_active ", b' # {trace="a"} 1', b"{", b"}", b",", b"__name__", b'\\"'),
)


def logs() -> list[bytes]:
    return [
        b"~10.0.0.2:3000|200|0.012|9.500\n~10.0.0.2:80, 10.0.0.3:80|502, 200|-, 0.010|0.001, 0.020\n",
        b"~app-blue|502|-|0.000\n~10.0.0.2:80|101|0.001|7200.000\n~10.0.0.2:80 : [::1]:80|500 : 200|- : -|0.1",
    ]


LOG_WORDS = (b"~", b"|", b", ", b" : ", b"-", b"10.0.0.2:80", b"unix:/tmp/nobody.sock", b"0.001", b"999999999.999")


def answers() -> list[bytes]:
    return [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n"
        b"\r\n",
        b"HTTP/1.0 404 \r\nServer: x\r\nContent-Type: text/plain\r\n\r\nuntil the end",
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
    ]


HTTP_WORDS = (
    *(
        b"\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: ",
        b"Content-Encoding: gzip",
    ),
    *(b"0\r\n\r\n", b"ffffffff\r\n", b"7fffffffffffffff", b";a=b", b"\n", b": ", b"-1", b"+5", b"1\r\nx\r\n" * 500),
)


def verdicts() -> list[bytes]:
    broken = {"id": "max_error_rate", "message": "Error rate exceeds 1%", "observed": 0.5, "limit": 0.01}
    decisions: list[dict[str, Any]] = [
        {"allow": True, "action": "promote", "reason": "go on"},
        {"allow": False, "action": "rollback", "reason": "", "violations": [broken]},
        {"allow": False, "reason": "wait", "violations": [{**broken, "id": "min_requests"}]},
    ]
    whole = [
        {"decision_id": "x-1", "result": {**decision, "revision": REVISION, "asked": ASKED}} for decision in decisions
    ]
    error = {"code": "internal_error", "message": "eval_conflict_error", "errors": [{"code": "a", "message": "b"}]}
    return [json.dumps(one).encode() for one in (*whole, error, {}, {"result": True})]


OPA_WORDS = (
    *(b"result", b"allow", b"action", b"reason", b"violations", b"revision", b"asked", b"decision_id", b"id"),
    *(b"message", b"observed", b"limit", b"errors", b"code", b"promote", b"hold", b"rollback", b"NaN", b"true"),
)


def series() -> list[bytes]:
    labels = {"instance": "10.0.0.2:3000", "job": "shop"}
    result = [
        {"metric": {"__name__": name, **labels, **more}, "values": [[1.8e9, "4"], [1.8e9 + 15, "9"]]}
        for name, more in (
            ("up", {}),
            ("http_requests_total", {"path": "/", "status_code": "200"}),
            ("http_request_duration_seconds_bucket", {"le": "+Inf"}),
            ("app_mode", {}),
        )
    ]
    good = {"status": "success", "data": {"resultType": "matrix", "result": result}}
    bad = {"status": "error", "errorType": "bad_data", "error": "parse error"}
    return [json.dumps(one).encode() for one in (good, bad, {**good, "warnings": ["partial"]})]


PROMETHEUS_WORDS = tuple(
    word.encode()
    for word in (
        *("status", "success", "data", "resultType", "matrix", "result", "metric", "values", "__name__", "warnings"),
        *("up", "http_requests_total", "le", "NaN", "+Inf", "1e309", "0x1", "error", "histograms"),
    )
)


def keys() -> list[bytes]:
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"k" * 32
    signature = b"\0\0\0\x0bssh-ed25519\0\0\0\x40" + b"s" * 64
    parts = (blob, b"swiftdeploy-history", b"", b"sha512", signature)
    whole = b"SSHSIG\0\0\0\1" + b"".join(len(each).to_bytes(4, "big") + each for each in parts)
    armour = b"-----BEGIN SSH SIGNATURE-----\n%b\n-----END SSH SIGNATURE-----\n"
    line = b"ssh-ed25519 " + base64.b64encode(blob)
    return [armour % base64.b64encode(whole), b"# trusted\nann@example " + line + b"\n" + line + b" comment\n"]


def engine() -> list[bytes]:
    labels = {f"io.swiftdeploy.{name}": value for name, value in _LABELS.items()}
    container = {
        "Id": "c" * 64,
        "Name": "/shop-api-green",
        "Image": "sha256:1",
        "RestartCount": 3,
        "State": {
            "Status": "running",
            "Running": True,
            "Pid": 4711,
            "ExitCode": 0,
            "Error": "",
            "OOMKilled": False,
            "StartedAt": "2026-11-23T02:06:51.963772888Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
            "Health": {"Status": "starting"},
        },
        "Config": {"Labels": labels, "Env": ["NGINX_VERSION=1.30.0"], "User": "app", "StopSignal": "SIGTERM"},
        "HostConfig": {
            "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "81/tcp": None},
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        },
        "NetworkSettings": {"Networks": {"net": {"NetworkID": "n1", "IPAMConfig": {"IPv4Address": "10.0.0.9"}}}},
        "Mounts": [{"Type": "volume", "Name": "logs"}, {"Type": "bind"}],
        "Size": 12345,
    }
    network = {
        "Id": "n" * 64,
        "Name": "net",
        "Driver": "bridge",
        "Labels": labels,
        "IPAM": {"Config": [{"Subnet": "10.1.0.0/22", "IPRange": "10.1.3.0/24", "Gateway": "10.1.0.1"}]},
        "Containers": {"c1": {"IPv4Address": "10.1.0.2/22"}},
    }
    listed = [{"Id": "c1", "Names": ["/a"], "Image": "a:1", "Ports": [{"PublicPort": 80, "IP": "0.0.0.0"}]}]
    said = [
        b"driver failed: Bind for 0.0.0.0:8080 failed: port is already allocated",
        b'Conflict. The container name "/a" is already in use by container "' + b"ab" * 32 + b'".',
        b'OCI runtime create failed: exec: "serve": executable file not found in $PATH: unknown',
        b'starting container process caused: mount "/x": no such file or directory',
        b"network n1 is ambiguous (2 matches found on name)",
    ]
    failure = {"error": "manifest unknown", "errorDetail": {"message": "manifest unknown"}}
    return [*(json.dumps(one).encode() for one in (container, network, listed, failure)), *said]


_LABELS = {
    **{"project": "shop", "instance": "i1", "service": "api", "revision": "abc", "slot": "green"},
    **{"replica": "2", "generation": "14", "mode": "canary"},
}
ENGINE_WORDS = tuple(
    word.encode()
    for word in (
        *("Id", "Name", "State", "Status", "Config", "Labels", "HostConfig", "PortBindings", "HostPort", "Networks"),
        *("NetworkSettings", "IPAMConfig", "Containers", "IPAM", "Subnet", "Ports", "Names", "Env", "Mounts"),
        *(
            "running",
            "created",
            "io.swiftdeploy.replica",
            "exec: ",
            '\\"',
            "Bind for ",
            "listen tcp :",
            "already in use",
        ),
    )
)


# --- the control socket ----------------------------------------------------------------------------------------------


def requests() -> list[bytes]:
    return [
        b'{"protocol":1,"verb":"deploy","args":{}}',
        b'{"protocol":1,"verb":"promote","args":{"mode":"canary","service":"app","force":true,"reason":"x"}}',
        b'{"verb":"chaos","args":{"what":"slow","duration":1.5},"reason":"test"}',
    ]


def events() -> list[bytes]:
    return [
        b'{"event":"hello","protocol":1,"version":"0.1.0"}',
        b'{"event":"end","exit":0,"text":"","value":{}}',
        b'{"event":"line","text":"x"}',
    ]


CONTROL_WORDS = (
    *(b"protocol", b"verb", b"args", b"reason", b"service", b"event", b"exit", b"NaN", b"Infinity", b"1e999"),
    *(b'"\\ud800"', b"\\u0000", b"status", b"deploy", b"hello", b"end", b"version", b"actor", b"uid"),
)

# --- what is on the disk ---------------------------------------------------------------------------------------------


@functools.cache
def records() -> tuple[dict[str, Any], ...]:
    """Records of every kind that the daemon writes."""
    broken = Violation("max_error_rate", "Error rate exceeds 1% threshold", "0.5", "0.01")
    deny = Verdict("canary", False, "Error rate exceeds 1% threshold", "rollback", violations=(broken,))
    state = builders.rollout(builders.state(candidate=builders.canary(builders.service(image="demo:2"))))
    cycle = Cycle(
        7,
        Trigger("operator", "promote", "ann (uid 1000)", "why not"),
        "2026-01-01T00:00:00.000Z",
        "2026-01-01T00:00:01.000Z",
        12.3,
        builders.desired(),
        builders.observed(builders.container()),
        state,
        verdicts=(deny,),
        decisions=(Decision("app", Move.GIVE_UP, "DENIED: Error rate exceeds 1% threshold"),),
        plan=Plan((PlannedAction(PullImage("demo:1"), "demo:1", "not here"),)),
        results=(Result(Outcome.FAILED, "no such image"),),
        problems=(Problem("manifest.yaml", 3, 4, "services.port is missing"),),
        errors=("the engine does not answer",),
    )
    done = Cycle(8, Trigger("start"), cycle.started, cycle.ended, 1.0, None, None, Rollout())
    word = {"word": "chaos", "service": "app", "actor": "ann", "reason": "r", "detail": "slow 1 s", "outcome": "done"}
    return (
        history.genesis("a" * 32, "shop", "0.1.0") | {"timestamp": "2026-01-01T00:00:00Z"},
        dict(cycle_record.finished(cycle)),
        dict(cycle_record.finished(done)) | {"words": [word], "notes": ["n"], "req_per_sec": 1.5, "error_rate": 0.5},
        dict(cycle_record.intent(9, cycle.trigger, cycle.plan, cycle.started)),
        {
            **{"kind": "idle", "timestamp": "2026-01-01T00:10:00Z", "count": 3, "mode": "stable", "policy": "PASS"},
            **{"first": "2026-01-01T00:00:00Z", "last": "2026-01-01T00:10:00Z", "ranges": {"error_rate": [0, 0.1]}},
        },
        {"timestamp": "2026-01-01T00:00:00Z", "mode": "canary", "policy": "FAIL", "p99_latency": 700},
        {"kind": "history_corrupt", "timestamp": "2026-01-01T00:00:00Z", "reason": "torn"},
    )


def histories() -> list[bytes]:
    """A whole log, and the bare records one by one."""
    link, sealed = history.ORIGIN, b""
    for record in records():
        line, link = history.seal(record, link)
        sealed += line
    return [sealed, *(json.dumps(record).encode() + b"\n" for record in records())]


HISTORY_WORDS = tuple(
    word.encode()
    for word in (
        *("hash", "prev", "seq", "timestamp", "kind", "cycle", "idle", "intent", "genesis", "mode", "policy", "FAIL"),
        *("words", "verdicts", "decisions", "actions", "plan", "errors", "violations", "outcome", "move", "domain"),
        *("rollout", "services", "ranges", "count", "trigger", "reason", "actor", "odd", "raw", "number", "first"),
        *("p99_latency", "req_per_sec", "error_rate", "observed", "limit", "known", "allow", "id", "message", "word"),
        *('"seq":99999999999999999999', "2026-13-45T99:99:99Z", "9999-12-31T23:59:59-23:59", "</script>", "||", "]("),
    )
)


def states() -> list[bytes]:
    """The values of every file in the state directory."""
    v2 = builders.service(image="demo:2")
    rollout = builders.rollout(builders.state(candidate=builders.canary(v2)))
    values = (rollout, builders.kept(v2), builders.desired(), rollout_store._Evidence({}))
    return [json.dumps({"format": 1, "value": rollout_store._plain(value)}).encode() for value in values]


def envelope(body: bytes) -> bytes:
    return b'{"format":1,"sha256":"%b","state":%b}\n' % (sha256(body).hexdigest().encode(), body)


def envelopes() -> list[bytes]:
    return [envelope(body) for body in states()] + [b"", b"\0" * 512, b'{"format":2,"sha256":"', b"{}"]


STATE_WORDS = tuple(
    word.encode()
    for word in (
        *("format", "value", "services", "stable", "candidate", "phase", "serving", "release", "revision", "mode"),
        *("slot", "blue", "green", "course", "steps", "weight_pct", "quarantined", "members", "environment", "limits"),
        *("sha256", "state", "NaN", "Infinity", "-Infinity", "canary", "analyzing", "since", "image", "healthcheck"),
    )
)


def locks() -> list[bytes]:
    return [b'{"pid": 4711, "program": "reconcilerd", "started": "2026-01-01T00:00:00Z"}\n', b"", b"4711\n"]
