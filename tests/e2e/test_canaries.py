"""Canaries on the real engine, nginx and OPA, under real traffic: what the guide promises, and beyond it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.rollout_stack import variant
from tests.e2e.stack import IMAGE, Stack, wait_for

LOAD = Path(__file__).with_name("steady.py")
QUICK = "rollout: {steps: [{weight: 25, duration: 3s}, {weight: 50, duration: 3s}], watch: 6s, health_deadline: 15s}"
PATIENT = "  canary: {warmup_seconds: 2, min_evidence_seconds: 4}\n"


class Client:
    """Steady traffic in a process of its own; afterwards `counts` says what was answered, by status and mode."""

    def __init__(self, port: int, rate: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(LOAD), str(port), str(rate)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.counts: dict[str, int] = {}

    def stop(self) -> None:
        out, _ = self._process.communicate("stop\n", timeout=30)
        self.counts = json.loads(out)

    @property
    def failed(self) -> dict[str, int]:
        """Everything that was no answer of 200."""
        return {what: count for what, count in self.counts.items() if not what.startswith("200")}


@contextmanager
def traffic(stack: Stack, rate: float = 60.0) -> Iterator[Client]:
    client = Client(stack.port, rate)
    try:
        yield client
    finally:
        client.stop()


def manifest(stack: Stack, service: str, image: str = IMAGE) -> str:
    return stack.manifest(PATIENT, service=service).replace(IMAGE, image)


@pytest.fixture
def site(stack: Stack) -> Stack:
    """A deployed service under a daemon, with quick steps."""
    stack.write(manifest(stack, f"chaos: true\n{QUICK}"))
    stack.start()
    wait_for("the first answer through nginx", stack.answers)
    stack.wait_converged()
    return stack


def rollout(stack: Stack) -> dict[str, Any]:
    return dict(stack.service()["rollout"] or {})


def weights(stack: Stack) -> list[int]:
    """The weights that the history tells, each once in a row."""
    found = [r["rollouts"]["app"]["weight"] for r in stack.history() if r["kind"] == "cycle" and "app" in r["rollouts"]]
    return [weight for i, weight in enumerate(found) if i == 0 or found[i - 1] != weight]


def moves(stack: Stack) -> list[str]:
    return [d["move"] for r in stack.history() for d in r.get("decisions", ()) if d["move"] != "hold"]


# ---------------------------------------------------------------- by itself


def test_a_healthy_image_promotes_itself_through_all_steps_without_losing_a_request(site: Stack) -> None:
    with traffic(site) as client:
        time.sleep(1)
        site.write(manifest(site, f'version: "2.0.0"\nchaos: true\n{QUICK}', variant("healthy")))
        wait_for("promoted and at rest", lambda: _rests(site, "2.0.0"), 120)
    assert client.failed == {}
    assert client.counts["200 canary"] > 0
    assert [w for w in weights(site) if w][:3] == [25, 50, 100]
    assert {"start", "ready", "advance", "promote", "switched", "parked", "removed", "settled"} <= set(moves(site))
    environments = [c.attrs["Config"]["Env"] for c in site.containers("app")]
    assert [("MODE=stable" in env, "APP_VERSION=2.0.0" in env) for env in environments] == [(True, True)]


def _rests(stack: Stack, version: str) -> bool:
    service = stack.service()
    return bool(
        service["phase"] == "stable" and service["version"] == version and stack.status()["state"] == "converged"
    )


BAD = {
    "errors": "Error rate exceeds 1% threshold",
    "slow": "P99 latency exceeds 500ms",
    "crash": "exited with code",
    "unhealthy": "not healthy within",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_is_rolled_back_and_quarantined_and_stable_untouched(site: Stack, kind: str) -> None:
    (stable,) = site.containers("app")
    with traffic(site) as client:
        time.sleep(1)
        site.write(manifest(site, f"chaos: true\n{QUICK}", variant(kind)))
        wait_for("rolled back", lambda: site.service()["quarantined"] and site.service()["phase"] == "stable", 120)
    reasons = [d["reason"] for r in site.history() for d in r.get("decisions", ()) if d["move"] == "give_up"]
    assert BAD[kind] in reasons[-1]
    assert [c.id for c in site.containers("app")] == [stable.id]
    stable.reload()
    assert (stable.attrs["RestartCount"], stable.status) == (0, "running")
    mine = {what for what in client.failed if what != "500 canary"}
    assert mine == set(), "nothing failed but what the bad canary itself answered"
    assert "quarantined" in site.service()["reason"]
    assert max(weights(site)) <= 50


def test_what_is_fine_at_first_and_then_bad_is_taken_back_after_its_promotion(site: Stack) -> None:
    late = manifest(site, f"chaos: true\nenv: {{FINE_FOR_S: 5}}\n{QUICK.replace('6s', '60s')}", variant("late"))
    (stable,) = site.containers("app")
    with traffic(site, 100):
        time.sleep(1)
        site.write(late)
        wait_for("given up or returned", lambda: {"give_up", "return"} & set(moves(site)), 120)
        wait_for("back at the old", lambda: site.service()["phase"] == "stable", 60)
    assert site.service()["version"] == "1.0.0"
    assert [c.id for c in site.containers("app")] == [stable.id], "the very container that ran before"
    assert site.service()["quarantined"]


@pytest.mark.fault("H6")
def test_an_idle_canary_waits_and_says_what_would_help(site: Stack) -> None:
    site.write(manifest(site, f'version: "2.0.0"\nchaos: true\n{QUICK}'))
    wait_for("the first step", lambda: rollout(site).get("weight") == 25)
    time.sleep(8)
    assert (rollout(site)["phase"], rollout(site)["weight"]) == ("analyzing", 25)
    told = site.run("why").stdout
    assert "requests" in told
    assert "Not enough evidence" in told


@pytest.mark.fault("G1")
def test_policy_killed_mid_rollout_holds_the_weight_and_goes_on_by_itself(site: Stack) -> None:
    slow = QUICK.replace("duration: 3s", "duration: 6s")
    with traffic(site) as client:
        site.write(manifest(site, f'version: "2.0.0"\nchaos: true\n{slow}'))
        wait_for("the first step", lambda: rollout(site).get("weight") == 25)
        (opa,) = site.containers("opa")
        opa.kill()
        wait_for("healed", lambda: site.status()["opa"]["ready"])
        wait_for("promoted and at rest", lambda: _rests(site, "2.0.0"), 120)
    assert client.failed == {}
    assert "give_up" not in moves(site)


@pytest.mark.fault("A1")
def test_a_daemon_killed_mid_rollout_goes_on_where_it_was(site: Stack) -> None:
    with traffic(site) as client:
        site.write(manifest(site, f'version: "2.0.0"\nchaos: true\n{QUICK}'))
        for phase in ("analyzing", "renewing", "watching"):
            wait_for(phase, lambda p=phase: rollout(site).get("phase") == p or _rests(site, "2.0.0"), 90)
            site.stop(signal.SIGKILL)
            site.start()
        wait_for("promoted and at rest", lambda: _rests(site, "2.0.0"), 120)
    assert client.failed == {}
    assert moves(site).count("start") == 2, "the deployment, and one rollout"


def test_a_blue_green_rollout_is_judged_by_our_own_requests(site: Stack) -> None:
    strategy = (
        "rollout: {strategy: blue_green, probe: {path: /, rate: 30}, steps: [{weight: 50, duration: 3s}], watch: 4s}"
    )
    site.write(manifest(site, f'version: "2.0.0"\n{strategy}'))
    wait_for("promoted and at rest", lambda: _rests(site, "2.0.0"), 120)
    assert not {25, 50} & set(weights(site)), "all or nothing"
    site.write(manifest(site, strategy, variant("errors")))
    wait_for("rolled back", lambda: site.service()["quarantined"], 120)
    assert site.answers("2.0.0")


# ---------------------------------------------------------------- the guide's scenarios


def test_the_guides_scenario_a_slow_canary_must_be_denied(site: Stack) -> None:
    promoted = site.run("promote", "canary")
    assert promoted.returncode == 0, promoted.stderr
    with traffic(site, 30):
        assert site.run("chaos", "slow", "--duration", "1").returncode == 0
        wait_for("slow", lambda: site.status()["policy"]["canary"]["status"] == "FAIL", 40)
        shown = site.run("status", "--once").stdout.splitlines()
        assert "Mode: canary" in shown
        assert any(line.startswith("Requests/sec: ") for line in shown)
        assert any(line.startswith("P99 latency: ") and line.endswith("ms") for line in shown)
        assert any(line.startswith("Error rate: ") and line.endswith("%") for line in shown)
        assert "- Infrastructure: PASS" in shown
        assert "- Canary Safety: FAIL (latency too high)" in shown
        denied = site.run("promote")
        assert (denied.returncode, denied.stderr.strip() or denied.stdout.strip()) == (
            3,
            "DENIED: P99 latency exceeds 500ms",
        )
        assert "mode: canary" in site.path.read_text()
        assert site.run("chaos", "recover").returncode == 0
        wait_for("evidence again", lambda: site.status()["policy"]["canary"]["status"] == "PASS", 60)
        allowed = wait_for("promoted", lambda: _promoted(site), 60)
    assert "mode stable" in allowed.stdout
    assert "mode: stable" in site.path.read_text()
    wait_for("at rest", lambda: site.service()["phase"] == "stable")
    assert len(site.containers("app")) == 1
    _the_audit_tells(site)


def _promoted(site: Stack) -> Any:
    done = site.run("promote")
    return done if done.returncode == 0 else None


def _the_audit_tells(site: Stack) -> None:
    assert site.run("audit").returncode == 0
    report = (site.folder / "audit_report.md").read_text(encoding="utf-8")
    timeline, violations = report.split("## Violations")
    assert "## Timeline" in timeline
    for told in ("Mode switched to canary", "Chaos injected: slow 1 s", "Chaos ended", "Mode switched to stable"):
        assert told in timeline, told
    for told in ("P99 latency exceeds 500ms", "Promotion denied"):
        assert told in violations, told


def test_the_guides_scenario_a_failing_canary_must_be_denied(site: Stack) -> None:
    assert site.run("promote", "canary").returncode == 0
    with traffic(site, 30):
        assert site.run("chaos", "error", "--rate", "0.5").returncode == 0
        wait_for("errors", lambda: site.status()["policy"]["canary"]["status"] == "FAIL", 40)
        shown = site.run("status", "--once").stdout
        assert "- Canary Safety: FAIL (error rate too high)" in shown
        denied = site.run("promote")
        assert (denied.returncode, denied.stderr.strip() or denied.stdout.strip()) == (
            3,
            "DENIED: Error rate exceeds 1% threshold",
        )
        back = site.run("rollback", "--reason", "it fails")
        assert back.returncode == 0, back.stderr
    wait_for("at rest", lambda: site.service()["phase"] == "stable")
    assert "mode: stable" in site.path.read_text()


def test_chaos_is_refused_where_there_is_no_canary(site: Stack) -> None:
    refused = site.run("chaos", "error", "--rate", "0.5")
    assert refused.returncode == 1
    assert "chaos is refused for stable" in refused.stderr
    assert site.get("/chaos", "POST", b'{"mode": "error", "rate": 1}')[0] == 403


@pytest.mark.fault("J9")
def test_an_operator_pauses_resumes_and_rolls_back(site: Stack) -> None:
    with traffic(site):
        site.write(manifest(site, f'version: "2.0.0"\nchaos: true\n{QUICK}'))
        wait_for("the first step", lambda: rollout(site).get("weight") == 25)
        assert site.run("pause", "--reason", "lunch").returncode == 0
        time.sleep(8)
        assert rollout(site)["weight"] == 25
        assert "lunch" in site.run("why").stdout
        assert site.run("resume").returncode == 0
        wait_for("the second step", lambda: rollout(site).get("weight") == 50, 30)
        back = site.run("rollback", "--reason", "customers complain")
        assert back.returncode == 0, back.stderr
        assert (site.service()["phase"], site.service()["version"]) == ("stable", "1.0.0")
        assert site.run("retry").returncode == 64, "a reason is needed"
        assert site.run("retry", "--reason", "they stopped").returncode == 0
        wait_for("promoted and at rest", lambda: _rests(site, "2.0.0"), 120)


def test_the_slow_and_the_erring_are_caught_by_nginxs_own_count_too(stack: Stack) -> None:
    """A service that exports nothing: evidence from nginx's log."""
    ingress = f"metrics: {{provider: ingress}}\n{QUICK}"
    stack.write(manifest(stack, ingress))
    stack.start()
    wait_for("the first answer through nginx", stack.answers)
    stack.wait_converged()
    with traffic(stack, 100):
        stack.write(manifest(stack, ingress, variant("errors")))
        wait_for("rolled back", lambda: stack.service()["quarantined"], 90)
        wait_for("at rest", lambda: stack.service()["phase"] == "stable")
        stack.write(manifest(stack, f'version: "2.0.0"\n{ingress}'))
        wait_for("promoted and at rest", lambda: _rests(stack, "2.0.0"), 120)
