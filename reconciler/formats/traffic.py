"""How a service is reached, proven healthy, rolled out and measured: its route, health check, rollout, metrics."""

from __future__ import annotations

import dataclasses
from typing import Any

from reconciler.core.desired import HealthCheck, Metrics, RolloutSpec, Route, Step, Strategy
from reconciler.formats import prometheus_answer
from reconciler.formats.findings import Findings
from reconciler.formats.quantities import SHORTEST_S, duration
from reconciler.formats.yaml_strict import Node


def read_route(node: Node) -> Route | None:
    route = node.at("route")
    if route is None:
        return Route()
    if route.value is False:
        return None
    return Route(**{key: value.value for key, value in route.mapping.items()})  # type: ignore[arg-type]


def read_healthcheck(node: Node, port: int | None, findings: Findings) -> HealthCheck | None:
    check = node.at("healthcheck")
    if check is None:
        return HealthCheck() if port is not None else None
    given: dict[str, Any] = {}
    path, test, disable = check.at("path"), check.at("test"), check.at("disable")
    words = _test(test, findings) if test is not None else None
    if (disable is not None and disable.value is True) or (words is not None and words[0] == "NONE"):
        return None
    if words is not None:
        given |= {"test": words, "path": None}
    if path is not None:
        given["path"] = path.value
    elif port is None:
        given["path"] = None
    if port is None and path is not None:
        findings.problem(path, f"{path.path} needs a port to be asked on. Add port, or use test.")
    if (retries := check.at("retries")) is not None:
        given["retries"] = retries.value
    for key, least in (("interval", SHORTEST_S), ("timeout", SHORTEST_S), ("start_period", 0.0)):
        if (value := check.at(key)) is not None:
            given[f"{key}_s"] = duration(value, findings, least=least)
    return HealthCheck(**given)


def _test(node: Node, findings: Findings) -> tuple[str, ...]:
    if not node.items:
        return ("CMD-SHELL", str(node.value))
    words = tuple(item.text for item in node.items)
    if words[0] not in ("CMD", "CMD-SHELL", "NONE") or (len(words) == 1) != (words[0] == "NONE"):
        findings.problem(node, f"{node.path} cannot be run. Use [CMD, program, …], [CMD-SHELL, line] or [NONE].")
    return words


_ROLLOUT_TIMES = {
    "max_wait": SHORTEST_S,
    "drain": 0.0,
    "watch": 0.0,
    "health_deadline": SHORTEST_S,
    "unknown_budget": 0.0,
}


def read_rollout(node: Node, route: Route | None, findings: Findings) -> RolloutSpec:
    rollout = node.at("rollout") or Node({}, node.line, node.column, path=f"{node.path}.rollout")
    given: dict[str, Any] = {}
    for key in ("min_requests", "on_timeout", "promotion"):
        if (value := rollout.at(key)) is not None:
            given[key] = value.value
    for key, least in _ROLLOUT_TIMES.items():
        if (value := rollout.at(key)) is not None:
            given[f"{key}_s"] = duration(value, findings, least=least)
    if (probe := rollout.at("probe", "path")) is not None:
        given["probe_path"] = probe.value
    if (rate := rollout.at("probe", "rate")) is not None:
        given["probe_rate_per_s"] = float(str(rate.value))
    if (steps := rollout.at("steps")) is not None:
        given["steps"] = _steps(steps, findings)
    given["strategy"] = _strategy(rollout, route, findings)
    return RolloutSpec(**given)


def _steps(node: Node, findings: Findings) -> tuple[Step, ...]:
    steps: list[Step] = []
    for item in node.items:
        weight, time = item.at("weight"), item.at("duration")
        if weight is None or not isinstance(weight.value, int):
            continue
        if steps and weight.value <= steps[-1].weight_pct:
            findings.problem(
                weight,
                f"{weight.path} is {weight.value}, not above the step before it ({steps[-1].weight_pct}). "
                "Let the weights rise.",
            )
        steps.append(Step(weight.value, duration(time, findings, least=0.0) if time else 60.0))
    return tuple(steps)


def _strategy(rollout: Node, route: Route | None, findings: Findings) -> Strategy:
    node = rollout.at("strategy")
    if node is None:
        return Strategy.CANARY if route is not None else Strategy.ROLLING
    strategy = Strategy(str(node.value))
    if route is None and strategy in (Strategy.CANARY, Strategy.BLUE_GREEN):
        findings.problem(node, f"{node.path} is {strategy}, which needs a route. Add one, or use rolling or recreate.")
    if strategy is Strategy.BLUE_GREEN and rollout.at("probe") is None:
        findings.problem(node, f"{node.path} is blue_green, which needs requests of ours. Add probe: {{path: /}}.")
    return strategy


def read_metrics(node: Node, findings: Findings) -> Metrics:
    """What the service says; with a tester's header `auto` means `ingress`.

    A tester's requests are no evidence, and only nginx can tell them from others: the service counts them all alike.
    """
    read = _metrics(node.at("metrics"), findings)
    if node.at("tester_secret") is None:
        return read
    if read.provider in ("app", "prometheus"):
        findings.problem(
            node.at("metrics", "provider"),
            f"{node.path}.metrics.provider is {read.provider}, which counts testers too. "
            "Use ingress, or no tester_secret.",
        )
    return dataclasses.replace(read, provider="ingress") if read.provider == "auto" else read


def _metrics(metrics: Node | None, findings: Findings) -> Metrics:
    if metrics is None:
        return Metrics()
    given: dict[str, Any] = {
        key: value.value for key in ("provider", "path", "server") if (value := metrics.at(key)) is not None
    }
    names = metrics.at("names")
    pairs = sorted((key, str(value.value)) for key, value in names.mapping.items()) if names else []
    if (match := metrics.at("match")) is not None:
        given["match"] = _match(match, findings)
    read = Metrics(**given, names=tuple(pairs))
    for key in ("server", "match") if read.provider != "prometheus" else ():
        if metrics.at(key) is not None:
            findings.problem(
                metrics.keys.get(key, metrics),
                f"{metrics.path}.{key} is for provider: prometheus, and the provider is {read.provider}. "
                "Write provider: prometheus, or remove the line.",
            )
    return read


def _match(match: Node, findings: Findings) -> tuple[tuple[str, str], ...]:
    """The labels; where none of them tells containers from each other, the address that was scraped does."""
    labels = {label: value.text for label, value in match.mapping.items()}
    telling = False
    for label, text in labels.items():
        value = match.mapping[label]
        for place in prometheus_answer.places(text):
            telling |= place in prometheus_answer.TELLING
            if place not in prometheus_answer.PLACES:
                places = ", ".join(f"{{{each}}}" for each in prometheus_answer.PLACES)
                findings.problem(value, f"{value.path} has {{{place}}}, which stands for nothing. Use {places}.")
    if not telling and "instance" in labels:
        findings.problem(
            match.mapping["instance"],
            f"{match.path} is the same for every container. Use {{address}}, {{name}} or {{id}} in one value.",
        )
    return tuple(sorted(((dict(Metrics().match) if not telling else {}) | labels).items()))
