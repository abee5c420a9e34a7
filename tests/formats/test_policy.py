"""What OPA is given and asked, and what its answers mean; no process is started here."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import assets
from reconciler.core.containers import Layout
from reconciler.core.desired import DesiredState, Json, Mount, Network, Nginx, RolloutSpec, Service
from reconciler.core.errors import RenderError
from reconciler.core.observed import ObservedImage
from reconciler.core.record import HostFacts, Verdict, Violation
from reconciler.formats import policy

LIMITS: dict[str, dict[str, Json]] = {
    "infrastructure": {"min_disk_free_gb": 10, "max_cpu_load": 2.0},
    "canary": {"max_error_rate": 0.01, "max_p99_latency_ms": 500, "min_requests": 20},
}
REVISION = "c2" * 32


def desired(**changes: object) -> DesiredState:
    state = DesiredState(
        project="shop",
        revision="ab" * 32,
        services=(Service("api", "api:1", 3000, environment=(("PASSWORD", "hunter2"),)),),
        nginx=Nginx("nginx:latest", 8080),
        network=Network("net"),
        limits=LIMITS,
    )
    return dataclasses.replace(state, **changes)  # type: ignore[arg-type]


def data_of(state: DesiredState) -> dict[str, Json]:
    data: dict[str, Json] = json.loads(policy.bundle(state)["data.json"])
    return data


# --- what OPA is given ---------------------------------------------------------------------------------------


def test_every_rego_file_of_ours_is_loaded_and_every_question_is_a_domain() -> None:
    files = policy.bundle(desired())
    assert set(assets.names("opa", ".rego")) == set(files) - {"data.json"}
    assert policy.domains() == ("admission", "canary", "infrastructure")


def test_no_limit_stands_in_rego() -> None:
    for name in assets.names("opa", ".rego"):
        code = re.sub(r'#[^\n]*|"[^"\n]*"|`[^`]*`', "", assets.read("opa", name))
        assert not re.search(r"(?<!\w)[0-9]", code), f"{name} holds a number"


def test_the_same_manifest_gives_the_same_bytes() -> None:
    backwards = {domain: dict(reversed(values.items())) for domain, values in reversed(LIMITS.items())}
    assert policy.bundle(desired()) == policy.bundle(desired(limits=backwards))


def test_units_are_data_too() -> None:
    assert data_of(desired())["units"] == {"percent": 100, "p99_tail": 0.01}


def test_limits_are_data_and_keep_the_text_of_the_manifest() -> None:
    data = data_of(desired())
    assert data["limits"] == {**LIMITS, "admission": {}}
    assert data["limits_text"] == {
        "admission": {},
        "canary": {"max_error_rate": "1%", "max_p99_latency_ms": "500", "min_requests": "20"},
        "infrastructure": {"max_cpu_load": "2.0", "min_disk_free_gb": "10"},
    }


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.01, "1%"),
        (0.015, "1.5%"),
        (0.07, "7%"),
        (0.0005, "0.05%"),
        (0.5, "50%"),
        (0, "0%"),
        (0.1, "10%"),
        (1, "100%"),
    ],
)
def test_a_rate_reads_as_a_percentage(rate: float, text: str) -> None:
    texts = data_of(desired(limits={"canary": {"max_error_rate": rate}}))["limits_text"]
    assert isinstance(texts, dict)
    assert texts["canary"] == {"max_error_rate": text}


def test_a_limit_that_is_not_set_is_not_there() -> None:
    limits = {"infrastructure": {**LIMITS["infrastructure"], "max_mem_used_percent": None}}
    assert data_of(desired(limits=limits))["limits"] == {
        "admission": {},
        "canary": {},
        "infrastructure": LIMITS["infrastructure"],
    }


def test_limits_of_other_domains_are_passed_through_whole() -> None:
    given = {"freeze": {"days": ["Fri"], "max": 3, "hard": True}}
    limits = data_of(desired(limits={**LIMITS, **given}))["limits"]
    assert isinstance(limits, dict)
    assert limits["freeze"] == given["freeze"]


def test_a_limit_that_is_no_number_at_all_is_refused() -> None:
    for nonsense in (math.nan, math.inf):
        with pytest.raises(RenderError, match="finite"):
            policy.bundle(desired(limits={"canary": {"max_error_rate": nonsense}}))


def test_the_revision_is_over_everything_and_states_itself() -> None:
    mine = "package swiftdeploy.canary.user\n"
    states = [
        desired(),
        desired(limits={**LIMITS, "infrastructure": {"min_disk_free_gb": 11, "max_cpu_load": 2.0}}),
        desired(limits={**LIMITS, "infrastructure": {"min_disk_free_gb": 10, "max_cpu_load": 2}}),
        desired(user_policies=(("a.rego", mine),)),
        desired(user_policies=(("b.rego", mine),)),
        desired(user_policies=(("a.rego", mine + "\n"),)),
    ]
    bundles = [policy.bundle(state) for state in states]
    revisions = [policy.revision(files) for files in bundles]
    assert len(set(revisions)) == len(states)
    assert [json.loads(files["data.json"])["revision"] for files in bundles] == revisions
    assert all(re.fullmatch("[0-9a-f]{64}", revision) for revision in revisions)


def test_what_is_no_policy_does_not_change_the_revision() -> None:
    one, other = desired(), desired(project="other", revision="00" * 32, nginx=Nginx("nginx:1", 1))
    assert policy.bundle(one) == policy.bundle(other)


def test_the_operators_policies_are_loaded_but_not_their_tests() -> None:
    for text in (
        "# mine\n\npackage freeze\n",
        "package freeze.lib",
        "package swiftdeploy.canary.user # ours\r\n",
        "package swiftdeploy.admission.user.images",
    ):
        files = policy.bundle(desired(user_policies=(("freeze.rego", text), ("freeze_test.rego", text))))
        assert files["user/freeze.rego"] == text
        assert "user/freeze_test.rego" not in files


@pytest.mark.parametrize(
    "text",
    [
        "package system.authz\n\nallow := true",
        "# harmless\n\n  package   system.authz",
        "package\nsystem.authz",
        'package system["authz"]',
        "package\tsystem",
        "#\r\npackage system.log",
        "",
        "allow := true\npackage x",
        "\ufeffpackage system.authz",
        "package swiftdeploy_auth",
        "package limits.canary",
        "package revision",
        "package units",
        "package swiftdeploy",
        "package swiftdeploy.evidence\n\nmeasured(key) := 0",
        "package swiftdeploy.run\n\nis_calm := true",
        "package swiftdeploy.wording",
        "package swiftdeploy.canary",
        "package swiftdeploy.canry.user",
        "package swiftdeploy.canary.users",
        'package swiftdeploy["canary"]',
        "package swiftdeploy.canary.user allow := true",
        "package sýstem",
    ],
)
def test_no_operators_policy_allows_or_says_who_may_ask(text: str) -> None:
    with pytest.raises(RenderError, match=r"^mine\.rego: "):
        policy.bundle(desired(user_policies=(("mine.rego", text),)))


@pytest.mark.parametrize(
    "name", ["../authz.rego", "a/b.rego", ".rego", "-x.rego", "x.json", "data.json", "a b.rego", "ü.rego"]
)
def test_a_policy_file_has_a_plain_name(name: str) -> None:
    with pytest.raises(RenderError, match="policy file"):
        policy.bundle(desired(user_policies=((name, "package x"),)))


def test_an_operators_file_never_takes_the_place_of_ours() -> None:
    files = policy.bundle(desired(user_policies=(("canary.rego", "package mine"),)))
    assert files["canary.rego"] == assets.read("opa", "canary.rego")


# --- its container ---------------------------------------------------------------------------------------------


def test_the_container_has_no_network_and_writes_to_its_socket_folder_only() -> None:
    image = ObservedImage("openpolicyagent/opa:1", "sha256:1", "local/opa:1")
    target = policy.target(desired(), image, Layout("/state/rendered", "/state/run", "1000:1000"))
    spec, short = target.spec, target.revision[:12]
    assert spec.network is None
    assert spec.ports == ()
    assert spec.read_only
    assert spec.cap_add == ()
    assert spec.user == "1000:1000"
    assert spec.stop_signal == "SIGKILL"
    assert spec.image == "local/opa:1"
    assert spec.mounts == (
        Mount("bind", f"/state/rendered/opa/{short}", "/policy", read_only=True),
        Mount("bind", "/state/run/opa-auth", "/auth", read_only=True),
        Mount("bind", f"/state/run/opa/{short}", "/run/opa"),
    )
    assert spec.command is not None
    assert [word for word in spec.command if "addr" in word] == ["--addr=unix:///run/opa/opa.sock"]
    assert {"--authentication=token", "--authorization=basic"} <= set(spec.command)
    assert set(target.files) == {f"opa/{short}/{name}" for name in policy.bundle(desired())}


def test_another_policy_is_another_container() -> None:
    image = ObservedImage("opa:1", "sha256:1", "opa:1")
    layout = Layout("/r", "/run", "1:1")
    one, other = (policy.target(desired(limits=limits), image, layout) for limits in (LIMITS, {}))
    assert one.spec.digest() != other.spec.digest()


# --- what it is asked --------------------------------------------------------------------------------------------


def test_the_host_is_asked_about_in_numbers() -> None:
    question = policy.question_infrastructure(HostFacts(50.5, 0.3, 40.0, 4, "/data"))
    assert question == {
        "disk_free_gb": 50.5,
        "cpu_load": 0.3,
        "mem_used_percent": 40.0,
        "cpus": 4,
        "disk_path": "/data",
    }


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, -math.inf])
def test_what_could_not_be_read_is_unknown_and_says_why(nothing: float | None) -> None:
    question = policy.question_infrastructure(HostFacts(nothing, nothing, nothing, 4, "/data"))
    assert question["disk_free_gb"] == {"unknown": "free disk space of /data could not be read"}
    assert question["cpu_load"] == {"unknown": "the load average could not be read"}
    assert question["mem_used_percent"] == {"unknown": "memory use could not be read"}


def test_a_manifest_is_shown_without_its_secrets_and_with_the_one_before() -> None:
    alone = policy.question_admission(desired(), None)
    assert "previous" not in alone
    assert "hunter2" not in json.dumps(alone)
    assert alone["project"] == "shop"
    assert alone["manifest"] == "ab" * 32
    both = policy.question_admission(desired(project="new"), desired())
    assert both["previous"] == alone


WINDOW = policy.AskedWindow(requests=412, error_rate=0.04, p99_latency_ms=620, seconds=30)
ASKED = policy.CanaryQuestion(
    service="app",
    mode="canary",
    window=WINDOW,
    purpose="rollout",
    rollout=RolloutSpec(),
    step=policy.AskedStep(index=1, of=3, weight_pct=5, is_last=False, elapsed_s=34, duration_s=60),
    waited_s=312.0,
    chaos="none",
    evidence={"requests": {"canary": 2400, "baseline": 9000}, "needs": {"requests": 0, "seconds": 0.0}},
)


def test_a_canary_is_asked_about_in_exactly_these_words() -> None:
    assert policy.question_canary(ASKED) == {
        "service": "app",
        "mode": "canary",
        "error_rate": 0.04,
        "p99_latency": 620,
        "requests": 412,
        "window_seconds": 30,
        "purpose": "rollout",
        "step": {
            "index": 1,
            "of": 3,
            "weight": 5,
            "is_last": False,
            "elapsed_seconds": 34,
            "duration_seconds": 60,
        },
        "is_held": False,
        "rollout": {
            "min_requests": 20,
            "max_wait_seconds": 600,
            "on_timeout": "promote",
            "waited_seconds": 312.0,
        },
        "chaos": "none",
        "evidence": {"requests": {"canary": 2400, "baseline": 9000}, "needs": {"requests": 0, "seconds": 0.0}},
    }


def test_what_there_is_none_of_is_left_out() -> None:
    question = policy.question_canary(dataclasses.replace(ASKED, purpose="promote", step=None, evidence=None))
    assert {"step", "evidence"}.isdisjoint(question)


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, -math.inf])
def test_what_was_not_measured_of_a_canary_says_why(nothing: float | None) -> None:
    window = policy.AskedWindow(nothing, nothing, nothing, 30, "no requests")
    evidence: dict[str, Json] = {"errors": {"rate": nothing, "bounds": [nothing, 1]}}
    question = policy.question_canary(dataclasses.replace(ASKED, window=window, evidence=evidence, waited_s=math.nan))
    for key in ("error_rate", "p99_latency", "requests"):
        assert question[key] == {"unknown": "no requests"}
    unknown = {"unknown": "not known"}
    assert question["evidence"] == {"errors": {"rate": unknown, "bounds": [unknown, 1]}}
    assert json.loads(json.dumps(question, allow_nan=False))["rollout"]["waited_seconds"] == unknown


def test_evidence_has_a_ceiling_and_other_numbers_have_none() -> None:
    evidence: dict[str, Json] = {
        "e_catastrophic": math.inf,
        "errors": {"e_above_limit": 1e300, "baseline_e_above_limit": 1e12, "e_worse": 3.5, "count": 10**15},
        "observed_s": 1e13,
        "latency": {"e_below_limit": math.nan},
    }
    assert policy.question_canary(dataclasses.replace(ASKED, evidence=evidence))["evidence"] == {
        "e_catastrophic": 1e12,
        "errors": {"e_above_limit": 1e12, "baseline_e_above_limit": 1e12, "e_worse": 3.5, "count": 10**15},
        "observed_s": 1e13,
        "latency": {"e_below_limit": {"unknown": "not known"}},
    }


json_trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["e_worse", "rate"]), inner),
    max_leaves=10,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["errors", "e_catastrophic", "needs"]), json_trees))
def test_whatever_is_measured_can_be_sent_and_holds_no_null(evidence: dict[str, Json]) -> None:
    text = json.dumps(policy.question_canary(dataclasses.replace(ASKED, evidence=evidence)), allow_nan=False)

    def has_null(value: Json) -> bool:
        if isinstance(value, dict):
            return any(map(has_null, value.values()))
        return any(map(has_null, value)) if isinstance(value, list) else value is None

    assert not has_null(json.loads(text))


# --- what its answers mean -----------------------------------------------------------------------------------------


def body(**changes: object) -> bytes:
    whole = {
        "allow": False,
        "action": "hold",
        "reason": "Disk space below 10GB",
        "violations": [{"id": "min_disk_free_gb", "message": "Disk space below 10GB", "observed": 3.5, "limit": 10}],
        "revision": REVISION,
        "asked": "d1",
    }
    return json.dumps(
        {"result": {key: value for key, value in {**whole, **changes}.items() if value is not ...}}
    ).encode()


ALLOWED = {"allow": True, "action": "promote", "reason": "all is well", "violations": []}


def read(content: bytes, status: int = 200, asked: str | None = "d1") -> Verdict:
    return policy.read_answer(status, content, "infrastructure", REVISION, asked)


def test_a_denial_is_read() -> None:
    assert read(body()) == Verdict(
        "infrastructure",
        allow=False,
        reason="Disk space below 10GB",
        action="hold",
        violations=(Violation("min_disk_free_gb", "Disk space below 10GB", "3.5", "10"),),
        revision=REVISION,
    )
    assert read(body(action="rollback")).action == "rollback"


def test_an_approval_is_read() -> None:
    verdict = read(body(**ALLOWED))
    assert (verdict.known, verdict.allow, verdict.action, verdict.reason) == (True, True, "promote", "all is well")


def test_a_plain_answer_promotes_or_holds() -> None:
    allowed = read(body(allow=True, action=..., reason=..., violations=...))
    denied = read(body(allow=False, action=..., reason="no", violations=...))
    assert (allowed.known, allowed.allow, allowed.action) == (True, True, "promote")
    assert (denied.known, denied.allow, denied.action, denied.reason) == (True, False, "hold", "no")


def test_a_denial_never_goes_without_a_reason() -> None:
    assert read(body(reason="")).reason == "Disk space below 10GB"
    assert read(body(reason=" ", violations=[])).reason == "denied without a reason"


def test_the_id_opa_gave_the_decision_is_kept() -> None:
    assert read(b'{"decision_id": "x-1", ' + body()[1:]).decision_id == "x-1"


@pytest.mark.fault("G8")
def test_extra_keys_do_no_harm() -> None:
    assert read(b'{"warning": {}, "metrics": [], ' + body(**ALLOWED, extra={"a": None})[1:]).allow


@pytest.mark.fault("G5", "G6")
@pytest.mark.parametrize("status", [100, 201, 204, 301, 302, 307, 308, 400, 401, 404, 429, 500, 503])
def test_only_200_is_an_answer(status: int) -> None:
    verdict = read(body(**ALLOWED), status)
    assert not verdict.known
    assert not verdict.allow
    assert str(status) in verdict.reason


@pytest.mark.fault("G4")
def test_opas_own_error_is_told() -> None:
    conflict = {
        "code": "internal_error",
        "message": "error(s) occurred while evaluating query",
        "errors": [{"code": "eval_conflict_error", "message": "complete rules must not produce multiple outputs"}],
    }
    assert read(json.dumps(conflict).encode(), 500).reason == (
        "OPA answered HTTP 500: eval_conflict_error: complete rules must not produce multiple outputs"
    )
    for odd in (b"", b"<html>", b"[]", b'{"errors": 5}', b'{"errors": [5]}', b'{"code": 5}', b'{"errors": []}'):
        assert read(odd, 500).reason == "OPA answered HTTP 500"


@pytest.mark.fault("G3", "G7")
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not JSON"),
        (b"<html>502</html>", "not JSON"),
        (b'{"result": {"allow": true', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"result": {"allow": true, "allow": false}}', "not JSON"),
        (b'{"result": NaN}', "not JSON"),
        (b'{"result": Infinity}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"result": ' + b"9" * 10_000 + b"}", "not JSON"),
        (b"null", "not an object"),
        (b"true", "not an object"),
        (b"[]", "not an object"),
        (b'"allow"', "not an object"),
        (b"{}", "no decision for infrastructure"),
        (b'{"warning": {"code": "api_usage_warning"}}', "no decision for infrastructure"),
        (b'{"result": true}', "is not an object"),
        (b'{"result": null}', "is not an object"),
        (b'{"result": [{"allow": true}]}', "is not an object"),
        (b" " * (1024 * 1024 + 1), "too large"),
    ],
)
def test_garbage_is_no_answer(content: bytes, why: str) -> None:
    verdict = read(content)
    assert not verdict.known
    assert not verdict.allow
    assert why in verdict.reason


@pytest.mark.fault("G7")
@pytest.mark.parametrize("allow", [..., None, "true", "", 1, 0, 1.0, [True], {}, {"allow": True}])
def test_only_true_and_false_are_true_and_false(allow: object) -> None:
    verdict = read(body(**{**ALLOWED, "allow": allow}))
    assert not verdict.known
    assert "neither true nor false" in verdict.reason


@pytest.mark.fault("G7")
@pytest.mark.parametrize(
    ("allow", "action"),
    [
        (True, "hold"),
        (True, "rollback"),
        (False, "promote"),
        (True, "PROMOTE"),
        (False, ""),
        (False, None),
        (True, None),
        (True, True),
        (False, ["hold"]),
        (False, {}),
        (False, "suspend"),
    ],
)
def test_an_answer_that_contradicts_itself_is_no_answer(allow: bool, action: object) -> None:
    verdict = read(body(allow=allow, action=action, violations=[]))
    assert not verdict.known
    assert "contradicts itself" in verdict.reason


def test_an_approval_with_violations_contradicts_itself() -> None:
    assert "contradicts itself" in read(body(allow=True, action="promote")).reason


@pytest.mark.fault("G10")
@pytest.mark.parametrize("revision", [..., None, "", "c2" * 31, "C2" * 32, 5, ["c2" * 32], "0" * 64])
def test_an_answer_of_another_policy_revision_is_no_answer(revision: object) -> None:
    verdict = read(body(**ALLOWED, revision=revision))
    assert not verdict.known
    assert "policy revision" in verdict.reason


@pytest.mark.fault("G9")
@pytest.mark.parametrize("asked", [..., None, "", "d2", 5])
def test_an_answer_to_another_question_is_no_answer(asked: object) -> None:
    verdict = read(body(**ALLOWED, asked=asked))
    assert not verdict.known
    assert verdict.reason == "the decision answers another question"
    assert read(body(**ALLOWED, asked=asked), asked=None).known


@pytest.mark.parametrize("reason", [None, 5, True, ["no"], {"text": "no"}])
def test_a_reason_is_a_text(reason: object) -> None:
    assert "not a text" in read(body(reason=reason)).reason


@pytest.mark.parametrize(
    "violations", [None, 5, "text", {}, {"id": "x"}, ["text"], [None], [{}], [{"id": "x"}], [{"id": 5, "message": "m"}]]
)
def test_violations_are_a_list_of_violations(violations: object) -> None:
    verdict = read(body(violations=violations))
    assert not verdict.known
    assert "violation" in verdict.reason


@pytest.mark.fault("G8")
def test_a_huge_answer_is_cut_and_used() -> None:
    violation = {"id": "x" * 5000, "message": "y" * 5000, "observed": "z" * 5000, "limit": [1] * 5000}
    verdict = read(body(reason="r" * 500_000, violations=[violation] * 8 + [{"id": "a", "message": "b"}] * 500))
    assert verdict.known
    assert len(verdict.reason) == policy.REASON_MAX
    assert verdict.reason.endswith("…")
    assert len(verdict.violations) == policy.VIOLATIONS_MAX
    assert all(len(text) <= policy.REASON_MAX for item in verdict.violations for text in dataclasses.astuple(item))


@pytest.mark.control("K18")
@pytest.mark.fault("G8")
def test_nothing_in_a_text_moves_a_cursor() -> None:
    verdict = read(body(reason="\x1b[2Jgone\r\nok\u202efdp\u2028\ud800"))
    assert verdict.reason == "\\u001b[2Jgone\\u000d\\u000aok\\u202efdp\\u2028\\ud800"
    assert read(body(reason="Plattenplatz knapp: äöü €")).reason == "Plattenplatz knapp: äöü €"


BAD_CANARY = {
    "action": "rollback",
    "reason": "Error rate exceeds 1% threshold",
    "violations": [{"id": "max_error_rate", "message": "Error rate exceeds 1% threshold", "observed": 0.04}],
}


def read_canary(**changes: object) -> Verdict:
    return policy.read_answer(200, body(**changes), "canary", REVISION, "d1")


def test_a_canary_is_rolled_back_or_goes_up() -> None:
    back, up = read_canary(**BAD_CANARY), read_canary(**ALLOWED)
    assert (back.known, back.allow, back.action, back.reason) == (True, False, "rollback", BAD_CANARY["reason"])
    assert (up.known, up.allow, up.action) == (True, True, "promote")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"allow": True}, "contradicts itself: allow is true, action is rollback"),
        ({"action": "promote"}, "contradicts itself: allow is false, action is promote"),
        ({"action": "suspend"}, "contradicts itself"),
        ({"allow": True, "action": "promote"}, "contradicts itself: allowed, but Error rate exceeds 1% threshold"),
        ({"allow": "no"}, "neither true nor false"),
        ({"revision": "d3" * 32}, "of policy revision"),
        ({"revision": ...}, "of policy revision none"),
        ({"asked": "d0"}, "answers another question"),
        ({"violations": "errors"}, "not a list"),
        ({"reason": None}, "not a text"),
    ],
)
def test_no_odd_answer_moves_a_canary(changes: dict[str, object], why: str) -> None:
    verdict = read_canary(**{**BAD_CANARY, **changes})
    assert (verdict.known, verdict.allow, verdict.action) == (False, False, "hold")
    assert why in verdict.reason


def found(*ids: str) -> tuple[Violation, ...]:
    return tuple(Violation(name, name) for name in ids)


@pytest.mark.parametrize(
    ("violations", "is_measured", "word"),
    [
        (found(), True, "PASS"),
        (found(), False, "UNKNOWN"),
        (found("missing_input"), True, "UNKNOWN"),
        (found("missing_limit", "missing_input"), True, "UNKNOWN"),
        (found("max_error_rate"), True, "FAIL"),
        (found("max_restarts"), False, "FAIL"),
        (found("user", "missing_input"), True, "FAIL"),
    ],
)
def test_a_canary_that_only_waits_passes(violations: tuple[Violation, ...], is_measured: bool, word: str) -> None:
    waiting = Verdict("canary", allow=False, reason="Not enough evidence", action="hold", violations=violations)
    assert policy.standing(waiting, is_measured) == word


def test_what_nobody_answered_is_unknown() -> None:
    assert policy.standing(policy.unknown("canary", "OPA is not reachable"), True) == "UNKNOWN"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
result_keys = st.sampled_from(["allow", "action", "reason", "violations", "revision", "asked", "x"])


@settings(deadline=None)
@given(st.dictionaries(result_keys, json_values), st.integers(100, 599))
def test_whatever_comes_is_a_verdict_that_can_be_printed(result: dict[str, Json], status: int) -> None:
    verdict = policy.read_answer(status, json.dumps({"result": result}).encode(), "canary", REVISION, "d1")
    assert not verdict.allow
    assert len(verdict.reason) <= policy.REASON_MAX
    assert all(unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"} for character in verdict.reason)
    verdict.reason.encode()


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_whatever_bytes_come_nothing_is_allowed(content: bytes) -> None:
    assert not read(content).known


@settings(deadline=None)
@given(st.text())
def test_printable_text_is_short_and_can_be_written(text: str) -> None:
    shown = policy.printable(text, 20)
    assert len(shown) <= 20
    shown.encode()
