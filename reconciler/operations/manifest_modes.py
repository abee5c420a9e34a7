"""The one word that an operator's word changes in the manifest: a service's `mode`. Every other byte stays."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from reconciler.core.containers import KeptRevision
from reconciler.core.desired import DesiredState, Mode, Service, spec_hash
from reconciler.core.errors import Refused
from reconciler.formats import write_back
from reconciler.loop import Loop
from reconciler.operations import Events, Request, line, text_of
from reconciler.ports import Repository


class ManifestModes:
    """Writes modes into the manifest; one from a repository is its authors', unless that is set up to be written to."""

    def __init__(
        self,
        manifest: Path,
        manifest_now: Callable[[], DesiredState],
        open_loop: Callable[[bool], Loop],
        replace_file: Callable[[Path, bytes], None],
        repository: Repository | None = None,
    ) -> None:
        self._manifest = manifest
        self._manifest_now = manifest_now
        self._open_loop = open_loop
        self._replace_file = replace_file
        self._repository = repository

    @property
    def are_ours(self) -> bool:
        """Who speaks for the manifest lets us write it."""
        return self._repository is None or self._repository.writes_back

    def write(self, request: Request, service: Service, mode: Mode, revision: str = "") -> Events:
        """The manifest says `mode`; every other byte stays. One from git stays whole, unless it is written back.

        With a `revision`, the manifest must still ask for that one when it is written.
        """
        if service.mode is mode:
            return
        if not self.are_ours and mode is Mode.CANARY:
            raise Refused(f"the manifest comes from git: commit `mode: canary` of {service.name} there")
        if not self.are_ours:
            yield line(
                f"the manifest in git goes on saying mode canary of {service.name}: commit `mode: stable` in time"
            )
            return
        if self._repository is not None:
            reason = text_of(request, "reason")
            said = f"{service.name}: mode {service.mode} -> {mode}\n\n{request.verb} by {request.actor}"
            change = functools.partial(self.changed, service=service.name, mode=mode, revision=revision)
            commit = self._repository.write(change, f"{said}: {reason}\n" if reason else f"{said}\n")
            yield line(f"pushed {commit.short}: {service.name} mode {service.mode} → {mode}")
            return
        try:
            text = self._manifest.read_bytes()
            changed = self.changed(text, service.name, mode, revision)
            if self._manifest.read_bytes() != text:
                raise Refused(f"{self._manifest.name} was saved by somebody else at this moment. Look at it first.")
            self._replace_file(self._manifest, changed)
        except OSError as error:
            raise Refused(
                f"{self._manifest} cannot be written: {error.strerror}. Make it and its folder writable, "
                f"or set `mode: {mode.value}` of {service.name} there yourself"
            ) from error
        yield line(f"{self._manifest.name}: {service.name} mode {service.mode} → {mode}")

    def changed(self, text: bytes, service: str, mode: Mode, revision: str) -> bytes:
        """The manifest's `text` with that mode. Raises Refused where it asks for another revision by now."""
        now = self._manifest_now().service(service)
        kept = self._open_loop(True).ports.rollouts.kept()
        meant = next((one for one in kept if one.revision == revision), None)
        if meant is not None and (now is None or not _is_of(meant, now)):
            raise Refused(
                f"the manifest asks for another {service} than revision {revision[:12]} by now, so its mode was left "
                "as it is. Look at it first."
            )
        return write_back.set_mode(text, service, mode.value)


def _is_of(kept: KeptRevision, service: Service) -> bool:
    """What the manifest says of a service makes that revision, as long as its image is what it was."""
    return service.image == kept.service.image and spec_hash(service, kept.image.id, kept.network) == kept.revision
