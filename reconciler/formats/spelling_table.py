"""Which words people use for our keys: the tables behind `spellings`, and behind docs/manifest.md.

`services.*` is the service, or each of them.
"""

from __future__ import annotations

from decimal import Decimal

# Old path, new path; tried in this order.
RENAMED: tuple[tuple[str, str], ...] = (
    ("mode", "services.*.mode"),
    ("app.mode", "services.*.mode"),
    ("deployment.strategy", "services.*.mode"),
    ("services.*.restart", "services.*.restart_policy"),
    ("restart_policy", "services.*.restart_policy"),
    ("defaults.restart_policy", "services.*.restart_policy"),
    ("deploy.restart_policy", "services.*.restart_policy"),
    ("deployment.restart_policy", "services.*.restart_policy"),
    ("services.*.app_version", "services.*.version"),
    ("app_version", "services.*.version"),
    ("app.version", "services.*.version"),
    ("metadata.version", "services.*.version"),
    ("project.version", "services.*.version"),
    ("logs.volume_name", "services.*.log_volume"),
    ("logging.volume", "services.*.log_volume"),
    ("contact", "nginx.contact"),
    ("nginx.error_contact", "nginx.contact"),
    ("meta.contact", "nginx.contact"),
    ("metadata.contact", "nginx.contact"),
    ("project.contact", "nginx.contact"),
    ("nginx.error_service_name", "nginx.service_name"),
    ("metadata.service_name", "nginx.service_name"),
    ("services.*.proxy_timeout", "nginx.proxy_timeout"),
    ("nginx.proxy_connect_timeout", "nginx.proxy_timeout"),
    ("nginx.proxy_send_timeout", "nginx.proxy_timeout"),
    ("nginx.proxy_read_timeout", "nginx.proxy_timeout"),
    ("nginx.connect_timeout", "nginx.proxy_timeout"),
    ("nginx.send_timeout", "nginx.proxy_timeout"),
    ("nginx.read_timeout", "nginx.proxy_timeout"),
    ("nginx.https_port", "nginx.tls.port"),
    ("nginx.ssl_cert", "nginx.tls.certificate"),
    ("nginx.ssl_key", "nginx.tls.certificate_key"),
    ("nginx.ssl_certificate", "nginx.tls.certificate"),
    ("nginx.ssl_certificate_key", "nginx.tls.certificate_key"),
    ("network.driver", "network.driver_type"),
    ("policy_engine", "opa"),
    ("policy.opa", "opa"),
    ("policy_dir", "opa.policies_dir"),
    ("policies_dir", "opa.policies_dir"),
    ("opa.policy_dir", "opa.policies_dir"),
    ("policy.policy_dir", "opa.policies_dir"),
    ("policy.policies_dir", "opa.policies_dir"),
    ("policies", "policy"),
    ("policy_limits", "policy"),
    ("policy_infrastructure", "policy.infrastructure"),
    ("policy_canary", "policy.canary"),
    ("policy.thresholds", "policy"),
    ("policy.canary_safety", "policy.canary"),
    ("project_name", "project.name"),
    ("compose_project", "project.name"),
    ("app_name", "project.name"),
    ("name", "project.name"),
    ("services.*.port_on_container", "services.*.port"),
    ("services.*.health_check", "services.*.healthcheck"),
    ("healthcheck", "services.*.healthcheck"),
    ("health_check", "services.*.healthcheck"),
    ("services.*.healthcheck.endpoint", "services.*.healthcheck.path"),
    ("services.*.cpus", "services.*.deploy.resources.limits.cpus"),
    ("services.*.mem_limit", "services.*.deploy.resources.limits.memory"),
    ("services.*.pids_limit", "services.*.deploy.resources.limits.pids"),
    ("services.*.scale", "services.*.deploy.replicas"),
    ("services.*.replicas", "services.*.deploy.replicas"),
)
# Ours as well: no line is due.
QUIET = frozenset({"services.*.replicas"})

# Blocks that are nobody's but the spellings'.
FOREIGN_BLOCKS = ("app", "meta", "metadata", "defaults", "deployment", "logs", "logging")

IGNORED: tuple[tuple[str, str], ...] = (
    ("version", "a top-level version is Compose's, not the app's: services.version is"),
    ("services.*.log_path", "logs go to the log volume at /var/log/app"),
    ("nginx.log_path", "nginx logs to the container's output"),
    ("nginx.access_log", "nginx logs to the container's output"),
    ("services.*.port_on_host", "a service's port is never published: nginx.port is"),
    ("services.*.host_port", "a service's port is never published: nginx.port is"),
    ("services.*.container_name", "containers get names of ours, so that two copies of a project never collide"),
    ("nginx.container_name", "containers get names of ours, so that two copies of a project never collide"),
    ("opa.container_name", "containers get names of ours, so that two copies of a project never collide"),
    ("opa.port", "OPA has no port here: it listens on a socket that nothing else can reach"),
    ("opa.host_port", "OPA has no port here: it listens on a socket that nothing else can reach"),
    ("policy.host_port", "OPA has no port here: it listens on a socket that nothing else can reach"),
)

# Keys of a policy domain: old name, ours, and what the number is multiplied by.
LIMITS: tuple[tuple[str, str, str, Decimal], ...] = (
    ("infrastructure", "min_disk_gb", "min_disk_free_gb", Decimal(1)),
    ("infrastructure", "max_cpu_load_1m", "max_cpu_load", Decimal(1)),
    ("infrastructure", "max_mem_percent", "max_mem_used_percent", Decimal(1)),
    ("infrastructure", "max_mem_pct", "max_mem_used_percent", Decimal(1)),
    ("infrastructure", "max_mem_used_pct", "max_mem_used_percent", Decimal(1)),
    ("infrastructure", "max_memory_percent", "max_mem_used_percent", Decimal(1)),
    ("infrastructure", "max_memory_pct", "max_mem_used_percent", Decimal(1)),
    ("infrastructure", "max_memory_used_percent", "max_mem_used_percent", Decimal(1)),
    ("infrastructure", "max_memory_used_pct", "max_mem_used_percent", Decimal(1)),
    ("canary", "max_error_rate_percent", "max_error_rate", Decimal("0.01")),
    ("canary", "max_error_rate_pct", "max_error_rate", Decimal("0.01")),
    ("canary", "max_error_percent", "max_error_rate", Decimal("0.01")),
    ("canary", "max_error_pct", "max_error_rate", Decimal("0.01")),
    ("canary", "error_rate_percent", "max_error_rate", Decimal("0.01")),
    ("canary", "error_rate_pct", "max_error_rate", Decimal("0.01")),
    ("canary", "max_p99_latency_seconds", "max_p99_latency_ms", Decimal(1000)),
    ("canary", "p99_latency_seconds", "max_p99_latency_ms", Decimal(1000)),
    ("canary", "max_latency_seconds", "max_p99_latency_ms", Decimal(1000)),
    ("canary", "evaluation_window_seconds", "window_seconds", Decimal(1)),
    ("canary", "metrics_window_seconds", "window_seconds", Decimal(1)),
    ("canary", "min_samples", "min_requests", Decimal(1)),
    ("canary", "min_sample_requests", "min_requests", Decimal(1)),
    ("canary", "min_sample_count", "min_requests", Decimal(1)),
)
PREFIXES = {"infra_": "infrastructure", "infrastructure_": "infrastructure", "canary_": "canary"}
