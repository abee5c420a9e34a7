"""A commit is what runs: pushed, told by a webhook, trusted, rolled out, promoted, and named wherever one looks."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import Stack, free_port, wait_for
from tests.git.git_servers import Web, keygen
from tests.git.git_world import Repo

SECRET = "a-secret-of-the-tests-0123456789"


class Site:
    """A stack whose manifest comes from a repository behind a real web server."""

    def __init__(self, stack: Stack, folder: Path, url: str, repo: Repo) -> None:
        self.stack, self.folder, self.repo = stack, folder, repo
        self.hooks = free_port()
        stack.path.unlink()
        self.key = keygen(folder / "ann")
        self.signers = folder / "signers"
        self.signers.write_text(f'ann@example.com namespaces="git" {(folder / "ann.pub").read_text()}')
        (folder / "secret").write_text(SECRET)
        (folder / "secret").chmod(0o600)
        self.is_signed = os.geteuid() == 0  # the list of signers must be root's
        trust = f"    signatures: every\n    allowed_signers: {self.signers}\n" if self.is_signed else ""
        (folder / "reconciler.yaml").write_text(
            f"source:\n  git:\n    url: {url}\n    path: deploy/manifest.yaml\n    poll: 1h\n{trust}"
            f"  folder: {stack.folder}\nstate_dir: {stack.folder}/state\nmetrics_port: 0\n"
            f"webhook: {{listen: '127.0.0.1:{self.hooks}', secret_file: {folder}/secret}}\n"
        )

    def start(self) -> None:
        self.stack.start("--config", str(self.folder / "reconciler.yaml"))

    def commit(self, text: str, subject: str, *, signed: bool = True) -> str:
        self.repo.write("deploy/manifest.yaml", text)
        sign = ["-S"] if signed and self.is_signed else []
        self.repo.git("config", "gpg.format", "ssh")
        self.repo.git("config", "user.signingkey", str(self.key))
        return self.repo.commit_all(subject, *sign)

    def tell(self) -> int:
        """What the git server does after a push."""
        body = json.dumps({"ref": "refs/heads/main"}).encode()
        proof = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        connection = http.client.HTTPConnection("127.0.0.1", self.hooks, timeout=10)
        headers = {
            "X-Hub-Signature-256": f"sha256={proof}",
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
        }
        connection.request("POST", "/hooks", body, headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    def command(self, *words: str) -> Any:
        return self.stack.run(*words, "--config", str(self.folder / "reconciler.yaml"))

    def source(self) -> dict[str, Any]:
        return dict(self.stack.status()["source"])


@pytest.fixture
def site(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("git")
    repo = Repo(folder / "base" / "repo")
    with Web(folder / "base", folder).serving() as web:
        yield Site(stack, folder, f"{web.url}/repo", repo)


def test_a_commit_becomes_what_runs_and_every_record_names_it(site: Site) -> None:
    stack = site.stack
    first = site.commit(stack.manifest(service="version: 1.0.0"), "the first release")
    site.start()
    wait_for("the first release", lambda: stack.answers("1.0.0"))
    stack.wait_converged()
    assert site.source()["commit"]["id"] == first

    second = site.commit(stack.manifest(service="version: 2.0.0"), "the second | release")
    assert site.tell() == 202
    wait_for("the second release", lambda: stack.answers("2.0.0"))
    shown = stack.wait_converged()["source"]["commit"]
    assert (shown["id"], shown["author"], shown["subject"]) == (
        second,
        "Ann Example <ann@example.com>",
        "the second | release",
    )
    assert shown["signer"] == ("ann@example.com" if site.is_signed else None)

    labels = {c.labels.get("io.swiftdeploy.commit") for c in stack.containers("app")}
    assert labels == {second}, "the commit that made a container is on it"
    records = [record for record in stack.history() if record["kind"] == "cycle" and record["commit"]]
    assert next(record["trigger"]["kind"] for record in records if record["commit"]["id"] == second) == "git"
    assert stack.run("audit").returncode == 0
    report = (stack.folder / "audit_report.md").read_text()
    assert second[:12] in report
    assert "release (Ann Example" in report
    assert "second | release" not in report, "a subject must not make cells"
    text = stack.run("status", "--once").stdout
    assert f"commit {second[:12]} the second | release" in text

    if site.is_signed:
        refused = site.commit(stack.manifest(service="version: 3.0.0"), "by a stranger", signed=False)
        assert site.tell() == 202
        wait_for("the refusal", lambda: site.source()["trouble"])
        assert stack.answers("2.0.0")
        assert refused[:12] in stack.run("status", "--once").stdout
        done = site.command("git", "accept", refused[:12], "--reason", "agreed on the phone")
        assert (done.returncode, f"Accepted {refused[:12]}" in done.stdout) == (0, True), done.stderr
        wait_for("the accepted one", lambda: stack.answers("3.0.0"))
        words = [word for record in stack.history() for word in record.get("words", ())]
        assert any(word["word"] == "accept" and refused in word["detail"] for word in words)


def test_a_change_of_nothing_but_the_commit_touches_no_container(site: Site) -> None:
    stack = site.stack
    text = stack.manifest(service="version: 1.0.0")
    site.commit(text, "the first release")
    site.start()
    wait_for("the first release", lambda: stack.answers("1.0.0"))
    stack.wait_converged()
    before = {c.id for c in stack.containers()}
    second = site.commit(f"# a word more\n{text}", "only a comment")
    assert site.tell() == 202
    wait_for("the commit in force", lambda: site.source()["commit"]["id"] == second)
    stack.wait_converged()
    assert {c.id for c in stack.containers()} == before
    compared = site.command("diff", "--commit", site.repo.head("HEAD~1"))
    assert compared.returncode == 0, compared.stdout + compared.stderr
