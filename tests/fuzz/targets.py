"""Every parser that meets foreign bytes, as something that can be fed; docs/security.md says who may write them.

Each `run` also asserts what its parser promises of an answer, such as that nothing in it can steer a terminal.
"""

from __future__ import annotations

import functools
import hmac
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reconciler.adapters import docker_decode, http_client, state_dir
from reconciler.adapters.rollout_store import RolloutFiles
from reconciler.adapters.state_dir import LoadedJson
from reconciler.cli.history_view import record_line
from reconciler.cli.terminal import Paint
from reconciler.control import ControlError, _BadRequest, _parse_event, _parse_request
from reconciler.core.errors import EngineError, HistoryError, ManifestError, Refused, RenderError, StateError
from reconciler.formats import (
    audit,
    audit_report,
    compose_keys,
    daemon_config,
    env_file,
    exposition,
    history,
    history_checkpoint,
    ingress_log,
    manifest,
    policy,
    prometheus_answer,
    tester,
    webhook,
    write_back,
    yaml_strict,
)
from reconciler.formats.findings import Findings
from tests.fuzz import git_targets, seeds
from tests.fuzz.machine import Account, Target, fuzz
from tests.security import hardening

NAMES = exposition.Names()


def _yaml(data: bytes) -> str:
    root = yaml_strict.load(data, "m.yaml")
    json.dumps(root.plain(), allow_nan=False)
    return type(root.value).__name__


_digest = functools.lru_cache(10_000)(tester.digest)
"""It is slow on purpose, and nearly always asked for the same."""


def _manifest(data: bytes) -> str:
    real, tester.digest = tester.digest, _digest
    try:
        reading = manifest.read(
            data, env_files={"a.env": "A=1\nB='2'\n"}, processors=2, secrets=lambda _: tester.SecretFile("s" * 32)
        )
    finally:
        tester.digest = real
    told = (*reading.problems, *reading.warnings)
    assert (reading.desired is None) == bool(reading.problems), "a manifest without a problem has a meaning"
    assert all(problem.message.isprintable() for problem in told), "what is told could steer a terminal"
    assert all(len(problem.message) < 600 for problem in told), "what is told is too long to be read"
    if reading.desired is None:
        return "refused " + "|".join(sorted({_kind(problem.message) for problem in reading.problems})[:2])
    hardening.check(reading.desired)
    return "accepted " + ("with warnings" if reading.warnings else "")


def _kind(message: str) -> str:
    return " ".join(word for word in message.split() if word.isalpha())[:60]


def _config(data: bytes) -> str:
    reading = daemon_config.read(data)
    told = (*reading.problems, *reading.warnings)
    assert (reading.config is None) == bool(reading.problems), "a file without a problem has a meaning"
    assert all(problem.message.isprintable() and len(problem.message) < 600 for problem in told)
    if reading.config is None:
        return "refused " + "|".join(sorted({_kind(problem.message) for problem in reading.problems})[:2])
    if (git := reading.config.git) is not None:
        assert "::" not in git.url
        assert not git.url.startswith("-"), "git would take the address for an option"
        assert sum(name is not None for name in (git.branch, git.tag, git.commit)) <= 1
    return f"accepted {git is not None} {reading.config.webhook is not None}"


def _webhook(data: bytes) -> str:
    """Headers, an empty line, a body: as any kind of server's."""
    head, _, body = data.partition(b"\n\n")
    headers: dict[str, list[str]] = {}
    for line in head.decode("latin-1").split("\n"):
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), []).append(value.strip())
    outcomes = []
    for kind in webhook.HookKind:
        claim = webhook.claim(headers, kind)
        if claim is None:
            outcomes.append("-")
            continue
        holds = claim.holds(seeds.HOOK_SECRET, body)
        known = seeds.HOOK_SECRET, hmac.digest(seeds.HOOK_SECRET, body, "sha256").hex().encode()
        assert not holds or claim.token == known[0] or claim.digest == known[1], "believed without the secret"
        assert not claim.holds(b"", body)
        reply = webhook.heard(headers, body, claim.kind, seeds.FOLLOWED)
        assert reply.hint.isprintable(), "a log could be steered"
        assert reply.hint.isascii()
        assert len(reply.hint) < 400
        assert (reply.status, json.loads(reply.body())["status"]) == (202, "accepted")
        outcomes.append(f"{claim.kind} {holds} {bool(reply.hint)}")
    return " ".join(outcomes)


def _exposition(data: bytes) -> str:
    found = exposition.read(data, NAMES, frozenset({"/metrics"}))
    assert all(0 <= errors <= found.requests[path] for path, errors in found.errors.items())
    assert all(count >= 0 for _, count in found.buckets)
    assert all(path.isprintable() for path in found.requests)
    return f"{bool(found.buckets)} {found.mode} {found.chaos} {found.uptime_s is None}"


def _opa(data: bytes) -> str:
    verdict = policy.read_answer(200, data, "canary", seeds.REVISION, seeds.ASKED)
    refusal = policy.read_answer(500, data, "canary", seeds.REVISION, seeds.ASKED)
    assert not refusal.known, "an error is no answer"
    assert not refusal.allow
    texts = [verdict.reason, verdict.decision_id, *(v.message for v in verdict.violations), refusal.reason]
    assert all(text.isprintable() and len(text) < 1200 for text in texts), "a text could steer a terminal"
    if verdict.allow:
        said = json.loads(data)["result"]
        assert said["allow"] is True, "allowed without a word of it"
        assert (said["revision"], said["asked"]) == (seeds.REVISION, seeds.ASKED)
    return f"{verdict.known} {verdict.allow} {verdict.action} {_kind(verdict.reason)}"


def _engine(data: bytes) -> str:
    """An inspection, an image, a list: whatever it is, as any of them."""
    text = data.decode("utf-8", "replace")
    docker_decode.refused_port(text), docker_decode.name_holder(text)
    assert docker_decode.meaning(text)
    try:
        answer: Any = json.loads(data)
    except (ValueError, RecursionError):
        return "words"
    done = []
    for name, decode in _DECODERS.items():
        try:
            decode(answer)
        except EngineError:
            continue
        done.append(name)
    return " ".join(done)


def _row(answer: Any) -> Mapping[str, Any]:
    return docker_decode.table(answer)


_DECODERS: dict[str, Callable[[Any], object]] = {
    "container": lambda answer: docker_decode.container(
        _row(answer), project="shop", instance="i1", network="net", network_ids={"net": "n1"}
    ),
    "network": lambda answer: docker_decode.network(_row(answer), "shop"),
    "image": lambda answer: docker_decode.image(_row(answer), "a:1", "a:1"),
    "ports": lambda answer: docker_decode.bound_ports(_row(answer)),
    "listed": lambda answer: [
        (docker_decode.listed_ports(row), docker_decode.listed_name(row)) for row in docker_decode.rows(answer)
    ],
    "volumes": lambda answer: docker_decode.mounted_volumes(_row(answer)),
    "addresses": lambda answer: docker_decode.addresses_in(_row(answer)),
    "subnets": lambda answer: docker_decode.subnets(_row(answer)),
    "pull": lambda answer: docker_decode.pull_failure(_row(answer)),
    "id": docker_decode.identifier,
}


def _history(data: bytes) -> str:
    """Lines of a log, as all who read one read them."""
    lines = data.splitlines(keepends=True)
    report = history.verify(lines, history.ORIGIN, full=True)
    tail = history.recover_tail(data)
    assert tail.good + len(tail.torn) == len(data), "bytes got lost"
    records = [history.parse(line) for line in lines[:50]]
    for record in records:
        assert record_line(record, Paint(False), 200).isprintable(), "a record could steer a terminal"
    found = audit.audit(lines)
    page = "".join(audit_report.markdown(found))
    assert page.replace("\n", "").isprintable(), "a report could steer a terminal"
    json.dumps(audit_report.as_json(found), allow_nan=False)
    for line in page.splitlines():
        assert not line.startswith("|") or line.count("|") in (5, 8), "a cell was left"
        assert "<" not in line, "a tag was written"
    reason = report.first_break.reason if report.first_break else ""
    told = " ".join(sorted({_kind(entry.what) for entry in (*found.timeline, *found.violations)})[:3])
    return f"{report.is_whole} {_kind(reason)} {told} {' '.join(why for _, why in found.odd_lines[:2])}"


def _sealed(data: bytes) -> str:
    """The records of a log whose hashes all hold: what somebody who can write the file could do."""
    link, lines = history.ORIGIN, []
    for line in data.splitlines()[:20]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            sealed, link = history.seal({k: v for k, v in record.items() if k not in history.RESERVED}, link)
            lines.append(sealed)
    assert history.verify(lines, history.ORIGIN, full=True).is_whole, "what we seal must hold"
    return _history(b"".join(lines))


def _control(data: bytes) -> str:
    request = _parse_request(data, "ann")
    assert request.verb.isascii()
    assert request.actor == "ann", "who asks is what the kernel says"
    return f"{request.verb} {sorted(map(type_name, request.args.values()))[:3]}"


def type_name(value: object) -> str:
    return type(value).__name__


def _events(data: bytes) -> str:
    event = _parse_event(data + b"\n", Path("/run/control.sock"))
    return str(event["event"])[:20]


class Wire:
    """A connection whose other end has said all it will say."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def recv(self, size: int) -> bytes:
        first, self._data = self._data[: min(size, 4096)], self._data[min(size, 4096) :]
        return first

    def settimeout(self, _seconds: float) -> None: ...

    def sendall(self, _content: bytes) -> None: ...

    def close(self) -> None: ...


def _http(data: bytes) -> str:
    real = http_client._open
    http_client._open = lambda _server, _timeout: Wire(data)  # type: ignore[assignment, return-value]
    try:
        answer = http_client.fetch(http_client.Tcp("10.0.0.1", 80), http_client.Request("/"), 60.0)
    finally:
        http_client._open = real
    assert len(answer.body) <= http_client.BODY_MAX_BYTES
    assert 100 <= answer.status <= 599
    return f"{answer.status // 100} {bool(answer.body)} {len(answer.headers) > 3}"


class _Saved:
    """A state directory in which every file holds the same value."""

    path = Path("nowhere")

    def __init__(self, value: Any) -> None:
        self._value = value

    def load_json(self, _name: str) -> LoadedJson:
        return LoadedJson(self._value)

    def names(self, _folder: str) -> tuple[str, ...]:
        return ("x.json",)


def _stores(data: bytes) -> str:
    """What is in a state file whose checksum holds, as each of the files that there are."""
    content, reason = state_dir._opened(seeds.envelope(data), Path("rollout.json"))
    if content is None:
        return f"set aside {_kind(reason or '')}"
    files = RolloutFiles(_Saved(content))  # type: ignore[arg-type]
    found = {
        "rollout": files.load().services,
        "evidence": files.evidence(),
        "kept": files.kept(),
        "desired": files.last_good(),
        "commit": files.commit_of(files.last_good()),
    }
    return " ".join(name for name, value in found.items() if value)


def _envelope(data: bytes) -> str:
    value, reason = state_dir._opened(data, Path("rollout.json"))
    assert (value is None) == (reason is not None)
    return reason or "whole"


def _env_file(data: bytes) -> str:
    findings = Findings("a.env")
    values = env_file.parse(data.decode("utf-8", "replace"), findings)
    assert all("\0" not in value and "=" not in name for name, value in values.items())
    assert all(problem.message.isprintable() for problem in findings.problems)
    return f"{len(values) > 0} {len(findings.problems) > 0} {any(chr(10) in value for value in values.values())}"


def _write_back(data: bytes) -> str:
    changed = write_back.set_mode(data, "app", "canary")
    again = manifest.read(changed, env_files=lambda _: "", allow=write_back.EVERYTHING)
    assert again.desired is not None
    assert [str(service.mode) for service in again.desired.services if service.name == "app"] == ["canary"]
    return "same" if changed == data else "changed"


def _tester(data: bytes) -> str:
    """A secret's file, and a configuration that may include some."""
    text = data.decode("utf-8", "replace")
    tester.included(text)
    secret = tester.secret_of(text)
    complaint = tester.complaint(secret)
    assert secret == "" or secret not in complaint or len(secret) < 8, "a complaint shows the secret"
    if not complaint:
        assert tester.map_text(secret).count('"') == 2
    return complaint


def _compose_keys(data: bytes) -> str:
    root = yaml_strict.load(data, "m.yaml")
    findings = Findings("m.yaml")
    for service in (root, *root.mapping.values()):
        compose_keys.check(service, findings)
    compose_keys.check_volumes(root, findings)
    return f"{len(findings.problems)} {len(findings.warnings)}"


def _rego(data: bytes) -> str:
    name, _, text = data.decode("utf-8", "replace").partition("\n")
    policy._refuse_unfit(name, text)
    return "taken"


def _ingress(data: bytes) -> str:
    found = ingress_log.tally(data)
    assert 0 <= found.damaged <= found.lines
    assert all(0 <= each.errors <= each.requests for each in found.by_address.values())
    return f"{len(found.by_address)} {found.damaged > 0}"


def _prometheus(data: bytes) -> str:
    said = prometheus_answer.complaint(data)
    assert said.isprintable()
    assert len(said) < 200
    return f"{len(prometheus_answer.series_of(data, NAMES)) > 1}"


def _keys(data: bytes) -> str:
    """A signature's file, and a file of keys that are trusted."""
    text = data.decode("utf-8", "replace")
    try:
        return f"signed {len(history_checkpoint.key_of(history_checkpoint.unarmoured(text)))}"
    except ValueError:
        return f"keys {len(history_checkpoint.public_keys(text))}"


def _lock(data: bytes) -> str:
    return str(state_dir._held_by_another(Path("run/lock"), data).pid is None)


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("yaml", "the strict YAML reader", _yaml, seeds.manifests, (ManifestError,), seeds.YAML_WORDS),
        Target("manifest", "the whole manifest", _manifest, seeds.manifests, (), seeds.MANIFEST_WORDS),
        Target("config", "the daemon's own file", _config, seeds.configs, (), (*seeds.CONFIG_WORDS, *seeds.YAML_WORDS)),
        Target("webhook", "webhooks of git servers", _webhook, seeds.hooks, (), seeds.HOOK_WORDS),
        Target(
            "compose_keys",
            "Compose's own keys",
            _compose_keys,
            seeds.manifests,
            (ManifestError,),
            seeds.MANIFEST_WORDS,
        ),
        Target(
            "write_back",
            "changing the mode",
            _write_back,
            seeds.manifests,
            (ManifestError, Refused),
            seeds.MANIFEST_WORDS,
        ),
        Target("env_file", "environment files", _env_file, seeds.env_files, (), seeds.ENV_WORDS),
        Target("tester", "testers' secrets", _tester, seeds.testers),
        Target("rego", "operators' policies", _rego, seeds.policies, (RenderError,), seeds.REGO_WORDS),
        Target(
            "exposition",
            "metrics pages",
            _exposition,
            seeds.pages,
            (exposition.ExpositionError,),
            seeds.PAGE_WORDS,
        ),
        Target("ingress_log", "nginx's private log", _ingress, seeds.logs, (), seeds.LOG_WORDS),
        Target("http", "answers of servers", _http, seeds.answers, (http_client.HttpError,), seeds.HTTP_WORDS),
        Target("opa", "OPA's answers", _opa, seeds.verdicts, (), seeds.OPA_WORDS),
        Target(
            "prometheus",
            "a Prometheus server's answers",
            _prometheus,
            seeds.series,
            (prometheus_answer.AnswerError,),
            seeds.PROMETHEUS_WORDS,
        ),
        Target("keys", "signatures and trusted keys", _keys, seeds.keys, (ValueError,)),
        Target("engine", "the engine's answers", _engine, seeds.engine, (), seeds.ENGINE_WORDS),
        Target("control", "requests to the daemon", _control, seeds.requests, (_BadRequest,), seeds.CONTROL_WORDS),
        Target("events", "the daemon's answers", _events, seeds.events, (ControlError,), seeds.CONTROL_WORDS),
        Target("history", "a log of any bytes", _history, seeds.histories, (HistoryError,), seeds.HISTORY_WORDS),
        Target("sealed", "a log that is well chained", _sealed, seeds.histories, (), seeds.HISTORY_WORDS),
        Target("stores", "state files' values", _stores, seeds.states, (StateError,), seeds.STATE_WORDS),
        Target("envelope", "state files' bytes", _envelope, seeds.envelopes, (StateError,), seeds.STATE_WORDS),
        Target("lock", "the lock file", _lock, seeds.locks),
        *git_targets.TARGETS,
    )
}


def fuzzed(name: str, runs: int, seed: int) -> Account:
    """`fuzz` by the target's name, for another process."""
    return fuzz(TARGETS[name], runs, seed)
