"""K15: secrets that are planted everywhere a secret may stand, and then looked for in all that is written."""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from reconciler.core.errors import ReconcilerError
from reconciler.formats import manifest
from reconciler.operations import Request
from tests.e2e.stack import Stack, wait_for
from tests.operations.desk_world import GOOD, Desk

pytestmark = pytest.mark.control("K15")

WITH_SECRETS = GOOD.replace("  port: 3000", "  port: 3000\n  environment: {API_KEY: VALUE}\n  env_file: app.env")


def planted() -> str:
    """A value that nothing else holds."""
    return f"canary{secrets.token_hex(12)}"


# ── in memory: every answer and every record ───────────────────────────────────────────────────────────────────────


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_no_answer_and_no_record_holds_an_environment_value(desk: Desk, tmp_path: Path) -> None:
    value, in_file = planted(), planted()
    (tmp_path / "app.env").write_text(f"TOKEN={in_file}\nURL=https://user:{in_file}@host/\n")
    os.utime(tmp_path / "app.env", (0, 0))
    desk.write(WITH_SECRETS.replace("VALUE", value))
    told = []
    for verb in ("validate", "diff", "deploy", "status", "why", "pause", "resume", "promote", "retry", "teardown"):
        try:
            told += list(desk.operations.run(_request(verb)))
        except ReconcilerError as error:
            told.append({"text": str(error)})
    records = desk.world.records
    assert any(record.get("actions") for record in records), "nothing was done"
    for text in (json.dumps(told), json.dumps(records, default=str)):
        assert value not in text
        assert in_file not in text


def _request(verb: str) -> Request:
    return Request(verb, {"reason": "test"}, "ann")


BROKEN = (
    "environment: {{API_KEY: [{0}]}}",
    "environment: {{API_KEY: {{a: {0}}}}}",
    "environment: ['{0}']",
    "environment: {0}",
    "environment: {{A: {0}, 'A': {0}x}}",
    "env: {{API_KEY: {0}}}\n  environment: {{API_KEY: {0}x}}",
    "environment: {{API_KEY: '${{{0}}}'}}",
    "env: [{0}, API_KEY={0}]",
    'environment: {{API_KEY: "{0}}}',
    "environment: {{API_KEY: !!x {0}}}",
    "environment: {{API_KEY: &a {0}}}",
    "environment:\n    API_KEY {0}",
    "environment: {{API_KEY: {0}\n",
)


@pytest.mark.parametrize("line", BROKEN)
def test_no_complaint_about_a_manifest_shows_an_environment_value(line: str) -> None:
    value = planted()
    data = GOOD.replace("  port: 3000", f"  port: 3000\n  {line.format(value)}").encode()
    reading = manifest.read(data)
    told = " ".join(map(str, (*reading.problems, *reading.warnings)))
    assert value not in told


@pytest.mark.parametrize("line", ["X {0}", "{0}", "1A={0}", "A='{0}", 'A="{0}', "A={0}\nB b={0}", "export\t{0}"])
def test_no_complaint_about_an_environment_file_shows_what_is_in_it(line: str) -> None:
    value = planted()
    data = GOOD.replace("  port: 3000", "  port: 3000\n  env_file: app.env").encode()
    reading = manifest.read(data, env_files={"app.env": line.format(value)})
    assert reading.problems
    assert value not in " ".join(map(str, reading.problems))


# ── on the real engine: everything that is written at all ──────────────────────────────────────────────────────────


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    engine = docker.from_env()
    made = Stack(tmp_path, engine)
    try:
        yield made
    finally:
        made.clean()
        engine.close()


MAY_HOLD = ("state/rendered/docker-compose.yml", "state/last-good.json", "state/revisions/")
"""Where an environment value stands: what starts the same containers again needs it (docs/security.md)."""


@pytest.mark.engine
def test_secrets_stand_only_where_they_must(stack: Stack) -> None:
    value, in_file, tester = planted(), planted(), planted()
    _plant(stack, value, in_file, tester)
    stack.start()
    wait_for("the first answer through nginx", stack.answers)
    stack.wait_converged()
    token = (stack.folder / "state/run/opa-token").read_text().strip()
    told = _everything_asked(stack, value)
    hidden = {"value": value, "in a file": in_file, "tester": tester, "OPA's token": token}
    for name, text in told.items():
        assert [what for what, secret in hidden.items() if secret in text] == [], f"{name} tells"
    for container in stack.containers():
        _check_inspection(container.attrs, hidden)
    stack.stop()
    holding = {what: _files_with(stack.folder, secret) for what, secret in hidden.items()}
    for what in ("value", "in a file"):
        kept = {path for path in holding[what] if path not in ("manifest.yaml", "app.env")}
        assert all(path.startswith(MAY_HOLD) for path in kept), kept
        assert any(path.startswith(MAY_HOLD) for path in kept), "the search finds nothing at all"
    maps = {path for path in holding["tester"] if path.startswith("state/rendered/nginx/live/testers/")}
    assert holding["tester"] - maps == {"secrets/testers"}
    assert holding["OPA's token"] == {"state/run/opa-token"}
    for path in (*maps, "state/run/opa-token"):
        assert stat.S_IMODE((stack.folder / path).stat().st_mode) & 0o077 == 0, f"{path} is open to others"
    assert stat.S_IMODE((stack.folder / "state").stat().st_mode) & 0o007 == 0, "the state directory is open to others"


def _plant(stack: Stack, value: str, in_file: str, tester: str) -> None:
    (stack.folder / "app.env").write_text(f"TOKEN={in_file}\nURL=https://user:{in_file}@example.invalid/\n")
    secret = stack.folder / "secrets" / "testers"
    secret.parent.mkdir()
    secret.write_text(tester)
    secret.chmod(0o600)
    stack.write(
        stack.manifest(
            service=f"environment: {{API_KEY: {value}}}\nenv_file: app.env\ntester_secret: file:testers\n"
            "healthcheck: {path: /healthz}"
        )
    )


def _everything_asked(stack: Stack, value: str) -> dict[str, str]:
    """What every verb says, in both forms, of a good manifest and of broken ones; and the daemon's own log."""
    told = {}
    verbs = ("status --once", "why", "diff", "validate", "history -n 0", "audit --out -", "doctor", "logs opa")
    for verb in verbs:
        for form in ((), ("-o", "json")):
            done = stack.run(*verb.split(), *form)
            told[" ".join((verb, *form))] = done.stdout + done.stderr
    good = stack.path.read_text()
    for number, broken in enumerate(
        (good.replace(f"API_KEY: {value}", f"API_KEY: [{value}]"), good.replace(f"{{API_KEY: {value}}}", value))
    ):
        stack.write(broken)
        done = stack.run("validate")
        assert done.returncode == 6
        told[f"broken {number}"] = done.stdout + done.stderr
        wait_for("the daemon has seen it", lambda: stack.status()["manifest"]["valid"] is False)
        told[f"status of broken {number}"] = json.dumps(stack.status())
    stack.write(good)
    wait_for("the daemon has seen it", lambda: stack.status()["manifest"]["valid"] is True)
    told["the log"] = stack.log.read_text()
    assert told["the log"], "the daemon has no log"
    return told


def _check_inspection(attrs: dict[str, object], hidden: dict[str, str]) -> None:
    """Only the service's own environment has its values; labels, arguments and mounts have none."""
    config = dict(attrs["Config"])  # type: ignore[call-overload]
    environment = json.dumps(config.pop("Env", None))
    rest = json.dumps({**attrs, "Config": config})
    assert [what for what, secret in hidden.items() if secret in rest] == []
    assert hidden["tester"] not in environment
    assert hidden["OPA's token"] not in environment


def _files_with(folder: Path, secret: str) -> set[str]:
    found = set()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and secret.encode() in path.read_bytes():
            found.add(str(path.relative_to(folder)))
    return found
