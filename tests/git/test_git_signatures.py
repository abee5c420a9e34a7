"""Whose commits are believed: real signatures by real keys, and every way in which one may not be good."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.core.git_config import Signatures
from reconciler.core.trust import Kind
from tests.git.git_keys import PgpKeys, SshKeys, has_gpg, pgp_keys
from tests.git.git_world import World, accepted, image, refusal


@pytest.fixture
def keys(tmp_path: Path) -> SshKeys:
    return SshKeys(tmp_path / "keys")


@pytest.fixture
def signed(world: World, keys: SshKeys) -> World:
    """A source that wants signatures, with one good commit in force."""
    world.config |= {"signatures": Signatures.HEAD, "allowed_signers": str(keys.list)}
    keys.commit(world.repo, 1, "ann")
    return world


def untrusted(world: World, *words: str, tag: str = "demo:1", **config: object) -> str:
    """The next look refuses what there is, in these words, and the old manifest stays."""
    source = world.source(**config)
    source.sync()
    kind, message = refusal(source)
    assert kind is Kind.UNTRUSTED, message
    for word in words:
        assert word in message, message
    assert image(source) == tag
    return message


def in_force(world: World, tag: str, **config: object) -> str | None:
    """That version is in force after a look; who signed it."""
    source = world.source(**config)
    source.sync()
    assert (image(source), refusal(source)) == (tag, (None, ""))
    return accepted(source).signer


@pytest.mark.control("K12")
def test_a_trusted_signer_s_commit_is_taken_over_in_that_name(signed: World, keys: SshKeys) -> None:
    assert in_force(signed, "demo:1") == "ann@example.com"
    keys.commit(signed.repo, 2, "bob")
    assert in_force(signed, "demo:2") == "bob@example.com"


@pytest.mark.control("K12")
def test_without_being_asked_no_signature_is_told(world: World, keys: SshKeys) -> None:
    keys.commit(world.repo, 1, "eve")
    assert in_force(world, "demo:1") is None


CASES = {
    "eve": "not among the trusted signers",
    "late": "was not valid at the commit's time",
    "mail": "does not allow for git",
}


@pytest.mark.fault("GT4")
@pytest.mark.control("K12")
@pytest.mark.parametrize("name", CASES)
def test_a_signature_by_another_key_is_refused_and_says_why(signed: World, keys: SshKeys, name: str) -> None:
    in_force(signed, "demo:1")
    commit = keys.commit(signed.repo, 2, name)
    message = untrusted(signed, CASES[name], "SHA256:", commit[:12], "git accept")
    assert len(message) < 500


@pytest.mark.fault("GT4")
@pytest.mark.control("K12")
def test_a_commit_without_a_signature_is_refused(signed: World) -> None:
    in_force(signed, "demo:1")
    signed.repo.commit(2)
    untrusted(signed, "is not signed")


def _signature(world: World, commit: str) -> bytes:
    """The header with a commit's signature."""
    raw = world.repo.git("cat-file", "commit", commit).encode()
    start = raw.index(b"gpgsig ")
    return raw[start : raw.index(b"-----END SSH SIGNATURE-----") + 27] + b"\n"


@pytest.mark.fault("GT4")
@pytest.mark.control("K12")
def test_a_signature_that_was_made_for_another_commit_is_refused(signed: World, keys: SshKeys) -> None:
    in_force(signed, "demo:1")
    good = signed.repo.head()
    signed.repo.commit(2)
    tree = signed.repo.git("rev-parse", "HEAD^{tree}")
    signed.repo.commit_of(tree, good, more=_signature(signed, good))
    untrusted(signed, "signature over something else")


@pytest.mark.fault("GT4")
@pytest.mark.control("K12")
def test_two_signatures_are_refused_though_one_is_good(signed: World, keys: SshKeys) -> None:
    in_force(signed, "demo:1")
    good = keys.commit(signed.repo, 2, "ann")
    head, _, rest = signed.repo.git("cat-file", "commit", good).encode().partition(b"gpgsig ")
    signature = _signature(signed, good)
    body = b"gpgsig " + rest + b"\n"
    made = signed.repo.object("commit", head + signature + body)
    signed.repo.point(made)
    untrusted(signed, "more than one signature")


@pytest.mark.fault("GT4")
@pytest.mark.control("K12")
def test_a_replaced_commit_is_seen_as_it_is(signed: World, keys: SshKeys) -> None:
    """`git replace` shows a good commit in the place of a bad one, to whoever asks git and does not forbid it."""
    in_force(signed, "demo:1")
    good = keys.commit(signed.repo, 2, "ann")
    bad = signed.repo.commit(3)
    signed.repo.git("replace", bad, good)
    untrusted(signed, "is not signed", bad[:12])


@pytest.mark.fault("GT4")
@pytest.mark.control("K12")
def test_a_signed_tag_on_a_commit_without_a_signature_is_refused(signed: World, keys: SshKeys) -> None:
    keys.commit(signed.repo, 1, "ann")
    signed.repo.commit(2)
    signed.repo.git(*keys.options("ann"), "tag", "--sign", "--message", "release", "v1")
    source = signed.source(tag="v1")
    source.sync()
    assert refusal(source)[0] is Kind.UNTRUSTED
    assert source.load().desired is None


@pytest.mark.fault("GT3", "GT4")
@pytest.mark.control("K12")
def test_an_older_commit_is_refused_however_well_it_is_signed(signed: World, keys: SshKeys) -> None:
    old = signed.repo.head()
    keys.commit(signed.repo, 2, "ann")
    in_force(signed, "demo:2")
    signed.repo.git("reset", "--quiet", "--hard", old)
    source = signed.source()
    source.sync()
    assert refusal(source)[0] is Kind.NOT_FORWARD
    assert image(source) == "demo:2"


@pytest.mark.fault("GT4")
@pytest.mark.control("K12")
def test_a_refused_commit_is_judged_anew_when_its_signer_is_trusted(signed: World, keys: SshKeys) -> None:
    source = signed.source()
    source.sync()
    keys.commit(signed.repo, 2, "eve")
    source.sync()
    assert refusal(source)[0] is Kind.UNTRUSTED
    keys.trust(ann="", eve="")
    source.sync()
    assert (image(source), refusal(source)) == ("demo:2", (None, ""))


@pytest.mark.control("K12")
def test_somebody_may_accept_one_commit_that_is_not_signed_and_no_other(signed: World) -> None:
    source = signed.source()
    source.sync()
    plain = signed.repo.commit(2)
    source.sync()
    assert source.accept(plain, "an emergency", "ann").signer is None
    assert image(source) == "demo:2"
    signed.repo.commit(3)
    source.sync()
    assert refusal(source)[0] is Kind.UNTRUSTED
    assert image(source) == "demo:2"


# ── every commit ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("GT4")
@pytest.mark.control("K12")
def test_every_commit_since_the_last_accepted_one_must_be_signed(signed: World, keys: SshKeys) -> None:
    in_force(signed, "demo:1", signatures=Signatures.EVERY)
    between = signed.repo.commit(2)
    keys.commit(signed.repo, 3, "ann")
    untrusted(signed, between[:12], "is not signed", signatures=Signatures.EVERY)
    assert in_force(signed, "demo:3") == "ann@example.com", "the newest alone is asked for in the other mode"


@pytest.mark.control("K12")
def test_a_chain_of_signed_commits_is_followed(signed: World, keys: SshKeys) -> None:
    in_force(signed, "demo:1", signatures=Signatures.EVERY)
    keys.commit(signed.repo, 2, "bob")
    keys.commit(signed.repo, 3, "ann")
    assert in_force(signed, "demo:3", signatures=Signatures.EVERY) == "ann@example.com"


@pytest.mark.control("K12")
def test_what_is_merged_from_before_the_accepted_commit_needs_no_new_signature(world: World, keys: SshKeys) -> None:
    """The mirror begins with the accepted commit: a merge of an old branch must not make older commits look new."""
    world.config |= {"signatures": Signatures.EVERY, "allowed_signers": str(keys.list)}
    world.repo.commit(0)
    world.repo.many(60)
    world.repo.git("branch", "side")
    world.repo.many(60)
    keys.commit(world.repo, 1, "ann")
    in_force(world, "demo:1")
    world.repo.git("checkout", "--quiet", "side")
    world.repo.write("side", "x")
    world.repo.commit_all()
    world.repo.git(*keys.options("bob"), "commit", "--quiet", "--amend", "--no-edit", "--gpg-sign")
    world.repo.git("checkout", "--quiet", "main")
    world.repo.git(*keys.options("ann"), "merge", "--quiet", "--no-edit", "--gpg-sign", "side")
    source = world.source()
    source.sync()
    assert (accepted(source).id, refusal(source)) == (world.repo.head(), (None, ""))


@pytest.mark.control("K12")
def test_more_commits_than_are_verified_have_to_be_accepted(
    signed: World, keys: SshKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.adapters.git_follow.EVERY_MAX", 2)
    in_force(signed, "demo:1", signatures=Signatures.EVERY)
    for number in (2, 3, 4):
        keys.commit(signed.repo, number, "ann")
    untrusted(signed, "3 commits", "git accept", signatures=Signatures.EVERY)


# ── the list itself ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.control("K12")
@pytest.mark.parametrize("how", ["writable", "link", "gone", "other owner", "nobody", "empty"])
def test_a_list_that_somebody_else_may_have_written_is_not_believed(signed: World, keys: SshKeys, how: str) -> None:
    in_force(signed, "demo:1")
    keys.commit(signed.repo, 2, "ann")
    config: dict[str, object] = {}
    words = {"writable": "chmod go-w", "link": "file of its own", "gone": "cannot be read", "other owner": "to root",
             "nobody": "nobody is trusted", "empty": "not among"}[how]  # fmt: skip
    if how == "writable":
        keys.list.chmod(0o664)
    elif how == "link":
        keys.list.rename(keys.folder / "real")
        keys.list.symlink_to(keys.folder / "real")
    elif how == "gone":
        keys.list.unlink()
    elif how == "other owner":
        if os.getuid():
            pytest.skip("only root can give a file to somebody else")
        os.chown(keys.list, 65533, 65533)
    elif how == "nobody":
        config["allowed_signers"] = None
    else:
        keys.list.write_text("")
    source = signed.source(**config)
    source.sync()
    assert refusal(source)[0] is not None
    assert words in refusal(source)[1]
    assert image(source) == "demo:1"


@pytest.mark.control("K12")
def test_the_repository_cannot_say_who_is_trusted(signed: World, keys: SshKeys) -> None:
    """A checkout's own configuration named a list that trusts everybody: git in it believed that (F13)."""
    in_force(signed, "demo:1")
    mine = signed.repo.folder / "theirs"
    mine.write_text(f"eve@example.com {keys.public('eve')}\n")
    signed.repo.git("config", "gpg.ssh.allowedSignersFile", str(mine))
    keys.commit(signed.repo, 2, "eve")
    untrusted(signed, "not among the trusted signers")


# ── OpenPGP ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def pgp() -> Iterator[PgpKeys]:
    if not has_gpg():
        pytest.skip("NO GPG to test with: apt install gnupg")
    with pgp_keys() as made:
        yield made


PGP = {
    "good": "",
    "known": "was not given full trust",
    "gone": "has expired",
    "revoked": "was revoked",
    "alien": "not among the trusted signers",
}


@pytest.mark.fault("GT4")
@pytest.mark.control("K12")
def test_openpgp_signatures_are_judged_by_the_operator_s_keyring(world: World, pgp: PgpKeys) -> None:
    made = {name: pgp.commit(world.repo, number, name) for number, name in enumerate(PGP)}
    pgp.hand_over()
    for name, commit in made.items():
        state = World(world.folder / name, url=str(world.repo.folder), commit=commit)
        source = state.source(signatures=Signatures.HEAD, gpg_home=str(pgp.home))
        source.sync()
        kind, message = refusal(source)
        if name == "good":
            assert kind is None, message
            assert accepted(source).signer == pgp.ids["good"]
        else:
            assert kind is Kind.UNTRUSTED, message
            assert PGP[name] in message, message
            assert pgp.ids[name][-16:] in message
        state.close()
    assert sorted(path.name for path in pgp.home.iterdir() if path.name.startswith(".#")) == []
    state = World(world.folder / "none", url=str(world.repo.folder), commit=made["good"])
    source = state.source(signatures=Signatures.HEAD, allowed_signers=str(SshKeys(world.folder / "k").list))
    source.sync()
    assert "an OpenPGP signature that cannot be checked" in refusal(source)[1]
    state.close()


@pytest.mark.control("K12")
def test_a_keyring_that_others_may_write_is_not_believed(world: World, pgp: PgpKeys) -> None:
    world.repo.commit(1)
    home = world.folder / "home"
    shutil.copytree(pgp.secret, home, ignore=shutil.ignore_patterns("S.*"))
    home.chmod(0o777)
    source = world.source(signatures=Signatures.HEAD, gpg_home=str(home))
    source.sync()
    assert "can be written by others" in refusal(source)[1]
    home.chmod(0o700)
    for name in ("pubring.kbx", "trustdb.gpg"):
        (home / name).unlink()
    source.sync()
    assert "no keyring" in refusal(source)[1]


@pytest.mark.fault("GT2", "GT4")
@pytest.mark.control("K12")
def test_rewritten_history_is_verified_commit_by_commit_where_it_may_be_rewritten(signed: World, keys: SshKeys) -> None:
    config = {"signatures": Signatures.EVERY, "allow_rewind": True}
    first = signed.repo.head()
    keys.commit(signed.repo, 2, "ann")
    assert in_force(signed, "demo:2", **config) == "ann@example.com"
    signed.repo.git("reset", "--quiet", "--hard", first)
    hidden = signed.repo.commit(3)
    keys.commit(signed.repo, 4, "ann")
    untrusted(signed, hidden[:12], "is not signed", tag="demo:2", **config)
    signed.repo.git("reset", "--quiet", "--hard", first)
    keys.commit(signed.repo, 5, "bob")
    assert in_force(signed, "demo:5", **config) == "bob@example.com"


@pytest.mark.control("K12")
def test_history_that_cannot_be_followed_to_its_end_is_not_verified(
    signed: World, keys: SshKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.adapters.git_mirror.DEPTHS", (2,))
    config = {"signatures": Signatures.EVERY, "allow_rewind": True}
    in_force(signed, "demo:1", **config)
    signed.repo.commit(2)
    for number in (3, 4, 5):
        keys.commit(signed.repo, number, "ann")
    source = signed.source(**config)
    source.sync()
    assert refusal(source)[0] is Kind.NOT_FORWARD
    assert "too long to verify" in refusal(source)[1]
    assert image(source) == "demo:1"
