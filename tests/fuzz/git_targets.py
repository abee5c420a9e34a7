"""What git prints, what stands in commits and lists of signers, and what an operator writes: all of it fed."""

from __future__ import annotations

from collections.abc import Callable

from reconciler.core.trust import Signed
from reconciler.formats import git_commit, git_failure, git_output, git_signers, git_tree, git_url
from reconciler.formats.git_commit import CommitError
from reconciler.formats.git_output import GitOutputError
from tests.fuzz.machine import Target

A, B = "a" * 40, "b" * 40
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIJ0000000000000000000000000000000000000000Ab"
COMMIT = (
    f"tree {A}\nparent {B}\nauthor Ann <a@b> 1700000000 +0100\ncommitter Bob <b@c> 1700000060 -0000\n"
    "gpgsig -----BEGIN SSH SIGNATURE-----\n U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAg\n"
    " -----END SSH SIGNATURE-----\n\nsubject\n\nbody\n"
).encode()
SIGNERS = (
    f'# x\nann@example.com ssh-ed25519 {KEY}\nbob namespaces="git,f*",valid-before="20200101" ssh-ed25519 {KEY} c\n'
    f"*@x cert-authority ssh-rsa {KEY}\n"
).encode()
VERDICT = "\0".join((A, "G", "SHA256:" + "A" * 43, "A" * 40, "", "ann", "", "")).encode()
WORDS = tuple(
    word.encode()
    for word in (
        *(
            "refs/heads/main",
            "refs/tags/v1^{}",
            "\t",
            "100644 blob ",
            "120000",
            "160000 commit ",
            "040000 tree ",
            "missing",
        ),
        *(
            "..",
            ".git",
            "//",
            "\0",
            A,
            B,
            " blob 5\n",
            "gpgsig ",
            "-----BEGIN SSH SIGNATURE-----",
            "-----BEGIN PGP MESSAGE",
        ),
        *(
            "tree ",
            "parent ",
            "author ",
            "committer ",
            " +0000",
            "encoding ",
            "namespaces=",
            "valid-before=",
            "cert-authority",
        ),
        *(
            "https://",
            "ssh://",
            "file:///",
            "ext::",
            "git@",
            "[::1]",
            "::",
            "-",
            "%",
            "@",
            ":",
            "~",
            "fatal: ",
            "remote: ",
        ),
    )
)


def _readable(error: Exception) -> None:
    assert str(error).isprintable(), "what is told could steer a terminal"


def _output(data: bytes) -> str:
    """Each reader of git's output in turn; whatever one takes keeps its promises."""
    found: list[str] = []
    readers: tuple[tuple[str, Callable[[], object]], ...] = (
        ("ref", lambda: git_output.ref(data, "refs/heads/main")),
        ("ids", lambda: git_output.ids(data)),
        ("number", lambda: git_output.number(data)),
        ("tree", lambda: _tree(data)),
        ("sizes", lambda: git_output.sizes(data)),
        ("objects", lambda: git_output.objects(data, (A, B), "blob")),
        ("verdicts", lambda: _verdicts(data)),
    )
    for name, reader in readers:
        try:
            reader()
        except GitOutputError as error:
            _readable(error)
        else:
            found.append(name)
    return " ".join(found) or "nothing"


def _tree(data: bytes) -> None:
    entries = git_output.tree(data)
    for entry in entries:
        parts = entry.path.split("/")
        assert not {"", ".", ".."} & set(parts), "a path that leads out"
        assert ".git" not in {part.lower() for part in parts}
        assert not entry.path.startswith("/")
    files = git_tree.worth(entries, "manifest.yaml")
    assert all(entry.is_file for entry in files), "a link was taken"
    chosen = git_tree.chosen(files, {entry.id: 100_000 for entry in entries}, "manifest.yaml", len(entries))
    if isinstance(chosen, git_tree.Chosen):
        assert len(chosen.files) * 100_000 <= git_tree.ALL_MAX_BYTES
    rejected = git_tree.rejected(entries[0] if entries else None, "manifest.yaml")
    assert rejected is None or rejected.message.isprintable()


def _verdicts(data: bytes) -> None:
    for found in git_output.verdicts(data, {A: "ssh", B: "openpgp"}):
        assert found.by.isprintable()
        assert found.state is not Signed.GOOD or found.by, "good, and by nobody"


def _commit(data: bytes) -> str:
    raw = git_commit.read(data)
    told = raw.told(A, None, "https://h/x branch main")
    assert all(text.isprintable() for text in (told.author, told.subject, told.when, told.source))
    assert len(told.author) <= git_commit.AUTHOR_MAX
    assert len(told.subject) <= git_commit.SUBJECT_MAX
    assert len(told.when) == 20
    return f"{len(raw.parents)} {raw.schemes[:2]} {bool(raw.key)}"


def _signers(data: bytes) -> str:
    found = git_signers.read(data)
    assert all(signer.fingerprint.startswith("SHA256:") for signer in found)
    return f"{len(found)} {bool(git_signers.key_of(data))}"


def _address(data: bytes) -> str:
    text = data.decode("utf-8", "surrogateescape")
    for name, check in (("branch", git_url.branch), ("path", git_url.path), ("id", git_url.prefix)):
        try:
            taken = check(text)
        except ValueError as error:
            _readable(error)
        else:
            assert not taken.startswith("-"), f"{name} is an option"
            assert taken.isprintable()
    try:
        found = git_url.remote(text)
    except ValueError as error:
        _readable(error)
        return f"refused {error}"
    assert found.url.isascii() or found.is_local
    assert not found.url.startswith("-")
    assert "::" not in found.url.partition("[")[0], "a helper"
    assert not found.host.startswith("-")
    assert found.shown.isprintable()
    return found.scheme


def _failure(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    trouble = git_failure.trouble(text, "reading h", ("secret",))
    assert trouble.message.isprintable()
    assert len(trouble.message) < 1000
    assert "secret" not in trouble.message
    return f"{trouble.kind.value} {git_failure.may_be_damage(text)}"


TARGETS = (
    Target(
        "git_output",
        "what git prints",
        _output,
        lambda: [
            f"{A}\trefs/heads/main\n{B}\trefs/tags/v1^{{}}\n".encode(),
            f"100644 blob {A}\tmanifest.yaml\x00120000 blob {B}\td/link\0".encode(),
            f"{A} blob 5\n{B} missing\n".encode(),
            f"{A} blob 5\nhello\n{B} blob 0\n\n".encode(),
            VERDICT,
            f"{A}\n{B}\n".encode(),
            b"17\n",
        ],
        (),
        WORDS,
    ),
    Target(
        "git_commit", "commits as git stores them", _commit, lambda: [COMMIT, b"", b"tree x\n\n"], (CommitError,), WORDS
    ),
    Target("git_signers", "lists of SSH signers", _signers, lambda: [SIGNERS, COMMIT], (), WORDS),
    Target(
        "git_address",
        "addresses and names of repositories",
        _address,
        lambda: [
            b"https://h/x.git",
            b"ssh://git@h:22/x",
            b"git@h:a/b",
            b"/a/b",
            b"file:///a",
            b"feature/x",
            A.encode(),
        ],
        (),
        WORDS,
    ),
    Target(
        "git_failure",
        "git's complaints",
        _failure,
        lambda: [b"fatal: bad object x\n", b"remote: secret\nerror: RPC failed; HTTP 401\n", b""],
        (),
        (*WORDS, b"secret", b"\r", b"dubious ownership", b"Permission denied (publickey)"),
    ),
)
