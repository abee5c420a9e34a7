"""The daemon's own file: the host's word on where the manifest comes from and who may wake the daemon."""

from __future__ import annotations

import pytest

from reconciler.core.errors import ManifestError
from reconciler.core.git_config import GitConfig, Signatures, WriteBack
from reconciler.formats.daemon_config import DaemonConfig, Flags, WebhookConfig, merged, read
from reconciler.formats.webhook import HookKind

URL = "https://git.example.com/shop.git"
WHOLE = f"""\
source:
  git:
    url: {URL}
    branch: release/1.x
    path: deploy/manifest.yaml
    poll: 20s
    timeout: 2m
    max_size: 512m
    signatures: every
    allowed_signers: /etc/swiftdeploy/allowed_signers
    gpg_home: /etc/swiftdeploy/gnupg
    allow_rewind: true
    ssh_key: /etc/swiftdeploy/deploy_key
    known_hosts: /etc/swiftdeploy/known_hosts
    username: bot
    token_file: /etc/swiftdeploy/token
    ca_file: /etc/ssl/ca.pem
    write_back:
      author: SwiftDeploy
      email: deploy@example.com
      signing_key: /etc/swiftdeploy/signing_key
      token_file: /etc/swiftdeploy/push_token
      attempts: 3
  folder: /srv/shop
state_dir: /var/lib/swiftdeploy
metrics_port: 0
group: docker
webhook: {{listen: "[::1]:9000", path: /push, secret_file: /etc/swiftdeploy/hook, kind: gitea}}
history: {{keep: 2g}}
log: {{level: debug, json: true}}
x-mine: whatever
"""


def told(text: str) -> list[str]:
    return [str(each) for each in read(text.encode(), "r.yaml").problems]


def warned(text: str) -> list[str]:
    reading = read(text.encode(), "r.yaml")
    assert reading.problems == ()
    return [str(each) for each in reading.warnings]


def git(*lines: str, url: str = URL) -> str:
    return f"source:\n  git:\n    url: {url}\n" + "".join(f"    {line}\n" for line in lines)


def config(text: str) -> DaemonConfig:
    reading = read(text.encode())
    assert reading.problems == ()
    assert reading.config is not None
    return reading.config


# --- what it says


def test_every_key_arrives() -> None:
    assert config(WHOLE) == DaemonConfig(
        git=GitConfig(
            url=URL,
            branch="release/1.x",
            path="deploy/manifest.yaml",
            poll_s=20.0,
            timeout_s=120.0,
            max_bytes=512 * 2**20,
            signatures=Signatures.EVERY,
            allowed_signers="/etc/swiftdeploy/allowed_signers",
            gpg_home="/etc/swiftdeploy/gnupg",
            allow_rewind=True,
            ssh_key="/etc/swiftdeploy/deploy_key",
            known_hosts="/etc/swiftdeploy/known_hosts",
            username="bot",
            token_file="/etc/swiftdeploy/token",
            ca_file="/etc/ssl/ca.pem",
            write_back=WriteBack(
                author="SwiftDeploy",
                email="deploy@example.com",
                signing_key="/etc/swiftdeploy/signing_key",
                token_file="/etc/swiftdeploy/push_token",
                attempts=3,
            ),
        ),
        folder="/srv/shop",
        state_dir="/var/lib/swiftdeploy",
        metrics_port=0,
        group="docker",
        webhook=WebhookConfig("/etc/swiftdeploy/hook", "::1", 9000, "/push", HookKind.GITEA),
        history_keep_bytes=2 * 2**30,
        log_level="debug",
        log_json=True,
    )
    assert warned(WHOLE) == []


@pytest.mark.parametrize("text", ["", "\n", "# source: {}\n\n", "x-a: 1\n", "source: {}\n"])
def test_what_says_nothing_is_nothing(text: str) -> None:
    assert config(text) == DaemonConfig()


def test_a_source_of_git_has_defaults() -> None:
    assert config(git()).git == GitConfig(URL)
    assert GitConfig(URL).ref == "refs/heads/main"
    assert GitConfig(URL, tag="v1").ref == "refs/tags/v1"
    assert GitConfig(URL, commit="a" * 40).ref == "a" * 40


@pytest.mark.parametrize("listen", ["127.0.0.1:9470", "localhost:80", '"[::1]:65535"'])
def test_loopback_is_listened_on_without_a_word(listen: str) -> None:
    assert warned(f"webhook: {{listen: {listen}, secret_file: /x}}\n") == []


@pytest.mark.parametrize("listen", ["0.0.0.0:9470", "192.0.2.1:80", '"[::]:80"'])
def test_an_address_of_the_network_is_warned_of(listen: str) -> None:
    assert "without TLS" in warned(f"webhook: {{listen: {listen}, secret_file: /x}}\n")[0]


def test_trust_without_a_mode_is_warned_of() -> None:
    words = warned(git("allowed_signers: /etc/a"))
    assert words == ["r.yaml:4:5: source.git.allowed_signers has no effect while signatures is off. Use head or every."]


# --- what is refused


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("- a\n", "1:1", "the configuration is not a mapping"),
        ("5\n", "1:1", "the configuration is not a mapping"),
        ("source: [", "2:1", "not valid YAML"),
        ("sources: {}\n", "1:1", "Did you mean source?"),
        ("source: {manifest: manifest.yaml}\n", "1:20", "Use an absolute path"),
        ("source: {manifest: /a/../b}\n", "1:20", "Use an absolute path"),
        ("source: {folder: ''}\n", "1:18", "is empty"),
        ("state_dir: ~\n", "1:12", "has no value"),
        ("metrics_port: 70000\n", "1:15", "Use a port from 1 to 65535, or 0 for none"),
        ("group: 'a b'\n", "1:8", "Use the name of a group"),
        ("log: {level: loud}\n", "1:14", "Use debug, info, warning or error."),
        ("log: {json: yes}\n", "1:13", "Use true or false."),
        ("source: {git: {}}\n", "1:15", "source.git.url is missing"),
        ("source: {git: https://x/y}\n", "1:15", "Use a mapping with url."),
        (git("brach: main"), "4:5", "Did you mean branch?"),
        (git("signature: every"), "4:5", "Did you mean signatures?"),
        (git("branch: main", "tag: v1"), "5:5", "source.git.tag stands beside source.git.branch. Keep one of them."),
        (git("branch: -x"), "4:13", "source.git.branch cannot be used"),
        (git("branch: a..b"), "4:13", "source.git.branch cannot be used"),
        (git("branch: 'a b'"), "4:13", "source.git.branch cannot be used"),
        (git("branch: 1.10"), "4:13", "Put it in quotes"),
        (git("tag: 'a\\b'"), "4:10", "source.git.tag cannot be used"),
        (git("commit: abc"), "4:13", "source.git.commit cannot be used"),
        (git("path: /etc/passwd"), "4:11", "source.git.path cannot be used"),
        (git("path: a/../b"), "4:11", "source.git.path cannot be used"),
        (git("path: .git/config"), "4:11", "source.git.path cannot be used"),
        (git("poll: 0.5s"), "4:11", "Use a time from 1s to 1h."),
        (git("poll: 2h"), "4:11", "Use a time from 1s to 1h."),
        (git("timeout: soon"), "4:14", "Use a number of seconds"),
        (git("max_size: 1k"), "4:15", "Use a size of 1m or more"),
        (git("max_size: 100"), "4:15", "Use a number of bytes"),
        (git("signatures: all"), "4:17", "Use off, head or every."),
        (git("signatures: head"), "4:17", "nobody is trusted. Add allowed_signers or gpg_home."),
        (git("allowed_signers: signers"), "4:22", "Use an absolute path"),
        (git("token: hunter2"), "4:5", "has no effect"),
        (git("write_back: {author: A}"), "4:17", "source.git.write_back.email is missing"),
        (git("write_back: {author: 'A <a>', email: a@b.c}"), "4:26", "Use a name on one line"),
        (git("write_back: {author: A, email: a@b.c, signing_key: key}"), "4:56", "Use the absolute path"),
        (
            git("write_back: {author: A, email: a@b.c, signing_key: /k, signing_format: openpgp}"),
            "4:56",
            "Use a fingerprint",
        ),
        (git("write_back: {author: A, email: a@b.c, attempts: 0}"), "4:53", "Use a whole number from 1 to 20."),
        (git() + "  manifest: /x\n", "4:3", "source.manifest stands beside source.git."),
        ("webhook: {}\n", "1:10", "webhook"),
        ("webhook: {listen: 127.0.0.1:1}\n", "1:10", "webhook.secret_file is missing"),
        ("webhook: {secret_file: /x, listen: 9470}\n", "1:36", "webhook.listen is the number 9470"),
        ("webhook: {secret_file: /x, listen: 127.0.0.1}\n", "1:36", "is no address and port"),
        ("webhook: {secret_file: /x, listen: example.com:1}\n", "1:36", "is no address and port"),
        ("webhook: {secret_file: /x, listen: 127.0.0.1:0}\n", "1:36", "has the port 0"),
        ("webhook: {secret_file: /x, listen: 300.0.0.1:1}\n", "1:36", "is no address and port"),
        ("webhook: {secret_file: /x, path: hooks}\n", "1:34", "Use a path such as /hooks."),
        ("webhook: {secret_file: /x, kind: bitbucket}\n", "1:34", "Use auto, github"),
        ("webhook: {secret: abc}\n", "1:10", "webhook.secret_file is missing"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, place: str, words: str) -> None:
    reading = read(text.encode(), "r.yaml")
    found = [str(each) for each in (*reading.problems, *reading.warnings)]
    assert any(each.startswith(f"r.yaml:{place}: ") and words in each for each in found), found
    assert all("the manifest" not in each for each in found)


@pytest.mark.control("K11")
@pytest.mark.attack("T")
@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@git.example.com/x",
        "https://hunter2@git.example.com/x",
        "ssh://git:hunter2@host/x",
        "'ext::sh -c hunter2'",
        "fd::7",
        "-uhunter2",
        "'--upload-pack=hunter2'",
        "'https://host/a b'",
        "http://git.example.com/x",
        "git://git.example.com/x",
        "ftp://host/x",
        "https://",
        "relative/path",
        "'https://host/x\\ny'",
        '"https://host/x\\ny"',
        "https://host:99999/x",
        "/srv/../etc",
        "''",
        f"https://user:hunter2@host/{'a' * 3000}",
    ],
)
def test_addresses_that_could_do_harm_are_refused_and_never_repeated(url: str) -> None:
    found = told(git(url=url))
    assert len(found) == 1
    assert found[0].startswith("r.yaml:3:10: source.git.url ")
    assert "hunter2" not in found[0]


@pytest.mark.parametrize(
    "url", [URL, "ssh://git@host:2222/x.git", "git@host:team/x.git", "/srv/git/x.git", "file:///srv/x"]
)
def test_addresses_of_each_kind_are_taken(url: str) -> None:
    found = config(git(url=url)).git
    assert found is not None
    assert found.url == url


def test_everything_wrong_is_told_at_once() -> None:
    assert len(told(git("poll: 0s", "path: ../x", "signatures: x") + "state_dir: 5\nmetrics_port: -1\n")) == 5


def test_a_file_of_nothing_but_noise_is_no_crash() -> None:
    for data in (b"\xff\xfe", b"a" * 300_000, b"[" * 50_000, b"\0", b"a: &x 1\nb: *x\n"):
        assert read(data).problems


# --- flags over the file


FILE = config(WHOLE)


def test_without_flags_the_file_stands() -> None:
    assert merged(FILE, Flags()) == FILE
    assert merged(DaemonConfig(), Flags()) == DaemonConfig()


def test_flags_win() -> None:
    flags = Flags(state_dir="/tmp/s", metrics_port=9999, group="wheel", log_level="error", log_json=False)
    found = merged(FILE, flags)
    assert (found.state_dir, found.metrics_port, found.group) == ("/tmp/s", 9999, "wheel")
    assert (found.log_level, found.log_json, found.git) == ("error", False, FILE.git)


def test_a_manifest_on_the_command_line_replaces_the_repository() -> None:
    found = merged(FILE, Flags(manifest="/srv/manifest.yaml"))
    assert (found.git, found.manifest) == (None, "/srv/manifest.yaml")


def test_a_repository_on_the_command_line_replaces_the_manifest() -> None:
    found = merged(config("source: {manifest: /srv/m.yaml}\n"), Flags(git=URL, branch="next", path="a/m.yaml"))
    assert found.manifest is None
    assert found.git == GitConfig(URL, branch="next", path="a/m.yaml")


def test_a_branch_on_the_command_line_lifts_a_pin() -> None:
    found = merged(config(git("tag: v1")), Flags(branch="main")).git
    assert found == GitConfig(URL, branch="main")


@pytest.mark.control("K11")
def test_keys_and_tokens_are_not_sent_to_another_address_but_trust_stays() -> None:
    assert FILE.git is not None
    assert merged(FILE, Flags(git=URL)).git == FILE.git
    found = merged(FILE, Flags(git="https://elsewhere.example/x")).git
    assert found is not None
    assert (found.ssh_key, found.username, found.token_file, found.write_back) == (None, None, None, None)
    assert (found.signatures, found.allowed_signers) == (Signatures.EVERY, FILE.git.allowed_signers)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (Flags(git="https://u:hunter2@h/x"), "--git cannot be used"),
        (Flags(git=URL, branch="-x"), "--branch cannot be used"),
        (Flags(git=URL, path="../x"), "--path cannot be used"),
        (Flags(git=URL, manifest="/x"), "--git stands beside --manifest"),
        (Flags(branch="main"), "need a repository. Add --git URL."),
    ],
)
def test_flags_that_cannot_be_used_are_refused(flags: Flags, words: str) -> None:
    with pytest.raises(ManifestError, match=words) as raised:
        merged(DaemonConfig(), flags)
    assert "hunter2" not in str(raised.value)
