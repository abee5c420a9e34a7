"""The JSON Schema: useful in an editor, and never of another opinion than the reader."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core.desired import HealthCheck, Metrics, Nginx, Opa, Resources, RolloutSpec, Route, Service
from reconciler.formats import manifest, schema

ROOT = Path(__file__).resolve().parents[2]
SCHEMA: dict[str, Any] = json.loads((ROOT / "schema" / "manifest.schema.json").read_text(encoding="utf-8"))
INDEPENDENT = jsonschema.Draft202012Validator(SCHEMA)
SIX: dict[str, Any] = {
    "services": {"image": "swift-deploy-1-node:latest", "port": 3000},
    "nginx": {"image": "nginx:latest", "port": 8080},
    "network": {"name": "swiftdeploy-net", "driver_type": "bridge"},
}


def test_it_is_a_valid_schema_of_2020_12() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_it_is_the_readers_own() -> None:
    assert manifest.schema() == SCHEMA
    manifest.schema().clear()
    assert manifest.schema() == SCHEMA


def keys(mapping: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key with its path; what it refers to is walked where it is defined."""
    for name, below in mapping.get("properties", {}).items():
        yield f"{path}.{name}", below
        yield from keys(below, f"{path}.{name}")
    for branch in mapping.get("anyOf", []):
        yield from keys(branch, path)


ALL_KEYS = [*keys(SCHEMA), *(found for name, each in SCHEMA["$defs"].items() for found in keys(each, f"${name}"))]


@pytest.mark.parametrize(("path", "key"), ALL_KEYS, ids=[path for path, _ in ALL_KEYS])
def test_every_key_helps_in_an_editor(path: str, key: dict[str, Any]) -> None:
    assert key["title"]
    assert key["description"].endswith(".")
    assert key["examples"]
    for example in [*key["examples"], *([key["default"]] if "default" in key else [])]:
        errors = list(INDEPENDENT.evolve(schema=key | {"$defs": SCHEMA["$defs"]}).iter_errors(example))
        assert not errors, (path, example)


def test_every_wrong_value_can_be_told_what_to_use_instead() -> None:
    for path, key in ALL_KEYS:
        assert "x-use" in schema.resolved(key) or schema.resolved(key).get("type") == "object", path


def patterns(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("pattern"), str):
            yield value["pattern"]
        for below in value.values():
            yield from patterns(below)
    if isinstance(value, list):
        for below in value:
            yield from patterns(below)


def test_every_pattern_is_anchored_at_both_ends() -> None:
    found = list(patterns(SCHEMA))
    assert len(found) > 20
    assert all(pattern.startswith("^") and pattern.endswith("$") and not pattern.endswith("\\$") for pattern in found)


def test_the_defaults_are_those_of_the_values() -> None:
    """The core's dataclasses hold the defaults; the schema tells them."""

    def of(definition: str, key: str) -> Any:
        return SCHEMA["$defs"][definition]["properties"][key]["default"]

    def value(kind: Any, field: str) -> Any:
        found = next(each for each in dataclasses.fields(kind) if each.name == field)
        return found.default if found.default is not dataclasses.MISSING else found.default_factory()  # type: ignore[misc]

    for key in ("mode", "version", "restart_policy", "replicas", "read_only", "init", "chaos"):
        assert of("service", key) == value(Service, key)
    assert of("service", "stop_grace_period") == value(Service, "stop_grace_period_s")
    assert tuple(of("service", "tmpfs")) == value(Service, "tmpfs")
    for key in ("path", "retries"):
        assert of("healthcheck", key) == value(HealthCheck, key)
    for key in ("interval", "timeout", "start_period"):
        assert of("healthcheck", key) == value(HealthCheck, f"{key}_s")
    for key in ("strategy", "min_requests", "on_timeout", "promotion"):
        assert of("rollout", key) == value(RolloutSpec, key)
    for key in ("max_wait", "drain", "watch", "health_deadline", "unknown_budget"):
        assert of("rollout", key) == value(RolloutSpec, f"{key}_s")
    assert [(step["weight"], step["duration"]) for step in of("rollout", "steps")] == [
        (step.weight_pct, step.duration_s) for step in value(RolloutSpec, "steps")
    ]
    assert of("route", "path") == value(Route, "path")
    assert of("route", "sticky") == value(Route, "sticky")
    assert of("metrics", "provider") == value(Metrics, "provider")
    assert of("metrics", "path") == value(Metrics, "path")
    nginx, opa = SCHEMA["properties"]["nginx"]["properties"], SCHEMA["properties"]["opa"]["properties"]
    assert nginx["proxy_timeout"]["default"] == value(Nginx, "proxy_timeout_s")
    assert nginx["contact"]["default"] == value(Nginx, "contact")
    assert opa["image"]["default"] == value(Opa, "image")
    assert opa["policies_dir"]["default"] == value(Opa, "policies_dir")
    assert opa["decision_timeout_seconds"]["default"] == value(Opa, "decision_timeout_s")
    pids = SCHEMA["$defs"]["service"]["properties"]["deploy"]["properties"]["resources"]["properties"]["limits"][
        "properties"
    ]["pids"]
    assert pids["default"] == value(Resources, "pids")


# --- one opinion


def agrees(tree: dict[str, Any]) -> None:
    """What the reader takes without a word is valid; what is invalid the reader refuses or warns about."""
    reading = manifest.read(json.dumps(tree).encode(), env_files=lambda name: "A=1")
    errors = [error.message for error in INDEPENDENT.iter_errors(tree)]
    if reading.desired is not None and not reading.warnings:
        assert not errors, errors
    if errors:
        assert reading.problems or reading.warnings, errors


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "image": st.sampled_from(["shop/web:1", "a", "A", "", 5, "scratch", "a\n", "a" * 64, None]),
    "port": st.sampled_from([1, 65535, 3000, 0, 65536, "3000", 3000.0, True, None, []]),
    "name": st.sampled_from(["web", "opa", "Web", "", 5]),
    "mode": st.sampled_from(["stable", "canary", "x", 1]),
    "version": st.sampled_from(["1.0.0", "1.10", 1.1, "", "a b", "1\n"]),
    "restart_policy": st.sampled_from(["no", "always", "on-failure:3", "on-failure:0", "x", False]),
    "command": st.sampled_from(["a b", ["a", 5], [], "", [None], {}, ["$HOME"]]),
    "entrypoint": st.sampled_from(["a b", ["a"], [], 5]),
    "environment": st.sampled_from(
        [{}, {"A": 1}, {"A": None}, ["A=1"], ["A"], {"1": "x"}, {"A": [1]}, {"A": "x\ny"}, []]
    ),
    "env_file": st.sampled_from(["a.env", ["a.env", "./b/c"], "../x", "/x", [], [5], ".git/x"]),
    "volumes": st.sampled_from(
        [[], ["a:/b"], ["./a:/b:ro"], ["/a:/b"], [{"type": "tmpfs", "target": "/x"}], [{}], "a:/b"]
    ),
    "log_volume": st.sampled_from(["logs", "a/b", "", "-x", 5]),
    "healthcheck": st.sampled_from(
        [
            {},
            {"path": "/"},
            {"path": "//x"},
            {"test": "x"},
            {"test": []},
            {"interval": "5s"},
            {"interval": 0},
            {"disable": 1},
        ]
    ),
    "replicas": st.sampled_from([1, 64, 65, 0, "1", 1.0]),
    "deploy": st.sampled_from(
        [
            {},
            {"replicas": 2},
            {"resources": {}},
            {"resources": {"limits": {"cpus": "0.5", "memory": "1g"}}},
            {"x": 1},
            [],
        ]
    ),
    "user": st.sampled_from([1000, "node", "1000:1000", -1, "a b", True, 1.5]),
    "read_only": st.sampled_from([True, False, "yes"]),
    "cap_drop": st.sampled_from([["ALL"], [], ["all"], "ALL"]),
    "cap_add": st.sampled_from([["CHOWN"], [], ["ALL"], "CHOWN"]),
    "tmpfs": st.sampled_from(["/run", ["/run:size=64m"], [], "", 5, [5]]),
    "stop_grace_period": st.sampled_from([0, 10, "1m", "x", -1, "9999h", True]),
    "stop_signal": st.sampled_from(["SIGTERM", "SIGRTMIN+3", "TERM", 9]),
    "labels": st.sampled_from([{}, {"a": "b"}, ["a=b"], ["a"], {"a b": "c"}, {"a": None}, {"io.swiftdeploy.x": "y"}]),
    "working_dir": st.sampled_from(["/", "/srv", "srv", "/a/../b", "/a/"]),
    "hostname": st.sampled_from(["web", "a.b", "A", "a_b", "-a"]),
    "init": st.sampled_from([True, 1]),
    "route": st.sampled_from(
        [False, True, {}, {"path": "/x/"}, {"path": "x"}, {"host": "a.b", "sticky": True}, None, {"host": ""}]
    ),
    "rollout": st.sampled_from(
        [
            *(
                {},
                {"strategy": "rolling"},
                {"strategy": "blue_green"},
                {"steps": [{"weight": 5}]},
                {"steps": []},
                {"x": 1},
            ),
            *({"probe": {"path": "/"}}, {"probe": {}}, {"drain": 0}, {"max_wait": 0}, {"steps": [{"weight": 140}]}, 5),
        ]
    ),
    "chaos": st.sampled_from([True, False, "true"]),
    "tester_secret": st.sampled_from(["file:x", "x", "file:", 5]),
    "metrics": st.sampled_from(
        [
            *({}, {"provider": "auto"}, {"path": "/m"}, {"names": {"requests": "a"}}, {"names": {"x": "a"}}),
            *(
                {"provider": "prometheus"},
                {"provider": "prometheus", "server": "http://p:9090"},
                {"server": "http://p"},
            ),
            *(
                {"provider": "prometheus", "server": "http://p", "match": m}
                for m in ({}, {"a": "{name}"}, {"a": "{x}"})
            ),
        ]
    ),
    "depends_on": st.sampled_from([[], ["db"], {"db": {}}]),
    "secrets": st.sampled_from([[], ["a"]]),
    "x-note": st.sampled_from([1, "x", {"a": []}]),
    "unknown_thing": st.just(1),
}
TOP: dict[str, st.SearchStrategy[Any]] = {
    "project": st.sampled_from([{}, {"name": "a"}, {"name": "A"}, {"x-a": 1}, "a"]),
    "opa": st.sampled_from([{}, {"policies_dir": "./p/"}, {"policies_dir": ".."}, {"decision_timeout_seconds": 0}]),
    "policy": st.sampled_from(
        [
            *(
                {},
                {"canary": {}},
                {"canary": {"max_error_rate": 1}},
                {"mine": {"a": None}},
                {"mine": 5},
                {"x-a": 5},
                None,
            ),
            *({"infrastructure": {"max_cpu_load": 50}}, {"infrastructure": {"disk_path": "/"}}, {"canary": {"x": 1}}),
        ]
    ),
    "deploy": st.sampled_from([{}, {"health_timeout_seconds": 60}, {"health_timeout_seconds": "60"}, {"x": 1}]),
    "volumes": st.sampled_from(
        [{}, {"a": None}, {"a": {"name": "b"}}, {"a": 5}, {"a b": None}, {"a": {"driver": "nfs"}}]
    ),
    "x-note": st.just([1]),
}
NGINX: dict[str, st.SearchStrategy[Any]] = {
    "proxy_timeout": st.sampled_from([30, "30s", 0, "x", "0s", "999999h"]),
    "contact": st.sampled_from(["a@b.c", "", 'a"b', "a b", "a ", "a\n"]),
    "service_name": st.sampled_from(["Shop", "", "a;b", "a b"]),
}


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries({}, optional=VALUES),
    st.fixed_dictionaries({}, optional=TOP),
    st.fixed_dictionaries({}, optional=NGINX),
    st.booleans(),
)
def test_reader_and_schema_agree(
    service: dict[str, Any], top: dict[str, Any], nginx: dict[str, Any], by_name: bool
) -> None:
    tree = copy.deepcopy(SIX) | top
    tree["nginx"] |= nginx
    whole = tree["services"] | service
    tree["services"] = {"web": whole} if by_name else whole
    agrees(tree)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_reader_and_schema_agree_about_each_key_alone(data: st.DataObject) -> None:
    tree = copy.deepcopy(SIX)
    key = data.draw(st.sampled_from(sorted(VALUES)))
    tree["services"][key] = data.draw(VALUES[key])
    agrees(tree)


@pytest.mark.parametrize("key", sorted(VALUES))
def test_some_value_of_every_key_is_taken_by_both(key: str) -> None:
    """The pools above are no empty promise."""
    good = 0
    for value in VALUES[key].elements if hasattr(VALUES[key], "elements") else []:  # type: ignore[attr-defined]
        tree = copy.deepcopy(SIX)
        tree["services"][key] = value
        agrees(tree)
        good += manifest.read(json.dumps(tree).encode(), env_files=lambda name: "").desired is not None
    assert good or key in ("unknown_thing", "x-note") or not hasattr(VALUES[key], "elements")


def test_the_repositorys_own_manifest_is_valid() -> None:
    INDEPENDENT.validate(yaml.safe_load((ROOT / "manifest.yaml").read_text(encoding="utf-8")))


def test_leaving_out_any_of_the_six_is_invalid_for_both() -> None:
    for block, inner in SIX.items():
        for key in inner:
            tree = copy.deepcopy(SIX)
            del tree[block][key]
            assert not INDEPENDENT.is_valid(tree)
            assert manifest.read(json.dumps(tree).encode()).problems
