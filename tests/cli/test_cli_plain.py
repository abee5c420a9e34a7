"""`diff` and `why` as people read them: no flood of policy text, and what to do where no daemon runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

END = {"event": "end", "exit": 2, "text": "", "value": None}
NEW = (
    "--- now/opa/abc/{name}\n+++ then/opa/abc/{name}\n@@ -0,0 +1,3 @@\n+package swiftdeploy\n+\n+default allow = false"
)
CHANGED = "--- now/opa/abc/data.json\n+++ then/opa/def/data.json\n@@ -1,1 +1,1 @@\n-min: 3\n+min: 4"
COMPOSE = "--- now/docker-compose.yml\n+++ then/docker-compose.yml\n@@ -0,0 +1,1 @@\n+name: demo"


def files(**more: str) -> dict[str, Any]:
    found = {"docker-compose.yml": COMPOSE, "opa/abc/canary.rego": NEW.format(name="canary.rego"), **more}
    return {**END, "value": {"plan": [], "files": found}}


def test_a_new_policy_file_is_named_with_its_length(run: Any, daemon: Any, operations: Any) -> None:
    operations.answers["diff"] = [files()]
    assert run("diff").out == (
        f"\n{COMPOSE}\n\nNew policy files (--full shows them):\n  opa/abc/canary.rego, 3 lines\n"
    )


def test_full_shows_it_line_by_line(run: Any, daemon: Any, operations: Any) -> None:
    operations.answers["diff"] = [files()]
    assert run("diff", "--full").out == f"\n{COMPOSE}\n\n{NEW.format(name='canary.rego')}\n"


def test_what_changes_in_a_policy_is_shown_and_what_stays_is_not(run: Any, daemon: Any, operations: Any) -> None:
    operations.answers["diff"] = [files(**{"opa/def/data.json": CHANGED, "opa/def/authz.rego": ""})]
    out = run("diff").out
    assert CHANGED in out
    assert "authz" not in out


# ---------------------------------------------------------------- why


def test_why_without_a_daemon_says_so_and_what_to_run(
    run: Any, local: Any, operations: Any, status: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.cli.options.CONFIG_FILE", str(tmp_path / "none.yaml"))
    value = {**status["services"][0], "daemon": None}
    operations.answers["why"] = [{**END, "exit": 0, "value": value}]
    out = run("why", program="reconcilerctl").out
    assert out.endswith(
        "No daemon runs: nothing is watched, repaired or moved on by itself.\n"
        f"`reconcilerd --manifest {tmp_path}/manifest.yaml --state-dir {tmp_path}/state` does all that from now on; "
        "`reconcilerctl reconcile` looks once.\n"
    )
    operations.answers["why"] = [{**END, "exit": 0, "value": {**value, "phase": "absent"}}]
    assert "`swiftdeploy deploy` starts it." in run("why").out
    (tmp_path / "own.yaml").write_text(f"state_dir: {tmp_path}/state\n")
    assert f"`reconcilerd --config {tmp_path}/own.yaml` does all" in run("why", "--config", "own.yaml").out


def test_why_of_a_daemon_does_not_ask_for_one(run: Any, daemon: Any, operations: Any, status: Any) -> None:
    for answered in ({"daemon": {"pid": 1, "version": "0", "since": ""}}, {}):
        operations.answers["why"] = [{**END, "exit": 0, "value": {**status["services"][0], **answered}}]
        assert "No daemon" not in run("why").out


def test_why_says_that_the_record_was_lost(run: Any, daemon: Any, operations: Any, status: Any) -> None:
    value = {**status["services"][0], "is_rebuilt": True}
    operations.answers["why"] = [{**END, "exit": 0, "value": value}]
    assert "record of this rollout was lost; where it is was rebuilt from what runs." in run("why").out


def test_why_says_that_the_manifest_is_wrong(run: Any, daemon: Any, operations: Any, status: Any) -> None:
    value = {**status["services"][0], "reason": "", "problems": ["manifest.yaml:3:9: services.port is 99999."]}
    operations.answers["why"] = [{**END, "exit": 0, "value": value}]
    out = run("why").out
    assert "The manifest is wrong, so it stays there:\n  manifest.yaml:3:9: services.port is 99999." in out
    assert "asks for nothing else" not in out
