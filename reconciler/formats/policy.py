"""What OPA is given, what it is asked, and what its answers mean.

A policy revision is one digest over every file OPA loads, limits included. It is part of the data, every
decision carries it back, and an answer of another revision is no answer: so nobody else's policy, and no
older one, can decide.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from reconciler import assets
from reconciler.core.containers import Layout
from reconciler.core.containers_policy import policy_container
from reconciler.core.desired import DesiredState, Json, RolloutSpec, Service, digest
from reconciler.core.errors import RenderError
from reconciler.core.observed import ObservedImage
from reconciler.core.record import HostFacts, Verdict, Violation
from reconciler.core.targets import PolicyTarget

DATA = "data.json"
ANSWER_MAX_BYTES = 1024 * 1024
REASON_MAX = 500
VIOLATIONS_MAX = 50
E_MAX = 1e12

_NO_DOMAIN = frozenset({"authz", "evidence", "run", "wording"})
_POLICY_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.rego")
_PACKAGE = re.compile(r"(?:\s|#[^\n]*\n)*package\s+(\w+(?:\.\w+)*)[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z)", re.ASCII)
_OURS = frozenset({"swiftdeploy_auth", "limits", "limits_text", "domains", "revision", "units"})
# What is no limit, but by definition: a whole has 100 hundredths, and P99 leaves out one of them.
_UNITS = {"percent": 100, "p99_tail": 0.01}
_UNREAD = frozenset({"missing_input", "missing_limit"})
_E_VALUE = re.compile(r"(?:^|_)e_")
_ACTIONS = {True: ("promote",), False: ("hold", "rollback")}


@functools.cache
def domains() -> tuple[str, ...]:
    """The questions there are: one for each of our Rego files that asks one, sorted."""
    stems = (name.removesuffix(".rego") for name in assets.names("opa", ".rego"))
    return tuple(stem for stem in stems if stem not in _NO_DOMAIN)


# --- what OPA is given -------------------------------------------------------------------------------------


def bundle(desired: DesiredState) -> Mapping[str, str]:
    """Every file OPA loads, by its path below `rendered/opa/<revision[:12]>/`; the same for the same manifest.

    Ours, the operator's under `user/` (their `*_test.rego` excepted), and `data.json` with the limits.
    Raises RenderError for a policy file that must not be loaded beside ours.
    """
    return _bundle(desired.limits, desired.user_policies)


def _bundle(limits: Mapping[str, Mapping[str, Json]], user_policies: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    files = dict(_shipped())
    for name, text in user_policies:
        if not name.endswith("_test.rego"):
            _refuse_unfit(name, text)
            files[f"user/{name}"] = text
    files[DATA] = _data(limits, "")
    files[DATA] = _data(limits, revision(files))
    return files


def revision(files: Mapping[str, str]) -> str:
    """SHA-256 (hex) over names and contents; the revision that `data.json` itself states counts as blank."""
    data = json.loads(files[DATA])
    return digest({**files, DATA: _text({**data, "revision": ""})})


def target(desired: DesiredState, image: ObservedImage, layout: Layout) -> PolicyTarget:
    """The OPA that `desired` wants: its files where they go under `rendered/`, and its container.

    Raises RenderError, see `bundle`.
    """
    files, wanted = _made(json.dumps(desired.limits), desired.user_policies)
    spec = policy_container(desired, image, wanted, rendered_dir=layout.rendered, run_dir=layout.run, uid=layout.user)
    return PolicyTarget(wanted, spec, {f"opa/{wanted[:12]}/{name}": text for name, text in files.items()})


def revision_of(desired: DesiredState) -> str:
    """The revision of the policies that `desired` is judged by while it is in force; "" where they cannot be loaded."""
    try:
        return _made(json.dumps(desired.limits), desired.user_policies)[1]
    except RenderError:
        return ""


@functools.lru_cache(maxsize=8)
def _made(limits: str, user_policies: tuple[tuple[str, str], ...]) -> tuple[Mapping[str, str], str]:
    """The bundle and its revision; a manifest is asked for in every cycle, and seldom another one."""
    files = _bundle(json.loads(limits), user_policies)
    return files, revision(files)


@functools.cache
def _shipped() -> Mapping[str, str]:
    return {name: assets.read("opa", name) for name in assets.names("opa", ".rego")}


def _refuse_unfit(name: str, text: str) -> None:
    """A policy of the operator's own can forbid; it cannot allow, change our words, or say who may ask OPA."""
    if not _POLICY_FILE.fullmatch(name):
        raise RenderError(f"policy file {printable(name, 100)}: use letters, digits, '.', '-' and '_' in its name")
    package = _PACKAGE.match(text)
    if package is None:
        raise RenderError(f"{name}: begin it with a line like 'package swiftdeploy.canary.user'")
    first, *rest = package[1].split(".")
    if first == "system" or first in _OURS:
        raise RenderError(f"{name}: package {first} is not open to policies; use 'package swiftdeploy.canary.user'")
    if first == "swiftdeploy" and (len(rest) < 2 or rest[0] not in domains() or rest[1] != "user"):
        places = ", ".join(f"swiftdeploy.{domain}.user" for domain in domains())
        raise RenderError(f"{name}: package {package[1]} is asked nothing; use one of {places}")


def _data(limits: Mapping[str, Mapping[str, Json]], of_revision: str) -> str:
    """`data.json`. A limit that is None is one that is not set."""
    kept = {
        domain: {name: value for name, value in limits.get(domain, {}).items() if value is not None}
        for domain in sorted({*domains(), *limits})
    }
    texts = {
        domain: {name: _limit_text(name, value) for name, value in values.items() if _is_number(value)}
        for domain, values in kept.items()
    }
    about = {"revision": of_revision, "domains": list(domains()), "units": _UNITS}
    return _text({**about, "limits": kept, "limits_text": texts})


def _text(data: object) -> str:
    try:
        return json.dumps(data, sort_keys=True, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
    except ValueError as error:
        raise RenderError("a limit in the manifest's policy block is not a finite number") from error


def _limit_text(name: str, value: Json) -> str:
    """The limit as it is read out: `10`, `2.0`, and for a rate a percentage (0.01 is `1%`)."""
    if not name.endswith("_rate"):
        return json.dumps(value)
    percent = format(Decimal(json.dumps(value)) * 100, "f")
    return (percent.rstrip("0").rstrip(".") if "." in percent else percent) + "%"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- what it is asked --------------------------------------------------------------------------------------


def question_infrastructure(facts: HostFacts) -> Mapping[str, Json]:
    """The host as the infrastructure gate wants it; what could not be read says so and is never null."""
    return {
        "disk_free_gb": _measured(facts.disk_free_gb, f"free disk space of {facts.disk_path} could not be read"),
        "cpu_load": _measured(facts.cpu_load, "the load average could not be read"),
        "mem_used_percent": _measured(facts.mem_used_percent, "memory use could not be read"),
        "cpus": facts.cpus,
        "disk_path": facts.disk_path,
    }


def question_admission(desired: DesiredState, previous: DesiredState | None) -> Mapping[str, Json]:
    """A manifest, and the one followed until now where there is one, without values that may be secrets."""
    question = _manifest(desired)
    return question if previous is None else {**question, "previous": _manifest(previous)}


@dataclass(frozen=True, slots=True)
class AskedWindow:
    """A canary's last `seconds`: `error_rate` from 0 to 1; None is "not known", and `why_unknown` says why."""

    requests: float | None
    error_rate: float | None
    p99_latency_ms: float | None
    seconds: float
    why_unknown: str = "nothing was measured"


@dataclass(frozen=True, slots=True)
class AskedStep:
    """The step a rollout is at, the first being 1 of `of`."""

    index: int
    of: int
    weight_pct: int
    is_last: bool
    elapsed_s: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class CanaryQuestion:
    """All that is asked about a canary. `purpose` is `rollout`, or `promote` for an operator's word.

    `waited_s` is the observed time in analysis, `chaos` the canary's own word (`none`, `slow`, `error`, `unknown`),
    `evidence` the summary of the whole run; None where there is none, which a rollout must not be asked without.
    """

    service: str
    mode: str
    window: AskedWindow
    purpose: str
    rollout: RolloutSpec
    step: AskedStep | None = None
    is_held: bool = False
    waited_s: float = 0.0
    chaos: str = "unknown"
    evidence: dict[str, Json] | None = None


def question_canary(question: CanaryQuestion) -> Mapping[str, Json]:
    """A canary as its gate wants it. What is not known says so, and is never null, NaN or infinite."""
    window, rollout = question.window, question.rollout
    asked: dict[str, Json] = {
        "service": question.service,
        "mode": question.mode,
        "error_rate": _measured(window.error_rate, window.why_unknown),
        "p99_latency": _measured(window.p99_latency_ms, window.why_unknown),
        "requests": _measured(window.requests, window.why_unknown),
        "window_seconds": window.seconds,
        "purpose": question.purpose,
        "is_held": question.is_held,
        "rollout": {
            "min_requests": rollout.min_requests,
            "max_wait_seconds": rollout.max_wait_s,
            "on_timeout": rollout.on_timeout,
            "waited_seconds": question.waited_s,
        },
        "chaos": question.chaos,
    }
    if question.step is not None:
        asked["step"] = _step(question.step)
    if question.evidence is not None:
        asked["evidence"] = question.evidence
    return {key: _sendable(value, key) for key, value in asked.items()}


def _step(step: AskedStep) -> dict[str, Json]:
    return {
        "index": step.index,
        "of": step.of,
        "weight": step.weight_pct,
        "is_last": step.is_last,
        "elapsed_seconds": step.elapsed_s,
        "duration_seconds": step.duration_s,
    }


def _sendable(value: Json, key: str) -> Json:
    """The value with {"unknown": …} for every None, NaN and infinity, and no e-value above E_MAX."""
    if isinstance(value, dict):
        return {name: _sendable(below, name) for name, below in value.items()}
    if isinstance(value, list | tuple):
        return [_sendable(below, key) for below in value]
    if isinstance(value, float) and value > E_MAX and _E_VALUE.search(key):
        return E_MAX
    return _measured(value, "not known") if value is None or isinstance(value, float) else value


def _measured(value: float | None, why: str) -> Json:
    return {"unknown": why} if value is None or not math.isfinite(value) else value


def _manifest(desired: DesiredState) -> dict[str, Json]:
    return {
        "project": desired.project,
        "manifest": desired.revision,
        "services": [_service(service) for service in desired.services],
        "nginx": {"image": desired.nginx.image, "port": desired.nginx.port},
        "opa": {"image": desired.opa.image},
        "network": {"name": desired.network.name, "driver": desired.network.driver},
    }


def _service(service: Service) -> dict[str, Json]:
    return {
        "name": service.name,
        "image": service.image,
        "version": service.version,
        "mode": str(service.mode),
        "replicas": service.replicas,
        "port": service.port,
        "user": service.user or "",
        "read_only": service.read_only,
        "cap_add": list(service.cap_add),
        "chaos": service.chaos,
        "restart_policy": service.restart_policy,
        "strategy": str(service.rollout.strategy),
        "mounts": [dataclasses.asdict(mount) for mount in service.mounts],
    }


# --- what its answers mean ---------------------------------------------------------------------------------


class _Unusable(Exception):
    """Why an answer does not count."""


def unknown(domain: str, why: str) -> Verdict:
    """Nobody knows what the policy says."""
    return Verdict(domain, allow=False, reason=printable(why, REASON_MAX), known=False)


def read_answer(status: int, body: bytes, domain: str, expected_revision: str, asked: str | None = None) -> Verdict:
    """The verdict in OPA's answer; `known` is false for whatever is not exactly an answer to this question.

    `asked`, where given, is what the answer must carry back. Texts come out printable and of bounded length.
    """
    try:
        return _verdict(_result(status, body, domain), domain, expected_revision, asked)
    except _Unusable as why:
        return unknown(domain, str(why))


def _result(status: int, body: bytes, domain: str) -> dict[str, Json]:
    """The decision document, with OPA's `decision_id` beside the policy's own words."""
    if len(body) > ANSWER_MAX_BYTES:
        raise _Unusable("OPA's answer is too large")
    if status != 200:
        raise _Unusable(_refusal(status, body))
    answer = _parsed(body)
    if not isinstance(answer, dict):
        raise _Unusable("OPA's answer is not an object")
    if "result" not in answer:
        raise _Unusable(f"OPA has no decision for {domain}: its policy is not loaded, or undefined for this question")
    result = answer["result"]
    if not isinstance(result, dict):
        raise _Unusable(f"the decision for {domain} is not an object")
    return {**result, "decision_id": answer.get("decision_id", "")}


def _refusal(status: int, body: bytes) -> str:
    if status == 401:
        return "OPA refused our token (HTTP 401)"
    if 300 <= status < 400:
        return f"OPA answered with a redirect (HTTP {status}), which is never followed"
    return f"OPA answered HTTP {status}{_error_words(body)}"


def _error_words(body: bytes) -> str:
    """OPA's own error codes and messages, as far as they can be read."""
    try:
        answer = _parsed(body)
    except _Unusable:
        return ""
    if not isinstance(answer, dict):
        return ""
    errors = answer.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else answer
    words = [text for key in ("code", "message") if isinstance(text := first.get(key), str)]
    return "".join(f": {word}" for word in words)


def _parsed(body: bytes) -> Json:
    try:
        parsed: Json = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _Unusable("OPA's answer is not JSON") from error
    return parsed


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def _no_constant(word: str) -> Json:
    raise ValueError(f"{word} is not JSON")


def _verdict(result: dict[str, Json], domain: str, expected_revision: str, asked: str | None) -> Verdict:
    """The decision as a value; raises _Unusable where it contradicts itself or answers something else."""
    allow, revision_given = result.get("allow"), result.get("revision")
    if not isinstance(allow, bool):
        raise _Unusable("the decision's 'allow' is neither true nor false")
    if revision_given != expected_revision:
        found = printable(revision_given, 12) if isinstance(revision_given, str) else "none"
        raise _Unusable(f"the decision is of policy revision {found}, not of {expected_revision[:12]}")
    if asked is not None and result.get("asked") != asked:
        raise _Unusable("the decision answers another question")
    action = result.get("action", _ACTIONS[allow][0])
    if action not in _ACTIONS[allow]:
        raise _Unusable(f"the decision contradicts itself: allow is {str(allow).lower()}, action is {_words(action)}")
    violations = _violations(result.get("violations", []))
    if allow and violations:
        raise _Unusable(f"the decision contradicts itself: allowed, but {violations[0].message}")
    return Verdict(
        domain,
        allow,
        reason=_reason(result.get("reason", ""), violations, allow),
        action=str(action),
        violations=violations,
        revision=expected_revision,
        decision_id=_words(result["decision_id"], 100),
    )


def _reason(given: Json, violations: tuple[Violation, ...], allow: bool) -> str:
    if not isinstance(given, str):
        raise _Unusable("the decision's 'reason' is not a text")
    told = given.strip() or "; ".join(violation.message for violation in violations)
    return printable(told, REASON_MAX) or ("" if allow else "denied without a reason")


def _violations(given: Json) -> tuple[Violation, ...]:
    if not isinstance(given, list):
        raise _Unusable("the decision's 'violations' is not a list")
    return tuple(_violation(item) for item in given[:VIOLATIONS_MAX])


def _violation(given: Json) -> Violation:
    if not isinstance(given, dict):
        raise _Unusable("a violation is not an object")
    name, message = given.get("id"), given.get("message")
    if not isinstance(name, str) or not isinstance(message, str):
        raise _Unusable("a violation has no id or no message")
    observed, limit = given.get("observed", ""), given.get("limit", "")
    return Violation(printable(name, 100), printable(message, REASON_MAX), _words(observed, 100), _words(limit, 100))


def _words(value: Json, limit: int = 50) -> str:
    """A value as one short text: a text as it is, all else as JSON."""
    return printable(value if isinstance(value, str) else json.dumps(value), limit)


def standing(verdict: Verdict, is_measured: bool) -> str:
    """Whether limits are kept, whatever the action is: FAIL where one is broken, PASS where none is, else UNKNOWN.

    `is_measured`: the window has an error rate and a latency. A canary that only waits for evidence passes.
    """
    if verdict.action == "rollback" or any(violation.id not in _UNREAD for violation in verdict.violations):
        return "FAIL"
    return "PASS" if verdict.known and is_measured and not verdict.violations else "UNKNOWN"


def printable(text: str, limit: int) -> str:
    """At most `limit` characters, none of which moves a cursor, breaks a line or hides another."""
    shown = "".join(_escaped(character) for character in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _escaped(character: str) -> str:
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}:
        return f"\\u{ord(character):04x}"
    return character
