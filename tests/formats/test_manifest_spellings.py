"""Other words for our keys: each is read as ours, with one line that names old key, new key and value."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.formats import manifest, spelling_table
from reconciler.formats.manifest import Reading

SIX = """\
services:
  image: shop/web:1
  port: 3000
nginx:
  image: nginx:latest
  port: 8080
network:
  name: net
  driver_type: bridge
"""


def read(service: str = "", nginx: str = "", network: str = "", top: str = "", **options: Any) -> Reading:
    data = SIX
    for word, lines in (("nginx:\n", service), ("network:\n", nginx)):
        data = data.replace(word, "".join(f"  {line}\n" for line in lines.splitlines()) + word)
    data += "".join(f"  {line}\n" for line in network.splitlines()) + top
    return manifest.read(data.encode(), folder="/srv/shop", **options)


def wanted(reading: Reading, path: str) -> Any:
    """`service.mode`, `nginx.contact`, `limits.canary.min_requests` of what was read."""
    assert reading.desired is not None, reading.problems
    first, *rest = path.split(".")
    at: Any = reading.desired.services[0] if first == "service" else getattr(reading.desired, first)
    for step in rest:
        at = at[step] if isinstance(at, dict) else getattr(at, step)
    return at


# where, what is written, where it must arrive, as what, words of the one warning
MAPPED: list[tuple[str, str, str, Any, tuple[str, ...]]] = [
    ("top", "mode: canary", "service.mode", "canary", ("mode is read as services.mode", "canary")),
    ("top", "app: {mode: canary}", "service.mode", "canary", ("app.mode is read as services.mode",)),
    (
        "top",
        "deployment: {strategy: canary}",
        "service.mode",
        "canary",
        ("deployment.strategy is read as services.mode",),
    ),
    ("service", "env: {MODE: canary}", "service.mode", "canary", ("services.env.MODE is read as services.mode",)),
    ("service", "env: {mode: canary}", "service.mode", "canary", ("services.env.mode is read as services.mode",)),
    ("service", "environment: {MODE: canary}", "service.mode", "canary", ("services.environment.MODE",)),
    ("service", "environment: [MODE=canary]", "service.mode", "canary", ("services.environment.MODE",)),
    ("service", "environment: {APP_VERSION: 1.10}", "service.version", "1.10", ("services.environment.APP_VERSION",)),
    (
        "service",
        "restart: always",
        "service.restart_policy",
        "always",
        ("services.restart is", "services.restart_policy"),
    ),
    ("service", "restart: no", "service.restart_policy", "no", ("services.restart is", "services.restart_policy")),
    (
        "top",
        "restart_policy: always",
        "service.restart_policy",
        "always",
        ("restart_policy is read as services.restart_",),
    ),
    ("top", "defaults: {restart_policy: always}", "service.restart_policy", "always", ("defaults.restart_policy is",)),
    ("top", "deploy: {restart_policy: always}", "service.restart_policy", "always", ("deploy.restart_policy is",)),
    ("top", "deployment: {restart_policy: always}", "service.restart_policy", "always", ("deployment.restart_policy",)),
    (
        "service",
        "deploy: {restart_policy: {condition: on-failure, max_attempts: 3}}",
        "service.restart_policy",
        "on-failure:3",
        ("services.deploy.restart_policy is read as services.restart_policy",),
    ),
    (
        "service",
        "app_version: 2.0.0",
        "service.version",
        "2.0.0",
        ("services.app_version is read as services.version",),
    ),
    ("top", "app_version: 2.0.0", "service.version", "2.0.0", ("app_version is read as services.version",)),
    ("top", "app: {version: 2.0.0}", "service.version", "2.0.0", ("app.version is read as services.version",)),
    (
        "top",
        "metadata: {version: 2.0.0}",
        "service.version",
        "2.0.0",
        ("metadata.version is read as services.version",),
    ),
    ("top", "project: {version: 2.0.0}", "service.version", "2.0.0", ("project.version is read as services.version",)),
    ("top", "version: '3.8'", "service.version", "1.0.0", ("version has no effect", "Compose's")),
    (
        "top",
        "volumes: {logs: my-logs}",
        "service.log_volume",
        "my-logs",
        ("volumes.logs is read as services.log_volume",),
    ),
    ("top", "volumes: {logs: {name: my-logs}}", "service.log_volume", "my-logs", ("volumes.logs is read as",)),
    ("top", "volumes: {app_logs: my-logs}", "service.log_volume", "my-logs", ("volumes.app_logs is read as",)),
    ("top", "logs: {volume_name: my-logs}", "service.log_volume", "my-logs", ("logs.volume_name is read as",)),
    ("top", "logging: {volume: my-logs}", "service.log_volume", "my-logs", ("logging.volume is read as",)),
    ("service", "log_path: /var/log/x", "service.log_path", "/var/log/app", ("services.log_path has no effect",)),
    ("nginx", "log_path: /var/log/x", "nginx.port", 8080, ("nginx.log_path has no effect",)),
    ("nginx", "access_log: /var/log/x", "nginx.port", 8080, ("nginx.access_log has no effect",)),
    ("top", "contact: a@b.example", "nginx.contact", "a@b.example", ("contact is read as nginx.contact",)),
    ("nginx", "error_contact: a@b.example", "nginx.contact", "a@b.example", ("nginx.error_contact is read as",)),
    ("top", "meta: {contact: a@b.example}", "nginx.contact", "a@b.example", ("meta.contact is read as",)),
    ("top", "metadata: {contact: a@b.example}", "nginx.contact", "a@b.example", ("metadata.contact is read as",)),
    ("top", "project: {contact: a@b.example}", "nginx.contact", "a@b.example", ("project.contact is read as",)),
    ("nginx", "error_service_name: Shop", "nginx.service_name", "Shop", ("nginx.error_service_name is read as",)),
    ("top", "metadata: {service_name: Shop}", "nginx.service_name", "Shop", ("metadata.service_name is read as",)),
    ("service", "proxy_timeout: 45s", "nginx.proxy_timeout_s", 45.0, ("services.proxy_timeout is read as",)),
    ("nginx", "proxy_read_timeout: 45", "nginx.proxy_timeout_s", 45.0, ("nginx.proxy_read_timeout is read as",)),
    ("network", "", "network.driver", "bridge", ()),
    (
        "top",
        "policy_engine: {image: 'openpolicyagent/opa:1.2.3'}",
        "opa.image",
        "openpolicyagent/opa:1.2.3",
        ("policy_engine is read as opa",),
    ),
    (
        "top",
        "policy: {opa: {image: 'openpolicyagent/opa:1.2.3'}}",
        "opa.image",
        "openpolicyagent/opa:1.2.3",
        ("policy.opa is read as opa",),
    ),
    ("top", "opa: {port: 8181}", "opa.policies_dir", "policies", ("opa.port has no effect",)),
    ("top", "opa: {host_port: 8181}", "opa.policies_dir", "policies", ("opa.host_port has no effect",)),
    ("top", "opa: {policy_dir: rules}", "opa.policies_dir", "rules", ("opa.policy_dir is read as opa.policies_dir",)),
    ("top", "policy_dir: ./rules/", "opa.policies_dir", "rules", ("policy_dir is read as opa.policies_dir",)),
    ("top", "policies: ./rules", "opa.policies_dir", "rules", ("policies is read as opa.policies_dir",)),
    (
        "top",
        "policy: {opa_url: 'http://localhost:8181'}",
        "opa.policies_dir",
        "policies",
        ("policy.opa_url has no effect",),
    ),
    (
        "top",
        "policy: {opa_url: 'http://127.0.0.1:8181/v1'}",
        "opa.policies_dir",
        "policies",
        ("policy.opa_url has no",),
    ),
    ("top", "policies: {canary: {min_requests: 5}}", "limits.canary.min_requests", 5, ("policies is read as policy",)),
    (
        "top",
        "policy_limits: {canary: {min_requests: 5}}",
        "limits.canary.min_requests",
        5,
        ("policy_limits is read as",),
    ),
    (
        "top",
        "policy_canary: {min_requests: 5}",
        "limits.canary.min_requests",
        5,
        ("policy_canary is read as policy.canary",),
    ),
    (
        "top",
        "policy_infrastructure: {min_disk_free_gb: 5}",
        "limits.infrastructure.min_disk_free_gb",
        5,
        ("policy_infra",),
    ),
    (
        "top",
        "policy: {thresholds: {canary: {min_requests: 5}}}",
        "limits.canary.min_requests",
        5,
        ("policy.thresholds.canary is read as policy.canary",),
    ),
    (
        "top",
        "policy: {canary_safety: {min_requests: 5}}",
        "limits.canary.min_requests",
        5,
        ("policy.canary_safety is",),
    ),
    (
        "top",
        "policy: {max_error_rate: 0.05}",
        "limits.canary.max_error_rate",
        0.05,
        ("policy.max_error_rate is read as policy.canary.max_error_rate: 0.05",),
    ),
    (
        "top",
        "policy: {min_disk_free_gb: 5}",
        "limits.infrastructure.min_disk_free_gb",
        5,
        ("policy.min_disk_free_gb is",),
    ),
    ("top", "policy: {infra_max_cpu_load: 3}", "limits.infrastructure.max_cpu_load", 3, ("policy.infra_max_cpu_load",)),
    (
        "top",
        "policy: {canary_window_seconds: 60}",
        "limits.canary.window_seconds",
        60,
        ("policy.canary_window_seconds",),
    ),
    ("top", "policy: {canary_max_error_rate_percent: 5}", "limits.canary.max_error_rate", 0.05, ("5 (that is 0.05)",)),
    (
        "top",
        "policy: {canary: {max_error_rate_percent: 0.7}}",
        "limits.canary.max_error_rate",
        0.007,
        ("0.7 (that is 0.007)",),
    ),
    (
        "top",
        "policy: {canary: {max_error_rate_pct: 1}}",
        "limits.canary.max_error_rate",
        0.01,
        ("max_error_rate_pct is read",),
    ),
    (
        "top",
        "policy: {canary: {max_p99_latency_seconds: 0.5}}",
        "limits.canary.max_p99_latency_ms",
        500.0,
        ("0.5 (that is 500",),
    ),
    (
        "top",
        "policy: {infrastructure: {min_disk_gb: 5}}",
        "limits.infrastructure.min_disk_free_gb",
        5,
        ("min_disk_gb is read",),
    ),
    (
        "top",
        "policy: {infrastructure: {max_cpu_load_1m: 3}}",
        "limits.infrastructure.max_cpu_load",
        3,
        ("max_cpu_load_1m is",),
    ),
    (
        "top",
        "policy: {infrastructure: {max_mem_pct: 90}}",
        "limits.infrastructure.max_mem_used_percent",
        90,
        ("max_mem_pct is",),
    ),
    (
        "top",
        "policy: {canary: {evaluation_window_seconds: 60}}",
        "limits.canary.window_seconds",
        60,
        ("evaluation_window_sec",),
    ),
    (
        "top",
        "policy: {canary: {metrics_window_seconds: 60}}",
        "limits.canary.window_seconds",
        60,
        ("metrics_window_seconds",),
    ),
    ("top", "policy: {canary: {min_samples: 5}}", "limits.canary.min_requests", 5, ("min_samples is read as",)),
    ("top", "policy: {canary: {min_sample_requests: 5}}", "limits.canary.min_requests", 5, ("min_sample_requests is",)),
    ("top", "policy: {canary: {min_sample_count: 5}}", "limits.canary.min_requests", 5, ("min_sample_count is read",)),
    ("service", "health_check: {path: /up}", "service.healthcheck.path", "/up", ("services.health_check is read as",)),
    (
        "service",
        "healthcheck: /up",
        "service.healthcheck.path",
        "/up",
        ("services.healthcheck is read as services.health",),
    ),
    ("service", "healthcheck_path: /up", "service.healthcheck.path", "/up", ("services.healthcheck_path is read as",)),
    ("service", "healthcheck_endpoint: /up", "service.healthcheck.path", "/up", ("services.healthcheck_endpoint is",)),
    (
        "service",
        "healthcheck_interval: 7s",
        "service.healthcheck.interval_s",
        7.0,
        ("services.healthcheck_interval is",),
    ),
    (
        "service",
        "healthcheck_timeout_seconds: 7",
        "service.healthcheck.timeout_s",
        7.0,
        ("healthcheck_timeout_seconds is",),
    ),
    ("service", "healthcheck_retries: 7", "service.healthcheck.retries", 7, ("services.healthcheck_retries is read",)),
    (
        "service",
        "healthcheck: {endpoint: /up}",
        "service.healthcheck.path",
        "/up",
        ("services.healthcheck.endpoint is",),
    ),
    (
        "top",
        "healthcheck: {path: /up}",
        "service.healthcheck.path",
        "/up",
        ("healthcheck is read as services.healthcheck",),
    ),
    ("top", "project_name: big-shop", "project", "big-shop", ("project_name is read as project.name",)),
    ("top", "compose_project: big-shop", "project", "big-shop", ("compose_project is read as project.name",)),
    ("top", "app_name: big-shop", "project", "big-shop", ("app_name is read as project.name",)),
    ("top", "name: big-shop", "project", "big-shop", ("name is read as project.name",)),
    ("top", "project: big-shop", "project", "big-shop", ("project is read as project.name",)),
    ("service", "container_name: web", "service.name", "app", ("services.container_name has no effect",)),
    ("nginx", "container_name: web", "nginx.port", 8080, ("nginx.container_name has no effect",)),
    ("service", "port_on_host: 80", "service.port", 3000, ("services.port_on_host has no effect",)),
    ("service", "cpus: 0.5", "service.resources.cpus", 0.5, ("services.cpus is read as services.deploy.resources",)),
    ("service", "mem_limit: 256m", "service.resources.memory_bytes", 2**28, ("services.mem_limit is read as",)),
    ("service", "pids_limit: 99", "service.resources.pids", 99, ("services.pids_limit is read as",)),
    ("service", "scale: 2", "service.replicas", 2, ("services.scale is read as services.deploy.replicas",)),
    ("service", "replicas: 2", "service.replicas", 2, ()),
]


@pytest.mark.parametrize(
    ("where", "lines", "path", "value", "words"), MAPPED, ids=[case[1] or "six" for case in MAPPED]
)
def test_another_spelling_is_read_as_ours(
    where: str, lines: str, path: str, value: Any, words: tuple[str, ...]
) -> None:
    reading = read(**{where: lines})
    arrived = wanted(reading, path)
    assert arrived == value
    assert type(arrived) is type(value) or path == "service.mode"
    assert len(reading.warnings) == (1 if words else 0), reading.warnings
    for word in words:
        assert word in reading.warnings[0].message
    assert all(warning.line >= 4 for warning in reading.warnings)


def test_the_drivers_other_name() -> None:
    reading = manifest.read(SIX.replace("driver_type", "driver").encode())
    assert wanted(reading, "network.driver") == "bridge"
    assert str(reading.warnings[0]) == (
        'manifest.yaml:9:11: network.driver is read as network.driver_type: "bridge". Better write network.driver_type.'
    )


def test_the_ports_other_name() -> None:
    reading = manifest.read(SIX.replace("  port: 3000", "  port_on_container: 3000\n  port_on_host: 80").encode())
    assert wanted(reading, "service.port") == 3000
    assert len(reading.warnings) == 2


def test_every_renamed_key_arrives_where_the_table_says() -> None:
    """The table itself: each old key has a place in the tests above or moves a value of ours unharmed."""
    tested = " ".join(f"{case[0]} {case[1]} {' '.join(case[4])}" for case in MAPPED)
    for old, _ in spelling_table.RENAMED:
        last = old.split(".")[-1]
        assert (
            last in tested
            or last in ("driver", "port_on_container")
            or "timeout" in last
            or "ssl" in last
            or last
            in (
                "https_port",
                "policies_dir",
                "policy_dir",
            )
        ), old


# --- both spellings at once

EQUAL = [
    ("service", "restart: always\nrestart_policy: always"),
    ("service", "mode: canary\nenvironment: {MODE: canary}"),
    ("nginx", "proxy_timeout: 30s\nproxy_read_timeout: 30\nproxy_connect_timeout: 30s"),
    ("nginx", "contact: a@b.example\nerror_contact: a@b.example"),
    ("service", "replicas: 2\ndeploy: {replicas: 2}"),
    ("service", "environment: {APP_PORT: 3000}"),
    ("service", "environment: [APP_PORT=3000]"),
    ("top", "policy: {max_error_rate: 0.02, canary: {max_error_rate: 0.02}}"),
    ("top", "policy: {canary: {max_error_rate: 0.02, max_error_rate_pct: 2}}"),
    ("top", "policies: {canary: {min_requests: 5}}\npolicy: {canary: {min_requests: 5}}"),
    ("top", "project: {name: a}\napp_name: a"),
    ("top", "opa: {policies_dir: x}\npolicy_dir: x"),
]
DIFFERENT = [
    ("service", "restart: always\nrestart_policy: unless-stopped", "services.restart is", "services.restart_policy is"),
    ("service", "mode: canary\nenvironment: {MODE: stable}", "services.environment.MODE is", "services.mode is"),
    ("service", "env: {MODE: canary, mode: stable}", "services.env.mode is", "services.env.MODE is"),
    ("nginx", "proxy_timeout: 30s\nproxy_read_timeout: 60", "nginx.proxy_read_timeout is", "nginx.proxy_timeout is"),
    ("nginx", "proxy_read_timeout: 30\nproxy_connect_timeout: 5", "nginx.proxy_read_timeout is", "connect_timeout is"),
    ("nginx", "contact: a@b.example\nerror_contact: b@b.example", "nginx.error_contact is", "nginx.contact is"),
    ("service", "replicas: 2\ndeploy: {replicas: 3}", "services.replicas is", "services.deploy.replicas is"),
    ("service", "environment: {APP_PORT: 3001}", "services.environment.APP_PORT is", "services.port is"),
    ("service", "port_on_container: 3001", "services.port_on_container is", "services.port is"),
    (
        "top",
        "policy: {max_error_rate: 0.02, canary: {max_error_rate: 0.03}}",
        "policy.max_error_rate is",
        "policy.canary",
    ),
    (
        "top",
        "policy_canary: {min_requests: 5}\npolicy: {canary: {min_requests: 6}}",
        "policy_canary.min_requests",
        "policy.canary.min_requests",
    ),
    ("top", "project: {name: a}\napp_name: b", "app_name is", "project.name is"),
    ("top", "mode: canary\napp: {mode: stable}", "app.mode is", "mode is"),
]


@pytest.mark.parametrize(("where", "lines"), EQUAL)
def test_two_spellings_that_agree_are_a_warning(where: str, lines: str) -> None:
    reading = read(**{where: lines})
    assert reading.desired is not None, reading.problems
    assert any("says the same as" in warning.message for warning in reading.warnings)


@pytest.mark.parametrize(("where", "lines", "one", "other"), DIFFERENT)
def test_two_spellings_that_differ_are_an_error_that_names_both(where: str, lines: str, one: str, other: str) -> None:
    reading = read(**{where: lines})
    (problem,) = reading.problems
    assert one in problem.message
    assert other in problem.message


# --- unknown keys

CLOSE = [
    ("service", "imgae2: x", None),
    ("service", "prot: 1", "port"),
    ("service", "enviroment: {}", "environment"),
    ("service", "Mode: stable", "mode"),
    ("service", "restartPolicy: x", "restart_policy"),
    ("service", "healtcheck: {}", "healthcheck"),
    ("service", "healthcheck: {intervall: 5}", "interval"),
    ("service", "route: {hots: a}", "host"),
    ("service", "rollout: {step: []}", "steps"),
    ("service", "deploy: {replica: 2}", "replicas"),
    ("service", "deploy: {resources: {limit: {}}}", "limits"),
    ("nginx", "proxy_timout: 30", "proxy_timeout"),
    ("nginx", "contacts: x", "contact"),
    ("top", "polici: {}", "policy"),
    ("top", "opa: {policies_dirs: x}", "policies_dir"),
    ("top", "policy: {infrastucture: {}}", "infrastructure"),
    ("top", "policy: {canary: {max_eror_rate: 0.1}}", "max_error_rate"),
    ("top", "app: {mod: canary}", "mode"),
]
NO_EFFECT = [
    ("service", "something: 1", "services.something"),
    ("service", "healthcheck: {something: 1}", "services.healthcheck.something"),
    ("nginx", "worker_processes: 4", "nginx.worker_processes"),
    ("nginx", "client_max_body_size: 0", "nginx.client_max_body_size"),
    ("top", "something: {a: b}", "something"),
    ("top", "app: {something: 1}", "app.something"),
    ("top", "opa: {something: 1}", "opa.something"),
    ("service", "tty: true", "services.tty"),
    ("service", "logging: {driver: none}", "services.logging"),
    ("service", "profiles: [a]", "services.profiles"),
    ("service", "expose: [3000]", "services.expose"),
    ("service", "networks: [net]", "services.networks"),
    ("service", "pull_policy: always", "services.pull_policy"),
    ("service", "deploy: {update_config: {parallelism: 1}}", "services.deploy.update_config"),
    ("service", "deploy: {resources: {reservations: {cpus: 1}}}", "services.deploy.resources.reservations"),
    ("service", "privileged: false", "services.privileged"),
    ("service", "security_opt: ['no-new-privileges:true']", "services.security_opt"),
    ("service", "ports: []", "services.ports"),
    ("service", "user: root", "services.user"),
    ("service", "environment: {A: '${HOME}'}", "services.environment.A"),
    ("service", "volumes: ['data:/d:ro,cached']", "services.volumes[0]"),
]
SILENT = [
    ("service", "x-note: anything"),
    ("nginx", "x-note: {a: [1]}"),
    ("top", "x-common: {a: 1}\nx-b: 2"),
    ("service", "rollout: {x-why: slow}"),
    ("service", "healthcheck: {x-why: slow}"),
    ("top", "policy: {canary: {x-why: because}}"),
    ("top", "policy: {x-why: because}"),
    ("top", "policy: {mine: {anything: [1, {a: 2}], nested: {deep: true}}}"),
    ("top", "volumes: {data: {}, cache: , logs: }"),
]


@pytest.mark.parametrize(("where", "lines", "meant"), CLOSE)
def test_a_key_close_to_a_known_one_is_an_error_that_names_it(where: str, lines: str, meant: str | None) -> None:
    reading = read(**{where: lines})
    if meant is None:
        assert not reading.problems
        return
    (problem,) = reading.problems
    assert problem.message.endswith(f"Did you mean {meant}?")


@pytest.mark.parametrize(("where", "lines", "path"), NO_EFFECT)
def test_what_has_no_effect_is_one_warning(where: str, lines: str, path: str) -> None:
    reading = read(**{where: lines})
    assert reading.desired is not None, reading.problems
    (warning,) = reading.warnings
    assert path in warning.message


@pytest.mark.parametrize(("where", "lines"), SILENT)
def test_your_own_keys_are_silent(where: str, lines: str) -> None:
    reading = read(**{where: lines})
    assert reading.desired is not None, reading.problems
    assert reading.warnings == ()


def test_in_a_rollout_and_in_our_domains_an_unknown_key_is_always_an_error() -> None:
    for where, lines in (
        ("service", "rollout: {something: 1}"),
        ("service", "rollout: {steps: [{weight: 5, something: 1}]}"),
        ("service", "rollout: {probe: {path: /, something: 1}}"),
        ("top", "policy: {canary: {something: 1}}"),
        ("top", "policy: {infrastructure: {something: 1}}"),
        ("top", "policy: {admission: {something: 1}}"),
    ):
        (problem,) = read(**{where: lines}).problems
        assert "something is no key. Use one of" in problem.message


def test_a_domain_of_your_own_is_passed_through_whole() -> None:
    reading = read(top="policy: {mine: {limit: 5, list: [a, {b: null}], x-kept: 1}}")
    assert wanted(reading, "limits.mine") == {"limit": 5, "list": ["a", {"b": None}], "x-kept": 1}


# --- several services

TWO = """\
services:
  web: {image: a, port: 1}
  db: {image: b, port: 2}
nginx: {image: n, port: 80}
network: {name: net, driver_type: bridge}
"""


def test_several_services_are_refused_by_name() -> None:
    (problem,) = manifest.read(TWO.encode()).problems
    assert str(problem) == (
        "manifest.yaml:3:3: several services: not yet; this version runs one service (found: web, db)"
    )


def test_a_key_that_could_be_any_services_is_refused() -> None:
    problems = manifest.read((TWO + "mode: canary\n").encode()).problems
    assert any("mode could mean any service" in problem.message for problem in problems)


def test_one_service_may_stand_under_its_name() -> None:
    data = TWO.replace("  db: {image: b, port: 2}\n", "") + "mode: canary\nhealthcheck: {path: /up}\n"
    reading = manifest.read(data.encode())
    assert wanted(reading, "service.name") == "web"
    assert wanted(reading, "service.mode") == "canary"
    assert wanted(reading, "service.healthcheck.path") == "/up"
    assert [warning.message.split(":")[0] for warning in reading.warnings] == [
        "mode is read as services.web.mode",
        "healthcheck is read as services.web.healthcheck",
    ]


def test_wrong_values_of_several_services_are_told_with_their_paths() -> None:
    problems = manifest.read(TWO.replace("port: 2", "port: x").encode()).problems
    assert any(problem.message.startswith("services.db.port is") for problem in problems)
