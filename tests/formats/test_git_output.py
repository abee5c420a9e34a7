"""git's own words, and words that are not git's."""

from __future__ import annotations

import time

import pytest

from reconciler.core.trust import Kind, Signature, Signed
from reconciler.formats import git_commit, git_failure, git_output, git_signers, git_tree
from reconciler.formats.git_output import Entry, GitOutputError

A, B = "a" * 40, "b" * 40


def test_the_ref_that_was_asked_for_is_found_and_no_other() -> None:
    said = f"{A}\trefs/heads/x/refs/heads/main\n{B}\trefs/heads/main\n".encode()
    assert git_output.ref(said, "refs/heads/main") == B
    assert git_output.ref(b"", "refs/heads/main") is None
    tags = f"{A}\trefs/tags/v1\n{B}\trefs/tags/v1^{{}}\n".encode()
    assert git_output.ref(tags, "refs/tags/v1") == B


@pytest.mark.parametrize("said", [b"x", b"x\n", b"a" * 39 + b"\trefs\n", A.encode() + b" refs/heads/main\n", b"\n"])
def test_what_is_no_list_of_refs_is_refused(said: bytes) -> None:
    with pytest.raises(GitOutputError):
        git_output.ref(said, "refs/heads/main")


def test_too_many_refs_are_refused() -> None:
    with pytest.raises(GitOutputError, match="too long"):
        git_output.ref(f"{A}\trefs/x\n".encode() * 10_001, "refs/x")


def test_a_tree_is_read_with_any_name_that_may_be_made() -> None:
    files = [f"100644 blob {A}\ta/b\n\x1b.env", f"120000 blob {B}\tlink", f"160000 commit {A}\tm"]
    said = b"\0".join([*map(str.encode, files), f"100755 blob {B}\t".encode() + b"\xff.env", b""])
    found = git_output.tree(said)
    assert [entry.path for entry in found] == ["a/b\n\x1b.env", "link", "m", "\udcff.env"]
    assert [entry.is_file for entry in found] == [True, False, False, True]
    assert [entry.what for entry in found] == ["a file", "a symbolic link", "a submodule", "a file"]


@pytest.mark.parametrize("name", ["../x", "a/../x", ".git/x", "a/.GIT", "/x", "a//b", "./x", "x" * 256])
def test_a_tree_with_a_name_that_leads_out_is_refused(name: str) -> None:
    with pytest.raises(GitOutputError):
        git_output.tree(f"100644 blob {A}\t{name}\0".encode())


def test_sizes_and_contents_belong_to_what_was_asked_for() -> None:
    assert git_output.sizes(f"{A} blob 3\n{B} missing\n".encode()) == {A: 3, B: None}
    assert git_output.sizes(f"{A} commit 3\n".encode()) == {A: None}
    said = f"{A} blob 3\nx\ny\n{B} blob 0\n\n".encode()
    assert git_output.objects(said, (A, B), "blob") == {A: b"x\ny", B: b""}
    for wrong in (said[:-1], said + b"x", said.replace(b"3", b"4"), said.replace(b"blob", b"tree"), b""):
        with pytest.raises(GitOutputError):
            git_output.objects(wrong, (A, B), "blob")


def verdict(letter: str, scheme: str, key: str = "", who: str = "", primary: str = "") -> Signature:
    said = "\0".join((A, letter, key, key, primary, who, "", "")).encode()
    (found,) = git_output.verdicts(said, {A: scheme})
    return found


@pytest.mark.fault("GT4")
@pytest.mark.parametrize(
    ("letter", "ssh", "openpgp"),
    [
        ("G", Signed.GOOD, Signed.GOOD),
        ("N", Signed.NONE, Signed.NONE),
        ("B", Signed.BAD, Signed.BAD),
        ("U", Signed.UNKNOWN_KEY, Signed.NOT_CERTIFIED),
        ("E", Signed.UNREADABLE, Signed.UNKNOWN_KEY),
        ("X", Signed.UNREADABLE, Signed.EXPIRED),
        ("Y", Signed.UNREADABLE, Signed.KEY_EXPIRED),
        ("R", Signed.UNREADABLE, Signed.REVOKED),
        ("?", Signed.UNREADABLE, Signed.UNREADABLE),
        ("", Signed.UNREADABLE, Signed.UNREADABLE),
        ("GG", Signed.UNREADABLE, Signed.UNREADABLE),
    ],
)
def test_git_s_letters_mean_what_they_mean(letter: str, ssh: Signed, openpgp: Signed) -> None:
    fingerprint = "SHA256:" + "A" * 43
    assert verdict(letter, "ssh", fingerprint, "ann@example.com").state is ssh
    assert verdict(letter, "openpgp", "A" * 40, "Ann").state is openpgp


@pytest.mark.fault("GT4")
def test_a_good_signature_by_nobody_is_not_good() -> None:
    assert verdict("G", "ssh", "SHA256:" + "A" * 43, "").state is Signed.UNREADABLE
    assert verdict("G", "ssh", "", "ann").state is Signed.UNREADABLE
    assert verdict("G", "ssh", "SHA256:" + "A" * 43, "ann\x1b").state is Signed.UNREADABLE
    assert verdict("G", "openpgp", "", "Ann").state is Signed.UNREADABLE
    assert verdict("G", "openpgp", "A" * 16, "Ann", primary="C" * 40).by == "C" * 40
    with pytest.raises(GitOutputError, match="another commit"):
        git_output.verdicts(f"{B}\0G\0\0\0\0\0\0".encode(), {A: "ssh"})


# ── commits ────────────────────────────────────────────────────────────────────────────────────────────────────────

COMMIT = (
    f"tree {A}\nparent {B}\nauthor Ann <a@b> 1700000000 +0100\ncommitter Bob <b@c> 1700000060 -0000\n"
    "gpgsig -----BEGIN SSH SIGNATURE-----\n U1NI\n -----END SSH SIGNATURE-----\n\nsubject\x1b[2J\n\nbody\n"
).encode()


def test_a_commit_is_told_so_that_nothing_steers_a_terminal() -> None:
    raw = git_commit.read(COMMIT)
    assert (raw.tree, raw.parents, raw.schemes) == (A, (B,), ("ssh",))
    told = raw.told(A, "ann", "https://h/x branch main")
    assert (told.author, told.subject, told.when) == ("Ann <a@b>", r"subject\x1b[2J", "2023-11-14T22:14:20Z")
    assert told.short == "a" * 12


def test_a_commit_without_words_is_one() -> None:
    raw = git_commit.read(COMMIT.partition(b"\ngpgsig")[0] + b"\n")
    assert (raw.subject, raw.schemes, raw.key) == ("", (), "")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b" tree",
        COMMIT.replace(b"tree", b"tre"),
        COMMIT.replace(b"1700000060", b"x"),
        COMMIT.replace(b"Ann", b"A\0nn"),
        COMMIT.replace(b"author", b"authors"),
        b"tree " + A.encode() + b"\n" + COMMIT,
        COMMIT + b"x" * git_commit.MAX_BYTES,
    ],
)
def test_what_git_would_not_make_is_no_commit(data: bytes) -> None:
    with pytest.raises(git_commit.CommitError):
        git_commit.read(data)


def test_years_that_cannot_be_written_do_not_matter() -> None:
    assert git_commit.moment(-5) == "1970-01-01T00:00:00Z"
    assert git_commit.moment(10**17) == "9999-12-31T23:59:59Z"


# ── signers ────────────────────────────────────────────────────────────────────────────────────────────────────────

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIJ0000000000000000000000000000000000000000Ab"
LIST = f"""
# a comment
ann@example.com ssh-ed25519 {KEY}
bob@example.com,bob2 namespaces="file,g*t",valid-before="20200101" ssh-ed25519 {KEY} a comment
*@example.com cert-authority,namespaces="mail" ssh-ed25519 {KEY}
broken ssh-ed25519 !!!
nokey
"""


def test_a_list_of_signers_is_understood_line_by_line() -> None:
    found = git_signers.read(LIST.encode())
    assert [(one.has_times, one.is_for_git, one.is_authority) for one in found] == [
        (False, True, False),
        (True, True, False),
        (False, False, True),
    ]
    assert len({one.fingerprint for one in found}) == 1


# ── which files ────────────────────────────────────────────────────────────────────────────────────────────────────


def entry(path: str, mode: str = "100644", id_: str = A) -> Entry:
    return Entry(path, mode, {"120000": "blob", "160000": "commit", "040000": "tree"}.get(mode, "blob"), id_)


def test_the_manifest_comes_first_then_policies_and_links_never() -> None:
    entries = [entry("d/a.txt"), entry("d/x/p.rego"), entry("d/.env"), entry("d/m.yaml"), entry("d/l.env", "120000")]
    assert [one.path for one in git_tree.worth(entries, "d/m.yaml")] == ["d/m.yaml", "d/.env", "d/x/p.rego", "d/a.txt"]


def test_what_does_not_fit_is_left_out_but_never_the_manifest() -> None:
    files = [entry("m.yaml", id_="m"), entry("a.rego", id_="a"), entry("big.env", id_="b"), entry("z", id_="z")]
    fits = git_tree.chosen(files, {"m": 10, "a": 1024 * 1024, "b": None, "z": 20 * 1024 * 1024}, "m.yaml", 9)
    assert fits == git_tree.Chosen({"m.yaml": "m", "a.rego": "a"}, 7)
    for size in (None, 1024 * 1024 + 1):
        trouble = git_tree.chosen(files, {"m": size}, "m.yaml", 9)
        assert isinstance(trouble, git_tree.Trouble)
        assert trouble.kind is Kind.TOO_BIG


@pytest.mark.fault("GT9")
@pytest.mark.parametrize(("mode", "word"), [("120000", "link"), ("160000", "submodule"), ("040000", "folder")])
def test_what_is_no_file_is_no_manifest(mode: str, word: str) -> None:
    trouble = git_tree.rejected(entry("m.yaml", mode), "m.yaml")
    assert trouble is not None
    assert word in trouble.message
    assert git_tree.rejected(None, "m.yaml") is not None
    assert git_tree.rejected(entry("m.yaml", "100755"), "m.yaml") is None


# ── complaints ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("GT1")
@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ("fatal: detected dubious ownership in repository at '/x'", Kind.UNTRUSTED, "another user"),
        ("fatal: unable to access 'https://h/x/': Could not resolve host: h", Kind.UNREACHABLE, "DNS"),
        ("fatal: unable to access 'https://h/': server certificate verification failed.", Kind.UNREACHABLE, "ca_file"),
        ("fatal: Authentication failed for 'https://h/x/'", Kind.UNREACHABLE, "token_file"),
        ("git@h: Permission denied (publickey).", Kind.UNREACHABLE, "deploy key"),
        ("Host key verification failed.", Kind.UNREACHABLE, "known_hosts"),
        ("ssh: connect to host h port 22: Connection refused", Kind.UNREACHABLE, "cannot be reached"),
        ("fatal: couldn't find remote ref refs/heads/x", Kind.REF_MISSING, "not there"),
        ("remote: Repository not found.", Kind.UNREACHABLE, "no repository"),
        ("fatal: write error: File too large", Kind.TOO_BIG, "max_bytes"),
        ("error: object " + A + ": hasDotgit: contains '.git'", Kind.UNTRUSTED, "git's checks"),
        ("something else", Kind.UNREACHABLE, "something else"),
        ("", Kind.UNREACHABLE, "nothing"),
    ],
)
def test_complaints_become_words_on_what_to_do(said: str, kind: Kind, words: str) -> None:
    trouble = git_failure.trouble(said, "reading h")
    assert trouble.kind is kind
    assert words in trouble.message
    assert trouble.message.isprintable()


@pytest.mark.fault("GT6")
def test_only_what_nothing_else_explains_may_be_damage() -> None:
    assert git_failure.may_be_damage("fatal: bad object refs/reconciler/candidate")
    assert not git_failure.may_be_damage("fatal: unable to access 'https://h/': Could not resolve host: h")
    assert not git_failure.may_be_damage("fatal: Authentication failed")


@pytest.mark.fault("GT1")
def test_a_trouble_that_only_took_longer_is_the_same() -> None:
    one, other, third = (
        git_failure.trouble(f"fatal: Failed to connect to {host} port 443 after {time} ms: refused", "reading h")
        for host, time in (("h", 12), ("h", 1043), ("g", 12))
    )
    assert git_failure.is_same(one, other)
    assert not git_failure.is_same(one, third)
    assert not git_failure.is_same(one, None)
    refused = git_failure.Trouble(Kind.NOT_FORWARD, "12 ms")
    assert not git_failure.is_same(refused, git_failure.Trouble(Kind.NOT_FORWARD, "13 ms"))


@pytest.mark.fault("GT1")
@pytest.mark.parametrize("word", ["no ", "repository ", "transport '", "\r", "error: ", "object "])
def test_a_server_that_says_the_same_for_ever_costs_nothing(word: str) -> None:
    began = time.process_time()
    trouble = git_failure.trouble(word * (64_000 // len(word)) + "\nfatal: Authentication failed", "reading h")
    assert "token_file" in trouble.message
    assert time.process_time() - began < 0.5
