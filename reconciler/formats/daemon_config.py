"""The daemon's own file, `/etc/swiftdeploy/reconciler.yaml`: text to DaemonConfig, with all that is wrong told at once.

It is the host's word on where the manifest comes from and who may wake the daemon; a manifest cannot change it. What
it leaves out stays None: the command line's flags and their defaults fill it (`merged`).
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from reconciler.core.errors import ManifestError, Problem
from reconciler.core.git_config import GitConfig, Signatures, WriteBack
from reconciler.formats import git_url, known_keys, structure, yaml_strict
from reconciler.formats.findings import Findings
from reconciler.formats.quantities import seconds, size
from reconciler.formats.schema import CONFIG
from reconciler.formats.webhook import HookKind
from reconciler.formats.yaml_strict import Node

CONFIG_FILE = "/etc/swiftdeploy/reconciler.yaml"
LEAST_BYTES = 1024 * 1024
_TIMES_S = (1.0, 3600.0)


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """Where to listen for a git server's hints; `secret_file` is an absolute path."""

    secret_file: str
    host: str = "127.0.0.1"
    port: int = 9470
    path: str = "/hooks"
    kind: HookKind = HookKind.AUTO


@dataclass(frozen=True, slots=True)
class DaemonConfig:
    """What the daemon's file says, or file and flags together; None is "not said".

    The source is `git`, or else the file `manifest`. `folder` is where relative mounts and `secrets/` are on this host.
    All paths are absolute.
    """

    git: GitConfig | None = None
    manifest: str | None = None
    folder: str | None = None
    state_dir: str | None = None
    metrics_port: int | None = None
    group: str | None = None
    webhook: WebhookConfig | None = None
    history_keep_bytes: int | None = None
    log_level: str | None = None
    log_json: bool | None = None


NO_CONFIG = DaemonConfig()
"""Nothing was said."""


@dataclass(frozen=True, slots=True)
class Flags:
    """What was said on the command line; None is "not said"."""

    git: str | None = None
    branch: str | None = None
    path: str | None = None
    manifest: str | None = None
    state_dir: str | None = None
    metrics_port: int | None = None
    group: str | None = None
    log_level: str | None = None
    log_json: bool | None = None


@dataclass(frozen=True, slots=True)
class ConfigReading:
    """What the file says: `config` unless there are `problems`; `warnings` never stop anything."""

    config: DaemonConfig | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = field(default=())


def read(data: bytes, file: str = CONFIG_FILE) -> ConfigReading:
    """What the daemon's file asks for, or all that is wrong with it. Nothing but comments is fine. Never raises."""
    if all(not line or line.startswith(b"#") for line in map(bytes.strip, data.splitlines())):
        return ConfigReading(DaemonConfig())
    findings = Findings(file)
    try:
        root = yaml_strict.load(data, file)
    except ManifestError as error:
        return ConfigReading(None, error.problems)
    if not isinstance(root.value, dict):
        findings.problem(root, "the configuration is not a mapping. Start with the key source.")
        return ConfigReading(None, findings.problems)
    known_keys.drop_unknown(root, CONFIG.whole(), findings, CONFIG.page)
    structure.check(root, findings, CONFIG)
    config = _config(root, findings)
    return ConfigReading(None if findings.problems else config, findings.problems, findings.warnings)


def _config(root: Node, findings: Findings) -> DaemonConfig:
    git, manifest = root.at("source", "git"), root.at("source", "manifest")
    if git is not None and manifest is not None:
        key = root.mapping["source"].keys["manifest"]
        findings.problem(key, "source.manifest stands beside source.git. Keep one: git.path says where it is in there.")
    hook, keep = root.at("webhook"), root.at("history", "keep")
    return DaemonConfig(
        git=_git(git, findings) if git is not None else None,
        manifest=_text(manifest),
        folder=_text(root.at("source", "folder")),
        state_dir=_text(root.at("state_dir")),
        metrics_port=_whole(root.at("metrics_port")),
        group=_text(root.at("group")),
        webhook=_webhook(hook, findings) if hook is not None else None,
        history_keep_bytes=_size(keep, LEAST_BYTES, findings) if keep is not None else None,
        log_level=_text(root.at("log", "level")),
        log_json=_flag(root.at("log", "json")),
    )


# --- the repository


def _git(node: Node, findings: Findings) -> GitConfig:
    _check_names(node, findings)
    _check_pin(node, findings)
    _check_signatures(node, findings)
    given = {key: _text(node.at(key)) for key in ("branch", "tag", "commit", *_PLAIN) if node.at(key) is not None}
    config = GitConfig(url=_text(node.at("url")) or "", **given)  # type: ignore[arg-type]
    back = node.at("write_back")
    return dataclasses.replace(
        config,
        poll_s=_time(node.at("poll"), config.poll_s, findings),
        timeout_s=_time(node.at("timeout"), config.timeout_s, findings),
        max_bytes=_size(node.at("max_size"), config.max_bytes, findings),
        signatures=Signatures(_text(node.at("signatures")) or Signatures.OFF),
        allow_rewind=bool(_flag(node.at("allow_rewind"))),
        write_back=_write_back(back, findings) if back is not None else None,
    )


_PLAIN = ("path", "allowed_signers", "gpg_home", "ssh_key", "known_hosts", "username", "token_file", "ca_file")
_NAMES: tuple[tuple[str, Callable[[str], object]], ...] = (
    ("url", git_url.remote),
    ("branch", git_url.branch),
    ("tag", git_url.branch),
    ("commit", git_url.commit_id),
    ("path", git_url.path),
)


def _trouble(read_as: Callable[[str], object], text: str) -> str:
    """What is wrong with `text`, which is not repeated: an address may hold a password."""
    try:
        read_as(text)
    except ValueError as error:
        return f"{error}."
    return ""


def _check_names(node: Node, findings: Findings) -> None:
    for key, read_as in _NAMES:
        name = node.at(key)
        if name is not None and (trouble := _trouble(read_as, str(name.value))):
            findings.problem(name, f"{name.path} cannot be used: {trouble}")


def _check_pin(node: Node, findings: Findings) -> None:
    """One of branch, tag and commit."""
    given = [key for key in ("branch", "tag", "commit") if node.at(key) is not None]
    for key in given[1:]:
        findings.problem(node.keys[key], f"{node.path}.{key} stands beside {node.path}.{given[0]}. Keep one of them.")


def _check_signatures(node: Node, findings: Findings) -> None:
    """Signatures are asked for together with whose they must be; one without the other protects nothing."""
    mode = node.at("signatures")
    keys = [key for key in ("allowed_signers", "gpg_home") if node.at(key) is not None]
    if mode is not None and mode.value != Signatures.OFF and not keys:
        findings.problem(mode, f"{mode.path} is {mode.text}, and nobody is trusted. Add allowed_signers or gpg_home.")
    elif keys and (mode is None or mode.value == Signatures.OFF):
        findings.warning(
            node.keys[keys[0]], f"{node.path}.{keys[0]} has no effect while signatures is off. Use head or every."
        )


def _write_back(node: Node, findings: Findings) -> WriteBack:
    key, style = node.at("signing_key"), _text(node.at("signing_format")) or "ssh"
    if key is not None and (style == "ssh") != str(key.value).startswith("/"):
        wanted = "the path of a private key" if style == "ssh" else "a fingerprint of 40 or 64 characters"
        findings.problem(key, f"{key.path} does not fit signing_format: {style}. Use {wanted}.")
    given = {each: _text(node.at(each)) for each in ("signing_key", "ssh_key", "username", "token_file")}
    return WriteBack(
        author=_text(node.at("author")) or "",
        email=_text(node.at("email")) or "",
        signing_format=style,
        attempts=_whole(node.at("attempts")) or 5,
        **given,
    )


# --- the webhook


_LISTEN = re.compile(r"(?:(localhost|[0-9.]{7,15})|\[([0-9A-Fa-f:.]{2,45})\]):([0-9]{1,5})")


def _webhook(node: Node, findings: Findings) -> WebhookConfig:
    config = WebhookConfig(secret_file=_text(node.at("secret_file")) or "")
    if (listen := node.at("listen")) is not None:
        host, port = _address(listen, findings)
        config = dataclasses.replace(config, host=host, port=port)
    return dataclasses.replace(
        config,
        path=_text(node.at("path")) or config.path,
        kind=HookKind(_text(node.at("kind")) or HookKind.AUTO),
    )


def _address(node: Node, findings: Findings) -> tuple[str, int]:
    found = _LISTEN.fullmatch(str(node.value))
    try:
        address = ipaddress.ip_address("127.0.0.1" if found and found[1] == "localhost" else found[1] or found[2])  # type: ignore[index]
    except (TypeError, ValueError):
        findings.problem(node, f"{node.path} is no address and port. Use one such as 127.0.0.1:9470 or [::1]:9470.")
        return "127.0.0.1", 0
    port = int(found[3]) if found else 0
    if not 1 <= port <= 65535:
        findings.problem(node, f"{node.path} has the port {port}. Use one from 1 to 65535.")
    if not address.is_loopback:
        findings.warning(
            node, f"{node.path} answers to the network, without TLS. Listen on 127.0.0.1 behind a proxy with TLS."
        )
    return str(address), port


# --- single values; what had the wrong shape is gone from the tree, so it counts as not said


def _text(node: Node | None) -> str | None:
    return str(node.value) if node is not None else None


def _whole(node: Node | None) -> int | None:
    return node.value if node is not None and isinstance(node.value, int) else None


def _flag(node: Node | None) -> bool | None:
    return bool(node.value) if node is not None else None


def _time(node: Node | None, default_s: float, findings: Findings) -> float:
    if node is None:
        return default_s
    value = seconds(node.value)
    if value is None or not _TIMES_S[0] <= value <= _TIMES_S[1]:
        findings.problem(node, f"{node.path} is {node.text}. Use a time from 1s to 1h.")
        return default_s
    return value


def _size(node: Node | None, default: int, findings: Findings) -> int:
    if node is None:
        return default
    value = size(node.value)
    if value is None or value < LEAST_BYTES:
        findings.problem(node, f"{node.path} is {node.text}. Use a size of 1m or more, for example 1g.")
        return default
    return value


# --- the command line over the file


def merged(config: DaemonConfig, flags: Flags) -> DaemonConfig:
    """File and flags as one: what a flag says wins. Raises ManifestError where a flag cannot be used.

    `--manifest` puts a file in the place of the configured repository, `--git` the other way round. `--git` with
    another address than the configured one keeps what protects (signatures, sizes, times) but sends no configured
    key or token there, and writes nothing back. `--branch` also lifts a configured tag or commit.
    """
    problems = [Problem("command line", 0, 0, trouble) for trouble in _flag_troubles(config, flags)]
    if problems:
        raise ManifestError(problems)
    git = None if flags.manifest is not None else _merged_git(config.git, flags)
    said = {
        name: value
        for name in ("state_dir", "metrics_port", "group", "log_level", "log_json")
        if (value := getattr(flags, name)) is not None
    }
    manifest = None if git is not None else flags.manifest or config.manifest
    return dataclasses.replace(config, git=git, manifest=manifest, **said)


def _flag_troubles(config: DaemonConfig, flags: Flags) -> list[str]:
    troubles = []
    named = (("--git", flags.git, git_url.remote), ("--branch", flags.branch, git_url.branch))
    for name, value, read_as in (*named, ("--path", flags.path, git_url.path)):
        if value is not None and (trouble := _trouble(read_as, value)):
            troubles.append(f"{name} cannot be used: {trouble}")
    if flags.git is not None and flags.manifest is not None:
        troubles.append("--git stands beside --manifest. Keep one: --path says where the manifest is in there.")
    is_git = flags.git is not None or (config.git is not None and flags.manifest is None)
    if not is_git and (flags.branch is not None or flags.path is not None):
        troubles.append("--branch and --path need a repository. Add --git URL.")
    return troubles


def _merged_git(git: GitConfig | None, flags: Flags) -> GitConfig | None:
    if flags.git is not None:
        git = GitConfig(flags.git) if git is None else _moved(git, flags.git)
    if git is None:
        return None
    if flags.branch is not None:
        git = dataclasses.replace(git, branch=flags.branch, tag=None, commit=None)
    return dataclasses.replace(git, path=flags.path) if flags.path is not None else git


def _moved(git: GitConfig, url: str) -> GitConfig:
    """The same trust for another address, and none of the keys that belong to the first one."""
    if url == git.url:
        return git
    return dataclasses.replace(
        git, url=url, ssh_key=None, known_hosts=None, username=None, token_file=None, ca_file=None, write_back=None
    )
