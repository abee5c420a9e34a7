"""Keys that people sign commits with, and the lists of those who are trusted."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.git.git_servers import keygen
from tests.git.git_world import Repo

THEN = "20200101T000000"


class SshKeys:
    """`ann` and `bob` are trusted, `late` was until 2020, `mail` may sign other things, `eve` is a stranger."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        for name in ("ann", "bob", "late", "mail", "eve"):
            keygen(folder / name)
        self.list = folder / "allowed_signers"
        self.trust(ann="", bob="", late='valid-before="20200101"', mail='namespaces="file,mail"')

    def trust(self, **options: str) -> None:
        lines = [f"{name}@example.com {option} {self.public(name)}\n" for name, option in options.items()]
        self.list.write_text("# who may sign\n" + "".join(lines))
        self.list.chmod(0o644)

    def public(self, name: str) -> str:
        return " ".join((self.folder / f"{name}.pub").read_text().split()[:2])

    def options(self, name: str) -> list[str]:
        return ["-c", "gpg.format=ssh", "-c", f"user.signingKey={self.folder / name}"]

    def commit(self, repo: Repo, number: int, name: str) -> str:
        """A new version, signed by `name`."""
        before = repo.commit(number)
        repo.git(*self.options(name), "commit", "--quiet", "--amend", "--no-edit", "--allow-empty", "--gpg-sign")
        assert repo.head() != before
        return repo.head()


class PgpKeys:
    """`good` is fully trusted, `known` is only in the keyring, `gone` has expired, `revoked` is; `alien` is a stranger.

    `home` is what the daemon is given.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret, self.home = folder / "s", folder / "h"
        for made in (self.secret, self.home):
            made.mkdir(mode=0o700)
        self.wrapper = folder / "gpg-then"
        self.wrapper.write_text(f'#!/bin/sh\nexec /usr/bin/gpg --faked-system-time {THEN} "$@"\n')
        self.wrapper.chmod(0o755)
        self.ids = {name: self._made(name) for name in ("good", "known", "revoked", "alien")}
        self.ids["gone"] = self._made("gone", "1y", "--faked-system-time", THEN)

    def _made(self, name: str, lasts: str = "never", *options: str) -> str:
        who = f"{name}@example.com"
        self.gpg(self.secret, *options, "--passphrase", "", "--quick-gen-key", who, "ed25519", "sign", lasts)
        listed = self.gpg(self.secret, "--with-colons", "--list-keys", who).splitlines()
        return next(line.split(":")[9] for line in listed if line.startswith("fpr"))

    def hand_over(self) -> None:
        """Afterwards `home` holds the public keys, and `revoked` is revoked; what is to be signed was signed before."""
        named = [self.ids[name] for name in ("good", "known", "gone", "revoked")]
        exported = self.gpg(self.secret, "--armor", "--export", *named)
        self.gpg(self.home, "--import", given=exported)
        certificate = (self.secret / "openpgp-revocs.d" / f"{self.ids['revoked']}.rev").read_text()
        self.gpg(self.home, "--import", given=certificate.replace(":-----BEGIN", "-----BEGIN"))
        trusted = "".join(f"{self.ids[name]}:6:\n" for name in ("good", "gone", "revoked"))
        self.gpg(self.home, "--import-ownertrust", given=trusted)

    def gpg(self, home: Path, *words: str, given: str = "") -> str:
        done = subprocess.run(
            ["gpg", "--batch", "--quiet", "--homedir", str(home), *words],
            input=given, capture_output=True, text=True, check=False, timeout=60,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": str(self.folder)},
        )  # fmt: skip
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def commit(self, repo: Repo, number: int, name: str) -> str:
        repo.commit(number)
        program = self.wrapper if name == "gone" else "/usr/bin/gpg"
        options = [
            "-c",
            "gpg.format=openpgp",
            "-c",
            f"gpg.program={program}",
            "-c",
            f"user.signingKey={self.ids[name]}!",
        ]
        more = {"GNUPGHOME": str(self.secret)}
        repo.git(*options, "commit", "--quiet", "--amend", "--no-edit", "--allow-empty", "--gpg-sign", more=more)
        return repo.head()


@contextmanager
def pgp_keys() -> Iterator[PgpKeys]:
    """In a folder with a short name: the agent's socket is in it."""
    folder = Path(tempfile.mkdtemp(prefix="gpg"))
    try:
        yield PgpKeys(folder)
    finally:
        for home in ("s", "h"):
            subprocess.run(
                ["gpgconf", "--homedir", str(folder / home), "--kill", "all"], check=False, capture_output=True
            )
        shutil.rmtree(folder, ignore_errors=True)


def has_gpg() -> bool:
    return os.access("/usr/bin/gpg", os.X_OK)
