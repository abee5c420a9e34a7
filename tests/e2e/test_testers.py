"""Who knows the secret must meet the canary at 5 %, nobody else must, and the secret must stay where it was put."""

from __future__ import annotations

import http.client
import json
import secrets
from contextlib import closing
from pathlib import Path

from tests.e2e.stack import Stack, wait_for

STEPS = "rollout: {steps: [{weight: 5, duration: 20m}], watch: 0s}\ntester_secret: file:tester"
TRIES = 20


def put_secret(stack: Stack, mode: int = 0o600) -> str:
    secret = secrets.token_hex(32)
    path = stack.folder / "secrets/tester"
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(f"{secret}\n")
    path.chmod(mode)
    return secret


def versions(stack: Stack, secret: str, wish: str) -> set[str]:
    """Who answers this tester."""
    found = set()
    with closing(http.client.HTTPConnection("127.0.0.1", stack.port, timeout=10)) as connection:
        for _ in range(TRIES):
            connection.request("GET", "/", headers={"X-Canary-Secret": secret, "X-Canary": wish})
            found.add(str(json.loads(connection.getresponse().read())["version"]))
    return found


def holders(folder: Path, secret: str) -> list[str]:
    """Every file that has the secret in it."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and secret.encode() in path.read_bytes()
    )


def test_testers_must_meet_the_canary_and_the_secret_must_stay_in_its_place(stack: Stack) -> None:
    secret = put_secret(stack)
    stack.write(stack.manifest(service=STEPS))
    stack.start()
    stack.wait_converged()
    stack.write(stack.manifest(service=f'version: "2.0.0"\n{STEPS}'))
    wait_for("a tester meets the canary", lambda: versions(stack, secret, "always") == {"2.0.0"})
    assert versions(stack, secret, "never") == {"1.0.0"}
    assert "1.0.0" in versions(stack, "f" * 64, "always")

    status = stack.run("status", "--once", "-o", "json").stdout
    diff = stack.run("diff", "-o", "json").stdout
    said = status + diff + stack.run("diff").stdout + stack.run("history").stdout + stack.run("why").stdout
    assert "2.0.0" in said
    assert secret not in said
    assert not [c.name for c in stack.containers() if secret.encode() in c.logs() + json.dumps(c.attrs).encode()]
    kept = holders(stack.folder, secret)
    assert len(kept) == 2, kept
    assert kept[0] == "secrets/tester"
    assert kept[1].startswith("state/rendered/nginx/live/testers/app.")

    later = put_secret(stack)
    wait_for("the new secret is in force", lambda: versions(stack, later, "always") == {"2.0.0"})
    assert "1.0.0" in versions(stack, secret, "always")
    assert holders(stack.folder / "state", secret) == []

    (included,) = (path for path in holders(stack.folder, later) if path.startswith("state/"))
    (stack.folder / included).write_text('"~^mine-alone-0123456$" 1;\n')
    wait_for("what was harmed is mended", lambda: later in (stack.folder / included).read_text())


def test_a_secret_that_others_may_read_must_change_nothing(stack: Stack) -> None:
    put_secret(stack)
    stack.write(stack.manifest(service=STEPS))
    checked = stack.run("validate")
    assert (checked.returncode, checked.stdout.count("PASS")) == (0, 5), checked.stdout
    assert stack.run("deploy").returncode == 0
    before = {container.id for container in stack.containers()}
    (stack.folder / "secrets/tester").chmod(0o644)
    done = stack.run("validate")
    assert done.returncode == 6, done.stdout + done.stderr
    assert "secrets/tester is open to others (mode 0644). `chmod 600 secrets/tester`" in done.stdout
    assert stack.run("deploy").returncode != 0
    assert {container.id for container in stack.containers()} == before
    assert stack.answers()
