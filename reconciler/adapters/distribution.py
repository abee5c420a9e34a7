"""Root filesystems from distribution packages, for machines that reach a package mirror but no image registry.

Needs neither root nor a bootstrap tool: `apt-get` resolves and downloads into a directory of our own (with the
machine's mirror, keyring and proxy, but an empty package database), `dpkg-deb` unpacks, and a filter keeps what runs.
Nothing is installed on this machine and no maintainer script is run.
"""

from __future__ import annotations

import fnmatch
import io
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from reconciler.core.errors import EngineError

APT_TIMEOUT_S = 600

# What no container ever reads; copyright files stay.
DOCUMENTATION = (
    "usr/share/doc/*/[!c]*",
    "usr/share/doc/*/changelog*",
    "usr/share/bash-completion/*",
    "usr/share/doc-base/*",
    "usr/share/info/*",
    "usr/share/lintian/*",
    "usr/share/locale/*",
    "usr/share/man/*",
    "usr/share/debconf/*",
    "usr/share/perl5/*",
    "usr/share/pixmaps/*",
    "usr/lib/*/gconv/*",
    "usr/lib/*/audit/*",
    "usr/lib/systemd/*",
    "usr/share/gcc*",
    "usr/share/gdb/*",
    "var/lib/systemd/*",
    "etc/init.d/*",
    "etc/default/*",
    "etc/logrotate.d/*",
    "etc/ufw/*",
    "etc/apt/*",
    "etc/debconf.conf",
    "usr/sbin/dpkg-*",
    "usr/bin/debconf*",
)

_MERGED = frozenset({"bin", "sbin", "lib", "lib32", "lib64", "libx32"})


@dataclass(frozen=True, slots=True)
class AptSource:
    """One place packages come from, as this machine's own apt configuration describes it."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""

    def for_suite(self, suite: str, components: Iterable[str]) -> str:
        """The same mirror and keyring, another suite, as a deb822 stanza."""
        stanza = f"Types: deb\nURIs: {self.uri}\nSuites: {suite}\nComponents: {' '.join(components)}\n"
        return stanza + (f"Signed-By: {self.signed_by}\n" if self.signed_by else "")


@dataclass(frozen=True, slots=True)
class Distribution:
    """Which Debian or Ubuntu this is, and the mirror it uses."""

    id: str
    codename: str
    mirror: AptSource


@dataclass(frozen=True, slots=True)
class Entry:
    """Something added to a root filesystem: a file (`content`), a symbolic link (`link`) or else a directory."""

    path: str
    content: bytes | None = None
    link: str | None = None
    mode: int = 0o755
    owner: int = 0


# ── reading the machine's own configuration: pure ──────────────────────────────────────────────────────────────────


def parse_one_line_sources(text: str) -> tuple[AptSource, ...]:
    """The `deb` lines of a sources.list; what is commented out, malformed or `deb-src` is no source of ours."""
    found = []
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<rest>[^#]*)", line)
        words = match["rest"].split() if match else []
        if match is None or len(words) < 3:
            continue
        options = dict(option.split("=", 1) for option in (match["options"] or "").split() if "=" in option)
        found.append(AptSource(words[0], (words[1],), tuple(words[2:]), options.get("signed-by", "")))
    return tuple(found)


def parse_deb822_sources(text: str) -> tuple[AptSource, ...]:
    """The enabled `deb` stanzas of a .sources file; an inline key (several lines) is kept as it is written."""
    found = []
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields = {
            match[1].lower(): match[2].strip()
            for match in re.finditer(r"^([A-Za-z][\w-]*):(.*(?:\n[ \t].*)*)", stanza, re.M)
        }
        enabled = fields.get("enabled", "yes").lower() not in {"no", "false", "0"}
        uris = fields.get("uris", "").split()
        if not enabled or not uris or "deb" not in fields.get("types", "").split():
            continue
        signed_by = fields.get("signed-by", "")
        if "\n" in signed_by:
            signed_by = "\n " + signed_by
        suites, components = (tuple(fields.get(name, "").split()) for name in ("suites", "components"))
        found.append(AptSource(uris[0], suites, components, signed_by))
    return tuple(found)


def main_archive(sources: Iterable[AptSource], codename: str) -> AptSource | None:
    """The source of the distribution itself: its codename, component `main`; neither a vendor's nor security's."""
    return next((source for source in sources if codename in source.suites and "main" in source.components), None)


def parse_os_release(text: str) -> dict[str, str]:
    """NAME=value pairs of /etc/os-release, unquoted."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): "".join(shlex.split(value)[:1]) for name, value in pairs}


def upstream_version(debian_version: str) -> str:
    """`1:1.30.6+dfsg-2` -> `1.30.6`: no epoch, no Debian revision, no repacking suffix."""
    without_epoch = debian_version.split(":", 1)[-1]
    return re.split(r"[+~]", without_epoch.rsplit("-", 1)[0], maxsplit=1)[0]


def package_versions(deb_names: Iterable[str]) -> dict[str, str]:
    """Package -> Debian version, from the names apt gives to what it downloads."""
    parts = (urllib.parse.unquote(name).split("_") for name in deb_names)
    return {part[0]: part[1] for part in parts if len(part) == 3}


def merged_path(path: str) -> str:
    """The path inside a merged-/usr root: `./lib/x` -> `usr/lib/x`; no leading dot or slash."""
    clean = path.lstrip("./").rstrip("/")
    return f"usr/{clean}" if clean.split("/", 1)[0] in _MERGED else clean


def left_out(patterns: Iterable[str]) -> re.Pattern[str]:
    """One expression for many shell patterns; `*` crosses slashes. Fit for `fullmatch`."""
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns) or r"(?!)")


# ── the machine: reads only ────────────────────────────────────────────────────────────────────────────────────────


def this_distribution(root: Path = Path("/")) -> Distribution:
    """This machine's distribution and mirror. EngineError where it is not a Debian or Ubuntu with apt."""
    release = _read(root / "etc/os-release")
    facts = parse_os_release(release)
    family = [facts.get("ID", ""), *facts.get("ID_LIKE", "").split()]
    known = next((name for name in family if name in {"debian", "ubuntu"}), None)
    if known is None or shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise EngineError(
            f"Images can be built locally only on Debian or Ubuntu (this is {facts.get('PRETTY_NAME', 'unknown')}). "
            "Load them with `docker load`, or name a registry this machine reaches."
        )
    own = facts.get(f"{known.upper()}_CODENAME") or facts.get("VERSION_CODENAME", "")
    mirror = main_archive(_configured_sources(root / "etc/apt"), own)
    if mirror is None:
        raise EngineError(
            f"No package mirror for {known} {own} (component main) in /etc/apt/sources.list or sources.list.d: "
            "images cannot be built here. Add one, or load the images with `docker load`."
        )
    return Distribution(known, own, mirror)


def _configured_sources(apt: Path) -> tuple[AptSource, ...]:
    one_line = [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list"))]
    deb822 = sorted(apt.glob("sources.list.d/*.sources"))
    return (
        *(source for path in one_line for source in parse_one_line_sources(_read(path))),
        *(source for path in deb822 for source in parse_deb822_sources(_read(path))),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# ── packages to a root filesystem ──────────────────────────────────────────────────────────────────────────────────


def download(packages: tuple[str, ...], stanza: str, architecture: str, work: Path) -> tuple[Path, ...]:
    """Fetch the packages and all they depend on into `work`; the .deb files, sorted."""
    for folder in ("sources", "lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "sources/ours.sources").write_text(stanza, encoding="utf-8")
    (work / "apt.conf").write_text(_apt_configuration(work, architecture), encoding="utf-8")
    environment = {**os.environ, "APT_CONFIG": str(work / "apt.conf"), "LC_ALL": "C.UTF-8"}
    run_tool(("apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"), environment)
    run_tool(("apt-get", "-q", "-y", "--no-install-recommends", "--download-only", "install", *packages), environment)
    return tuple(sorted((work / "cache/archives").glob("*.deb")))


def _apt_configuration(work: Path, architecture: str) -> str:
    """The machine's own Acquire settings (proxy, retries, date checks) and none of its hooks; state all in `work`."""
    acquire = run_tool(("apt-config", "dump", "--format", '%f "%v";%n', "Acquire"), dict(os.environ))
    ours = {
        "Acquire::Check-Valid-Until": "false",  # a mirror frozen in time is still signed
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else "",
        "Dir::Cache": str(work / "cache"),
        "Dir::Etc::Main": "/dev/null",
        "Dir::Etc::Parts": "/dev/null",
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": str(work / "sources"),
        "Dir::State::Lists": str(work / "lists"),
        "Dir::State": str(work),
        "Dir::State::Status": str(work / "status"),
        "pkgCacheGen::ForceEssential": ",",  # else apt adds itself
    }
    return acquire + "".join(f'{key} "{value}";\n' for key, value in ours.items())


def write_root(tar_path: Path, debs: Iterable[Path], without: Iterable[str], entries: Iterable[Entry]) -> None:
    """Unpack the packages into one tar, filtered; then our own entries. The same packages give the same bytes.

    Everything belongs to root, nothing is set-uid, and `entries` win over files of the packages.
    """
    added = {entry.path: entry for entry in entries}
    excluded = left_out(without)
    seen: set[str] = set(added)
    with tarfile.open(tar_path, "w", format=tarfile.GNU_FORMAT) as root:
        for entry in sorted(added.values(), key=lambda each: each.path):
            root.addfile(*_member(entry))
        for deb in debs:
            for member, content in _members_of(deb):
                if member.name and member.name not in seen and not excluded.fullmatch(member.name):
                    seen.add(member.name)
                    root.addfile(member, content)


def _members_of(deb: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    with (
        subprocess.Popen(("dpkg-deb", "--fsys-tarfile", str(deb)), stdout=subprocess.PIPE) as unpacked,
        tarfile.open(fileobj=unpacked.stdout, mode="r|") as members,
    ):
        for member in members:
            member.name = merged_path(member.name)
            member.linkname = merged_path(member.linkname) if member.islnk() else member.linkname
            member.mode &= 0o1777
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            yield member, members.extractfile(member) if member.isreg() else None
    if unpacked.returncode:
        raise EngineError(f"{deb.name} could not be unpacked (dpkg-deb ended with {unpacked.returncode}).")


def _member(entry: Entry) -> tuple[tarfile.TarInfo, io.BytesIO | None]:
    member = tarfile.TarInfo(entry.path)
    member.mode, member.uid, member.gid = entry.mode, entry.owner, entry.owner
    if entry.link is not None:
        member.type, member.linkname = tarfile.SYMTYPE, entry.link
        return member, None
    if entry.content is None:
        member.type = tarfile.DIRTYPE
        return member, None
    member.size = len(entry.content)
    return member, io.BytesIO(entry.content)


def run_tool(command: tuple[str, ...], environment: Mapping[str, str], folder: Path | None = None) -> str:
    """Run a program of the machine; its output. EngineError with its own last complaint where it fails."""
    try:
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, timeout=APT_TIMEOUT_S, check=False
        )
    except FileNotFoundError as missing:
        raise EngineError(f"{command[0]} is not installed on this machine, and images are built with it.") from missing
    except subprocess.TimeoutExpired as late:
        raise EngineError(f"{command[0]} did not finish within {APT_TIMEOUT_S} s.", retryable=True) from late
    if done.returncode:
        raise EngineError(f"{command[0]} failed: {last_complaint(done.stderr or done.stdout)}", retryable=True)
    return done.stdout


def last_complaint(output: str) -> str:
    """The one line of a tool's output that says why: the first `E:`, `Err:` or `npm error` line, else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(E:|Err:|npm (error|ERR!) (?!code|A complete))", line)]
    return (telling or lines[-1:] or ["it gave no reason"])[0]
