"""Reading a manifest: six keys are enough, every key arrives, everything wrong is told at once where it stands."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.desired import (
    DesiredState,
    HealthCheck,
    Metrics,
    Mode,
    Mount,
    Network,
    Nginx,
    Opa,
    Resources,
    Route,
    Service,
    Step,
    Strategy,
    spec_hash,
)
from reconciler.core.errors import ManifestError
from reconciler.core.evidence.limits import Limits, limits_of
from reconciler.formats import manifest, schema
from reconciler.formats.tester import SecretFile, digest

ROOT = Path(__file__).resolve().parents[2]
SIX = """\
services:
  image: swift-deploy-1-node:latest
  port: 3000
nginx:
  image: nginx:latest
  port: 8080
network:
  name: swiftdeploy-net
  driver_type: bridge
"""


def desired(data: str | bytes, **options: Any) -> DesiredState:
    reading = manifest.read(data.encode() if isinstance(data, str) else data, **options)
    assert reading.desired is not None, "\n".join(map(str, reading.problems))
    return reading.desired


def service(lines: str, **options: Any) -> Service:
    """The service of the six keys and these lines."""
    own = "".join(f"  {line}\n" for line in lines.splitlines())
    return desired(SIX.replace("nginx:\n", own + "nginx:\n", 1), **options).services[0]


def problems(data: str, **options: Any) -> list[str]:
    return [str(problem) for problem in manifest.read(data.encode(), **options).problems]


# --- six keys


def test_six_keys_are_enough() -> None:
    reading = manifest.read(SIX.encode(), folder="shop")
    assert (reading.problems, reading.warnings) == ((), ())
    state = reading.desired
    assert state is not None
    assert state.project == "shop"
    assert state.revision == reading.digest == hashlib.sha256(SIX.encode()).hexdigest()
    assert state.services == (
        Service(name="app", image="swift-deploy-1-node:latest", port=3000, log_volume="shop-logs"),
    )
    assert state.nginx == Nginx("nginx:latest", 8080, service_name="app")
    assert state.network == Network("swiftdeploy-net", "bridge")
    assert state.opa == Opa()
    assert state.health_timeout_s == 60.0


def test_the_limits_have_their_defaults() -> None:
    limits = desired(SIX).limits
    assert limits["infrastructure"] == {"min_disk_free_gb": 10, "max_cpu_load": 2.0}
    canary = limits["canary"]
    assert (canary["max_error_rate"], canary["max_p99_latency_ms"]) == (0.01, 500)
    assert (canary["window_seconds"], canary["min_requests"], canary["relative_gate"]) == (30, 20, "limit")
    assert (canary["margin"], canary["alpha"], canary["beta"], canary["warmup_seconds"]) == (0.5, 0.05, 0.05, 15)


def test_every_parameter_of_the_canary_gate_is_filled_in() -> None:
    """What evidence and policy read is all there, so that neither needs a default of its own."""
    known = manifest.schema()["$defs"]["canary"]["properties"]
    defaults = {name: key["default"] for name, key in known.items()}
    assert desired(SIX).limits["canary"] == defaults
    assert desired(SIX + "policy: {canary: {alpha: 0.01}}\n").limits["canary"] == {**defaults, "alpha": 0.01}
    assert limits_of(defaults) == Limits()
    assert {each.name for each in dataclasses.fields(Limits)} == set(defaults)


@pytest.mark.parametrize(
    "wrong", ["advanced_e", "max_restart", "min_evidence_second", "relativ_gate", "catastrophic_ee"]
)
def test_a_misspelt_parameter_is_an_error_that_knows_better(wrong: str) -> None:
    (problem,) = manifest.read((SIX + f"policy: {{canary: {{{wrong}: 5}}}}\n").encode()).problems
    assert f"policy.canary.{wrong} is no key. Did you mean " in str(problem)


def test_no_steps_is_a_rollout_without_analysis() -> None:
    text = SIX.replace("  port: 3000\n", "  port: 3000\n  rollout: {steps: []}\n")
    assert desired(text).services[0].rollout.steps == ()


def test_a_limit_that_is_set_replaces_its_default_only() -> None:
    limits = desired(SIX + "policy: {canary: {max_error_rate: 0.05}}\n").limits
    assert limits["canary"]["max_error_rate"] == 0.05
    assert limits["canary"]["max_p99_latency_ms"] == 500


def test_the_repositorys_own_manifest_is_perfect() -> None:
    reading = manifest.read((ROOT / "manifest.yaml").read_bytes(), folder=str(ROOT))
    assert (reading.problems, reading.warnings) == ((), ())
    state = reading.desired
    assert state is not None
    (only,) = state.services
    assert (only.image, only.port, only.mode, only.chaos) == ("swift-deploy-1-node:latest", 3000, Mode.STABLE, True)
    assert (state.nginx.port, state.network.name) == (8080, "swiftdeploy-net")
    assert state.limits["canary"] == desired(SIX).limits["canary"]


def test_a_services_value_can_be_hashed_and_compared() -> None:
    first, second = desired(SIX).services[0], desired(SIX + "# a comment\n").services[0]
    assert first == second
    assert hash(first) == hash(second)


@pytest.mark.parametrize(
    ("folder", "project"),
    [
        ("shop", "shop"),
        ("/srv/My Shop/", "my-shop"),
        ("C:\\work\\Shop_2", "shop_2"),
        ("__x__", "x"),
        ("größe", "gr-e"),
        ("", "swiftdeploy"),
        ("...", "swiftdeploy"),
        ("a" * 100, "a" * 63),
        ("/", "swiftdeploy"),
    ],
)
def test_a_project_is_called_after_its_folder(folder: str, project: str) -> None:
    assert desired(SIX, folder=folder).project == project


# --- what is missing


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("  image: swift-deploy-1-node:latest\n", "services.image"),
        ("  port: 3000\n", "services.port"),
        ("  image: nginx:latest\n", "nginx.image"),
        ("  port: 8080\n", "nginx.port"),
        ("  name: swiftdeploy-net\n", "network.name"),
        ("  driver_type: bridge\n", "network.driver_type"),
    ],
)
def test_each_of_the_six_is_required_and_must_not_be_empty(line: str, path: str) -> None:
    key = line.split(":")[0]
    (missing,) = problems(SIX.replace(line, ""))
    assert f"{path} is missing. Add it, for example {key.strip()}: " in missing
    (empty,) = problems(SIX.replace(line, f'{key}: ""\n'))
    assert f"{path} is empty." in empty
    (null,) = problems(SIX.replace(line, f"{key}:\n"))
    assert f"{path} has no value." in null


def test_whole_blocks_may_be_missing_and_all_are_told() -> None:
    assert len(problems("nginx: {port: 80}\n")) == 3
    assert problems("x-a: 1\n") == [
        "manifest.yaml:1:1: network is missing. Add it, for example network: {name: swiftdeploy-net, "
        "driver_type: bridge}.",
        "manifest.yaml:1:1: nginx is missing. Add it, for example nginx: {image: nginx:latest, port: 8080}.",
        "manifest.yaml:1:1: services is missing. Add it, for example services: {image: swift-deploy-1-node:latest, "
        "port: 3000}.",
    ]


@pytest.mark.parametrize("text", ["~", "[]", "a", "5", "- a", "---\n", "'services: {}'"])
def test_what_is_no_mapping_is_no_manifest(text: str) -> None:
    with pytest.raises(ManifestError, match="not a mapping"):
        manifest.parse(text.encode())
    assert "not a mapping" in problems(text)[0]


def test_yaml_that_is_valid_parses_whatever_it_says() -> None:
    assert manifest.parse(b"services: 5").plain() == {"services": 5}
    with pytest.raises(ManifestError):
        manifest.parse(b"services: [")


def test_a_worker_has_no_port_and_says_so() -> None:
    worker = SIX.replace("  port: 3000\n", "  route: false\n")
    (only,) = desired(worker).services
    assert (only.port, only.route, only.healthcheck) == (None, None, None)
    assert only.rollout.strategy is Strategy.ROLLING
    assert (
        "mode is canary, which needs a route"
        in problems(worker.replace("route: false", "route: false\n  mode: canary"))[0]
    )
    assert "needs a port" in problems(worker.replace("false", "false\n  healthcheck: {path: /}"))[0]
    assert "needs a route" in problems(worker.replace("false", "false\n  rollout: {strategy: canary}"))[0]


# --- wording and places


def test_an_error_says_what_where_and_what_to_do() -> None:
    text = SIX + "".join(f"# {i}\n" for i in range(1)) + ""
    text = text.replace("  port: 3000\n", "  port: 3000\n  rollout:\n    steps:\n    - weight: 5\n    - weight: 140\n")
    assert problems(text) == [
        "manifest.yaml:7:15: services.rollout.steps[1].weight is 140. Use a whole number from 0 to 100."
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("version: 1.10", 'services.version is the number 1.10. Put it in quotes if that is the text meant: "1.10".'),
        ("chaos: yes", 'services.chaos is "yes". Use true or false.'),
        ("mode: cannary", 'services.mode is "cannary". Use stable or canary.'),
        (
            "replicas: '3'",
            'services.replicas is "3". Use a whole number from 1 to 64 (to take a service down use teardown), '
            "without quotes.",
        ),
        ('command: "a \'b"', 'services.command is "a \'b": no closing quotation. Close it, or write a list.'),
        ("tmpfs: relative", 'services.tmpfs is "relative". Use a path such as /run:size=64m.'),
        ("stop_grace_period: 9999h", "services.stop_grace_period is 9999h. Use a time from 0s to 720h."),
        (
            "rollout: {steps: [{weight: 50}, {weight: 5}]}",
            "services.rollout.steps[1].weight is 5, not above the step before it (50). Let the weights rise.",
        ),
        (
            "rollout: {strategy: blue_green}",
            "services.rollout.strategy is blue_green, which needs requests of ours. Add probe: {path: /}.",
        ),
    ],
)
def test_wording(lines: str, message: str) -> None:
    text = SIX.replace("nginx:\n", f"  {lines}\nnginx:\n", 1)
    (problem,) = problems(text)
    assert problem.split(": ", 1)[1] == message
    assert problem.startswith("manifest.yaml:4:")


def test_a_port_written_as_a_pair_is_explained() -> None:
    (problem,) = problems(SIX.replace("3000", '"3000:3000"'))
    assert problem == (
        'manifest.yaml:3:9: services.port is "3000:3000". Write the container\'s port alone, 3000: '
        "nginx.port is the one that is published."
    )


@pytest.mark.fault("E7")
def test_everything_wrong_is_told_at_once() -> None:
    text = SIX.replace("3000", "70000").replace("8080", "x").replace("bridge", "host") + "policy: {canary: {foo: 1}}\n"
    assert [problem.split(":")[1] for problem in problems(text)] == ["3", "6", "9", "10"]


def test_a_value_of_the_wrong_shape_does_not_hide_what_else_is_wrong() -> None:
    text = SIX.replace("nginx:\n", "  mode: x\n  volumes: [/etc:/x]\n  rollout: {drain: 99999h}\nnginx:\n", 1)
    assert [problem.split(":")[1] for problem in problems(text)] == ["4", "5", "6"]


# --- every key

EVERY_KEY = """\
project: {name: shop}
services:
  name: web
  image: registry.example.org:5000/shop/web:1.4.2@sha256:%s
  port: 3000
  mode: canary
  version: "1.10"
  restart_policy: on-failure:3
  command: node "server file.js" $HOME
  entrypoint: [/usr/bin/tini, --, 5]
  environment: {B: two, A: 1.50, C: true, PRICE: $5}
  env_file: [./base.env, app.env]
  volumes:
    - data:/var/lib/app
    - ./config:/etc/app:ro
    - {type: volume, source: cache, target: /cache, read_only: true}
    - {type: bind, source: ./assets/, target: /assets/}
    - {type: tmpfs, target: /scratch}
  log_volume: web-logs
  healthcheck: {path: /up, interval: 10s, timeout: 500ms, retries: 5, start_period: 1m30s}
  deploy: {replicas: 3, resources: {limits: {cpus: "0.5", memory: 256m, pids: 100}}}
  user: 1000:1000
  read_only: false
  cap_drop: [ALL]
  cap_add: [SETUID, CHOWN]
  tmpfs: /run:size=64m,mode=1777
  stop_grace_period: 20s
  stop_signal: SIGQUIT
  labels: [team=shop, "empty="]
  working_dir: /srv
  hostname: web-1
  init: true
  route: {host: shop.example.org, path: /shop/, sticky: true}
  rollout:
    strategy: blue_green
    steps: [{weight: 10, duration: 30s}, {weight: 100}]
    min_requests: 5
    max_wait: 5m
    on_timeout: hold
    probe: {path: /ping, rate: 0.5}
    promotion: adopt
    drain: 10s
    watch: 0
    health_deadline: 90
    unknown_budget: 1m
  chaos: true
  tester_secret: file:tester
  metrics: {provider: ingress, path: /m, names: {requests: hits_total, status: code}}
nginx: {image: nginx:1.30, port: 80, proxy_timeout: 1m30s, contact: ops@shop.example, service_name: Shop}
network: {name: shop-net, driver_type: bridge}
opa: {image: openpolicyagent/opa:1.19.0-static, decision_timeout_seconds: 2.5, policies_dir: ./rules/}
policy:
  infrastructure: {min_disk_free_gb: 5, max_cpu_load: 4, max_mem_used_percent: 90, disk_path: /data}
  canary: {max_error_rate: 0.02, window_seconds: 60}
  admission: {max_replicas: 5}
  mine: {a: 1}
deploy: {health_timeout_seconds: 120}
volumes: {data: {name: old-data}, cache: }
""" % ("a" * 64)
ENV_FILES = {"base.env": "A=base\nD=base # c\n", "app.env": "D='app $x'\nexport E=\"a\\nb\"\n\n# no\n"}


def test_every_key_arrives() -> None:
    state = desired(EVERY_KEY, folder="/srv/other", env_files=ENV_FILES)
    (web,) = state.services
    assert state.project == "shop"
    assert (web.name, web.port, web.mode, web.version) == ("web", 3000, Mode.CANARY, "1.10")
    assert web.image.startswith("registry.example.org:5000/shop/web:1.4.2@sha256:")
    assert web.restart_policy == "on-failure:3"
    assert web.command == ("node", "server file.js", "$HOME")
    assert web.entrypoint == ("/usr/bin/tini", "--", "5")
    assert dict(web.environment) == {
        "A": "1.50",
        "B": "two",
        "C": "true",
        "D": "app $x",
        "E": "a\nb",
        "PRICE": "$5",
    }
    assert web.mounts == (
        Mount("volume", "old-data", "/var/lib/app"),
        Mount("bind", "/srv/other/config", "/etc/app", read_only=True),
        Mount("volume", "shop_cache", "/cache", read_only=True),
        Mount("bind", "/srv/other/assets", "/assets"),
    )
    assert web.tmpfs == ("/tmp", "/run:size=64m,mode=1777", "/scratch")
    assert web.log_volume == "web-logs"
    assert web.healthcheck == HealthCheck("/up", None, 10.0, 0.5, 5, 90.0)
    assert (web.replicas, web.resources) == (3, Resources(0.5, 256 * 2**20, 100))
    assert (web.user, web.read_only, web.cap_add) == ("1000:1000", False, ("CHOWN", "SETUID"))
    assert (web.stop_grace_period_s, web.stop_signal, web.init) == (20.0, "SIGQUIT", True)
    assert web.labels == (("empty", ""), ("team", "shop"))
    assert (web.working_dir, web.hostname) == ("/srv", "web-1")
    assert web.route == Route("shop.example.org", "/shop/", True)
    rollout = web.rollout
    assert (rollout.strategy, rollout.steps) == (Strategy.BLUE_GREEN, (Step(10, 30.0), Step(100, 60.0)))
    assert (rollout.min_requests, rollout.max_wait_s, rollout.on_timeout, rollout.promotion) == (
        5,
        300.0,
        "hold",
        "adopt",
    )
    assert (rollout.probe_path, rollout.probe_rate_per_s) == ("/ping", 0.5)
    assert (rollout.drain_s, rollout.watch_s, rollout.health_deadline_s, rollout.unknown_budget_s) == (10, 0, 90, 60)
    assert (web.chaos, web.tester_secret) == (True, "file:tester")
    assert (web.metrics.provider, web.metrics.path) == ("ingress", "/m")
    assert web.metrics.names == (("requests", "hits_total"), ("status", "code"))
    assert state.nginx == Nginx("nginx:1.30", 80, 90.0, "ops@shop.example", "Shop")
    assert state.opa == Opa("openpolicyagent/opa:1.19.0-static", 2.5, "rules")
    assert state.limits["infrastructure"] == {
        "min_disk_free_gb": 5,
        "max_cpu_load": 4,
        "max_mem_used_percent": 90,
        "disk_path": "/data",
    }
    assert (state.limits["canary"]["max_error_rate"], state.limits["canary"]["window_seconds"]) == (0.02, 60)
    assert (state.limits["admission"], state.limits["mine"]) == ({"max_replicas": 5}, {"a": 1})
    assert state.health_timeout_s == 120.0


def test_the_example_of_every_key_has_no_problem_and_no_warning() -> None:
    reading = manifest.read(EVERY_KEY.encode(), env_files=ENV_FILES.get)
    assert (reading.problems, reading.warnings) == ((), ())
    assert reading.env_files == ("base.env", "app.env")


def test_a_value_of_every_key_changes_what_is_read() -> None:
    """No key of a service is accepted and then forgotten."""
    keys = set(schema.part("$defs", "service")["properties"])
    forgotten = {"name", "cap_drop", "depends_on", "secrets", "deploy", "replicas"}
    plain, web = desired(SIX).services[0], desired(EVERY_KEY, env_files=ENV_FILES).services[0]
    fields = {
        field.name for field in dataclasses.fields(Service) if getattr(plain, field.name) != getattr(web, field.name)
    }
    same = {"port"}
    renamed = {"env_file": "environment", "volumes": "mounts", "stop_grace_period": "stop_grace_period_s"}
    assert {renamed.get(key, key) for key in keys - forgotten - same} <= fields


@pytest.mark.parametrize(
    ("lines", "check"),
    [
        (
            "healthcheck: {test: curl -f http://localhost/}",
            HealthCheck(None, ("CMD-SHELL", "curl -f http://localhost/")),
        ),
        ("healthcheck: {test: [CMD, /check]}", HealthCheck(None, ("CMD", "/check"))),
        ("healthcheck: {test: [CMD, /check], path: /up}", HealthCheck("/up", ("CMD", "/check"))),
        ("healthcheck: {test: [NONE]}", None),
        ("healthcheck: {disable: true}", None),
        ("healthcheck: {disable: false}", HealthCheck()),
        ("healthcheck: {interval: 3}", HealthCheck(interval_s=3.0)),
    ],
)
def test_health_checks(lines: str, check: HealthCheck | None) -> None:
    assert service(lines).healthcheck == check


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30", 30.0),
        ("30s", 30.0),
        ("1m30s", 90.0),
        ("500ms", 0.5),
        ("1.5", 1.5),
        ("1.5s", 1.5),
        ("2h", 7200.0),
        ("100us", None),
    ],
)
def test_durations(text: str, expected: float | None) -> None:
    data = SIX.replace("  port: 8080\n", f"  port: 8080\n  proxy_timeout: {text}\n")
    if expected is None:
        assert "Use a time from 1ms" in problems(data)[0]
    else:
        assert desired(data).nginx.proxy_timeout_s == expected


@pytest.mark.parametrize(
    ("text", "size"),
    [("6m", 6 * 2**20), ("1g", 2**30), ("1.5G", 3 * 2**29), ("512MB", 2**29), ("67108864", 2**26), ("65536k", 2**26)],
)
def test_sizes(text: str, size: int) -> None:
    assert service(f"mem_limit: {text}").resources.memory_bytes == size


# --- mounts


def test_a_bind_stays_relative_where_the_folder_is_not_known() -> None:
    assert service("volumes: ['./a/b:/x']", folder="shop").mounts == (Mount("bind", "./a/b", "/x"),)


def test_volumes_belong_to_the_project_unless_they_are_named() -> None:
    text = SIX.replace("nginx:\n", "  volumes: [a:/a, b:/b, c:/c]\nnginx:\n", 1)
    text += "project: {name: shop}\nvolumes: {b: {name: real}, c: {external: true}}\n"
    assert [mount.source for mount in desired(text).services[0].mounts] == ["shop_a", "real", "c"]


def test_the_hosts_allow_list_permits_what_lies_outside() -> None:
    lines = "volumes: ['/srv/data/x:/x:ro']"
    assert service(lines, allow=frozenset({"/srv/data"})).mounts == (Mount("bind", "/srv/data/x", "/x", True),)
    assert service(lines, allow=frozenset({"/srv/data/x/"})).mounts
    refused = SIX.replace("nginx:\n", f"  {lines}\nnginx:\n", 1)
    for allow in ((), ("/srv/dat",), ("/srv/data/x/y",), ("srv/data",), ("",)):
        assert "allow.yaml" in problems(refused, allow=frozenset(allow))[0]


def test_the_engines_socket_must_be_allowed_by_its_own_name() -> None:
    lines = "  volumes: ['/var/run/docker.sock:/s']\n"
    text = SIX.replace("nginx:\n", f"{lines}nginx:\n", 1)
    assert "the container engine itself" in problems(text, allow=frozenset({"/", "/var/run"}))[0]
    assert desired(text, allow=frozenset({"/var/run/docker.sock"})).services[0].mounts


def test_what_decides_may_be_mounted_read_only_or_not_at_all() -> None:
    assert service("volumes: ['./manifest.yaml:/m:ro', './policies:/p:ro']").mounts
    assert (
        "decides by" in problems(SIX.replace("nginx:\n", "  volumes: ['./m.yaml:/m']\nnginx:\n", 1), file="m.yaml")[0]
    )


def test_tmp_is_always_there_unless_something_else_is() -> None:
    assert service("tmpfs: [/run]").tmpfs == ("/tmp", "/run")
    assert service("tmpfs: ['/tmp:size=1g']").tmpfs == ("/tmp:size=1g",)
    assert service("volumes: ['data:/tmp']").tmpfs == ()


# --- environment files


def test_an_environment_file_that_is_missing_or_wrong_is_told_where_it_is_named() -> None:
    text = SIX.replace("nginx:\n", "  env_file: app.env\nnginx:\n", 1)
    assert problems(text) == [
        'manifest.yaml:4:13: services.env_file: "app.env" cannot be read. Create it, or remove the line.'
    ]
    (problem,) = problems(text, env_files={"app.env": "A=1\nnonsense hunter2\n"})
    assert problem == (
        "manifest.yaml:4:13: services.env_file: app.env:2:1: this is not NAME=value. Write one NAME=value on each line."
    )
    assert "quote is never closed" in problems(text, env_files={"app.env": "A='x\n"})[0]
    assert "MODE is set by SwiftDeploy" in problems(text, env_files={"app.env": "MODE=canary\n"})[0]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("A = b c ", "b c"),
        ("export A=b", "b"),
        ("A=", ""),
        ("A=b#c", "b#c"),
        ("A=b #c", "b"),
        ("A=#c", ""),
        ("A='b $c' # d", "b $c"),
        ('A="b\\tc\\"d"', 'b\tc"d'),
        ("A=b=c", "b=c"),
        ("A=${HOME}", "${HOME}"),
        ("\ufeffA=b", "b"),
        ("A=b\r\nB=c\r\n", "b"),
    ],
)
def test_environment_files_are_read_as_compose_reads_them(line: str, value: str) -> None:
    found = dict(service("env_file: app.env", env_files={"app.env": line}).environment)
    assert found["A"] == value


# --- this host


def test_a_load_limit_far_above_this_hosts_processors_is_a_warning() -> None:
    text = (SIX + "policy: {infrastructure: {max_cpu_load: 9}}\n").encode()
    assert manifest.read(text).warnings == ()
    assert manifest.read(text, processors=4).warnings == ()
    (warning,) = manifest.read(text, processors=2).warnings
    assert "max_cpu_load is 9, more than four times this host's 2 processors" in warning.message


# --- never raises, never slow


@pytest.mark.fault("E3")
def test_no_prefix_of_a_manifest_raises() -> None:
    data = EVERY_KEY.encode()
    for cut in range(0, len(data), 3):
        reading = manifest.read(data[:cut], env_files=ENV_FILES)
        assert (reading.desired is None) == bool(reading.problems)


@pytest.mark.fault("E1")
def test_no_prefix_of_the_six_keys_is_taken_for_a_manifest_but_those_that_are_one() -> None:
    data = SIX.encode()
    taken = [data[:cut] for cut in range(len(data)) if manifest.read(data[:cut]).desired is not None]
    assert taken == [data[:-1]]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_manifest_with_a_piece_replaced_raises(data: st.DataObject) -> None:
    tree = json.loads(json.dumps(manifest.parse(EVERY_KEY.encode()).plain()))
    for _ in range(data.draw(st.integers(1, 3))):
        _replace_somewhere(tree, data)
    reading = manifest.read(json.dumps(tree).encode(), env_files=ENV_FILES)
    assert (reading.desired is None) == bool(reading.problems)
    assert all(problem.line > 0 and problem.message.isprintable() for problem in reading.problems)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.sampled_from(
        [0.5, 1.0, -2.5, "", "x", "/x", "x:/y", "5s", "1.0", "{}", "A=b", "é", "a" * 300, "canary", "false"]
    ),
    st.sampled_from([[], {}, [[]], [{}], {"a": {}}, ["x"], {"x": "y"}, {"image": "x", "port": 1}, {"path": "/"}, [5]]),
)


def _replace_somewhere(tree: Any, data: st.DataObject) -> None:
    at = tree
    while True:
        keys = list(range(len(at))) if isinstance(at, list) else list(at)
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if isinstance(at[key], (dict, list)) and at[key] and data.draw(st.booleans()):
            at = at[key]
            continue
        choice = data.draw(st.integers(0, 3))
        if choice == 0:
            del at[key]
        elif choice == 1 and isinstance(at, dict):
            at[data.draw(st.sampled_from(["mode", "x", "restart", "name", "policy", "x-y", "logs", "env", "app"]))] = (
                at.pop(key)
            )
        else:
            at[key] = copy.deepcopy(data.draw(JUNK))
        return


PIECES = st.lists(st.sampled_from([*SIX.splitlines(keepends=True), *EVERY_KEY.splitlines(keepends=True)]), max_size=25)


@settings(max_examples=300, deadline=None)
@given(PIECES, st.binary(max_size=10), st.integers(0, 500))
def test_no_shuffle_of_lines_raises(pieces: list[str], junk: bytes, at: int) -> None:
    text = "".join(pieces).encode()
    reading = manifest.read(text[:at] + junk + text[at:], env_files=ENV_FILES)
    assert (reading.desired is None) == bool(reading.problems)


def test_the_six_keys_are_read_in_ten_milliseconds() -> None:
    manifest.read(SIX.encode())
    times = []
    for _ in range(20):
        started = time.process_time()
        manifest.read(SIX.encode())
        times.append(time.process_time() - started)
    assert min(times) < 0.010


def test_jsonschema_is_loaded_by_the_first_reading_not_by_the_import() -> None:
    code = (
        "import sys; from reconciler.formats import manifest, write_back; assert 'jsonschema' not in sys.modules; "
        f"manifest.read({SIX.encode()!r}); assert 'jsonschema' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# ---------------------------------------------------------------- testers

TESTED = SIX.replace("  port: 3000\n", "  port: 3000\n  tester_secret: file:tester\n", 1)
SECRET = SecretFile("0123456789abcdef" * 4 + "\n")


def test_a_testers_secret_is_looked_up_by_name_and_only_its_digest_is_kept() -> None:
    asked: list[str] = []
    reading = manifest.read(TESTED.encode(), secrets=lambda name: asked.append(name) or SECRET)  # type: ignore[func-returns-value]
    assert reading.desired is not None, reading.problems
    (web,) = reading.desired.services
    assert (asked, list(reading.secrets)) == (["tester"], ["tester"])
    assert web.tester_digest == digest(web.name, SECRET.text.strip())
    assert SECRET.text.strip() not in repr(reading)
    assert desired(TESTED).services[0].tester_digest is None


def measured_by(metrics: str) -> Metrics:
    return desired(SIX.replace("  port: 3000\n", f"  port: 3000\n  metrics: {metrics}\n", 1)).services[0].metrics


def test_a_prometheus_server_is_an_address_and_the_labels_of_containers() -> None:
    found = measured_by("{provider: prometheus, server: 'http://127.0.0.1:9090'}")
    assert (found.provider, found.server) == ("prometheus", "http://127.0.0.1:9090")
    assert found.match == (("instance", "{address}:{port}"),)
    for server in ("http://localhost", "http://metrics.shop.example:80/prometheus/", "http://[fd00::1]:9090"):
        assert measured_by(f"{{provider: prometheus, server: '{server}'}}").server == server


@pytest.mark.parametrize(
    ("match", "read"),
    [
        ("{job: shop}", (("instance", "{address}:{port}"), ("job", "shop"))),
        ("{job: shop, instance: '{address}:9100'}", (("instance", "{address}:9100"), ("job", "shop"))),
        ("{container: '/{name}'}", (("container", "/{name}"),)),
        ("{container: '{id}', job: shop}", (("container", "{id}"), ("job", "shop"))),
    ],
)
def test_labels_tell_containers_apart_or_the_address_does(match: str, read: tuple[tuple[str, str], ...]) -> None:
    assert measured_by(f"{{provider: prometheus, server: 'http://p', match: {match}}}").match == read


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (
            "{provider: prometheus}",
            "services.metrics.server is missing. Add it, for example server: http://127.0.0.1:9090.",
        ),
        ("{server: 'http://p'}", "services.metrics.server is for provider: prometheus, and the provider is auto."),
        (
            "{provider: prometheus, server: 'http://p', match: {instance: x}}",
            "services.metrics.match is the same for every container. Use {address}, {name} or {id} in one value.",
        ),
        (
            "{provider: prometheus, server: 'http://p', match: {a: '{nam}'}}",
            "services.metrics.match.a has {nam}, which stands for nothing. Use {address}, {port}, {name}, {id}.",
        ),
    ],
)
def test_a_server_that_cannot_be_asked_is_refused(metrics: str, said: str) -> None:
    text = SIX.replace("  port: 3000\n", f"  port: 3000\n  metrics: {metrics}\n", 1)
    (problem,) = manifest.read(text.encode()).problems
    assert problem.message.startswith(said)
    assert problem.line == 4


def test_a_testers_secret_makes_no_new_revision() -> None:
    plain, tested = (manifest.read(text.encode(), secrets=lambda _: SECRET).desired for text in (SIX, TESTED))
    assert plain is not None
    assert tested is not None
    assert spec_hash(plain.services[0], "i", "n") == spec_hash(tested.services[0], "i", "n")


@pytest.mark.parametrize(
    ("provider", "read"),
    [("", "ingress"), ("  metrics: {provider: auto}\n", "ingress"), ("  metrics: {provider: ingress}\n", "ingress")],
)
def test_only_nginx_can_tell_testers_from_others(provider: str, read: str) -> None:
    line = "  tester_secret: file:tester\n"
    assert desired(TESTED.replace(line, line + provider)).services[0].metrics.provider == read
    assert desired(SIX).services[0].metrics.provider == "auto"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("  metrics: {provider: app}\n", "services.metrics.provider is app, which counts testers too"),
        (
            "  metrics: {provider: prometheus, server: 'http://p'}\n",
            "services.metrics.provider is prometheus, which counts testers too",
        ),
        ("  route: false\n", "services.tester_secret needs a route"),
    ],
)
def test_a_testers_header_that_cannot_keep_its_promise_is_refused(more: str, said: str) -> None:
    line = "  tester_secret: file:tester\n"
    (problem,) = manifest.read(TESTED.replace(line, line + more).encode()).problems
    assert said in problem.message
    assert problem.line > 0
