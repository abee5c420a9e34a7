"""A repository is followed: what is taken over, what is refused, and what stays in force meanwhile."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest

from reconciler.adapters import git_mirror
from reconciler.adapters.git_source import GitSource
from reconciler.core.errors import Refused
from reconciler.core.trust import Kind
from tests.git.git_world import MANIFEST, World, accepted, image, refusal, wait_until
from tests.security import corpus_git

# ── following ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_commit_is_taken_over_with_who_made_it(world: World) -> None:
    first = world.repo.commit(1)
    source = world.source()
    assert source.sync().is_changed
    assert image(source) == "demo:1"
    commit = accepted(source)
    assert (commit.id, commit.author, commit.subject) == (first, "Ann Example <ann@example.com>", "version 1")
    assert commit.source == f"{world.repo.folder} branch main"
    assert commit.signer is None
    loaded = source.load()
    assert (loaded.commit, loaded.trouble, loaded.problems) == (commit, (), ())


def test_before_the_first_look_nothing_is_decided(world: World) -> None:
    loaded = world.source().load()
    assert (loaded.desired, loaded.settled) == (None, False)


def test_a_look_without_news_changes_nothing_and_asks_once(world: World) -> None:
    world.repo.commit(1)
    source = world.source()
    source.sync()
    before, news = source.load(), list(world.news)
    assert not source.sync().is_changed
    assert source.load() == before
    assert world.news == news


def test_several_commits_at_once_are_followed_to_the_newest(world: World) -> None:
    world.repo.commit(1)
    source = world.source()
    source.sync()
    for number in range(2, 6):
        last = world.repo.commit(number)
    source.sync()
    assert (image(source), accepted(source).id) == ("demo:5", last)


def test_what_is_in_force_survives_a_restart_without_the_repository(world: World) -> None:
    first = world.repo.commit(1)
    world.source().sync()
    shutil.rmtree(world.repo.folder)
    shutil.rmtree(world.git_folder / "mirror")
    again = world.source()
    assert (image(again), accepted(again).id) == ("demo:1", first)


def test_another_repository_in_the_configuration_is_not_the_old_one_s_successor(world: World) -> None:
    world.repo.commit(1)
    world.source().sync()
    other = world.source(path="deploy/manifest.yaml")
    assert other.load().desired is None
    world.repo.commit(2, at="deploy/manifest.yaml")
    other.sync()
    assert image(other) == "demo:2"


def test_a_damaged_state_file_is_forgotten_and_told(world: World) -> None:
    world.repo.commit(1)
    world.source().sync()
    (world.git_folder / "state.json").write_text("{}")
    again = world.source()
    assert again.load().desired is None
    again.sync()
    assert image(again) == "demo:1"


def test_a_tree_that_was_lost_comes_back(world: World) -> None:
    world.repo.commit(1)
    source = world.source()
    source.sync()
    shutil.rmtree(world.git_folder / "trees")
    source.sync()
    assert image(source) == "demo:1"


def test_a_broken_manifest_is_in_force_and_says_what_is_wrong(world: World) -> None:
    world.repo.write("manifest.yaml", "services: [")
    broken = world.repo.commit_all()
    source = world.source()
    source.sync()
    loaded = source.load()
    assert accepted(source).id == broken
    assert loaded.desired is None
    assert loaded.problems


# ── the thread ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_commit_in_a_checkout_is_seen_at_once(world: World) -> None:
    world.repo.commit(1)
    source = world.source(poll_s=3600.0)
    source.start()
    wait_until(lambda: source.status().accepted, "the first commit")
    wait_until(lambda: source.status().next_look_s, "its rest")
    second = world.repo.commit(2)
    wait_until(lambda: accepted(source).id == second, "the second commit")
    assert source.status().is_watched


def test_a_hint_is_heeded_and_many_of_them_are_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.repo.commit(1)
    monkeypatch.setattr("reconciler.adapters.git_source.RefsWatch.is_watching", False, raising=False)
    monkeypatch.setattr("reconciler.adapters.git_watch.refs_folder", lambda _: None)
    source = world.source(poll_s=3600.0)
    source.start()
    wait_until(lambda: (source.status().next_look_s or 0) > 1000, "its rest")
    looks = source._view.looks
    second = world.repo.commit(2)
    for number in range(1000):
        source.hint(f"webhook {number}")
    wait_until(lambda: accepted(source).id == second, "the second commit")
    assert source._view.looks < looks + 30


def test_a_timer_finds_what_nobody_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.repo.commit(1)
    monkeypatch.setattr("reconciler.adapters.git_watch.refs_folder", lambda _: None)
    source = world.source(poll_s=0.2)
    source.start()
    wait_until(lambda: source.status().accepted, "the first commit")
    assert not source.status().is_watched
    second = world.repo.commit(2)
    wait_until(lambda: accepted(source).id == second, "the second commit")


def test_reading_never_waits_for_git(world: World) -> None:
    """Processor time, not the clock: the machine may be busy."""
    world.repo.commit(1)
    source = world.source()
    source.sync()
    with source._turns.here:  # a look that hangs
        began = time.thread_time()
        for _ in range(100):
            source.load()
        assert (time.thread_time() - began) / 100 < 0.005


def test_an_operator_is_told_when_a_look_does_not_end(world: World) -> None:
    source = world.source()
    with source._turns.here, pytest.raises(Refused, match="still being read"):
        source.sync(timeout_s=0.01)


# ── what is not followed ───────────────────────────────────────────────────────────────────────────────────────────


def stays(source: GitSource, kind: Kind, *words: str, tag: str = "demo:1") -> str:
    """The old manifest is in force, and the trouble is of that kind and says that."""
    found, message = refusal(source)
    assert found is kind, message
    for word in words:
        assert word in message
    assert image(source) == tag
    told = source.load().trouble
    assert [problem.message for problem in told] == [message]
    return message


@pytest.mark.fault("GT2")
def test_rewritten_history_is_refused_until_somebody_accepts_it(world: World) -> None:
    world.repo.commit(0)
    world.repo.commit(1)
    source = world.source()
    source.sync()
    other = world.repo.commit(2, "--amend")
    source.sync()
    stays(source, Kind.NOT_FORWARD, "does not descend", f"git accept {other[:12]}")
    first = source.load().trouble
    source.sync()
    assert source.load().trouble is first, "the same trouble is told once"
    with pytest.raises(Refused, match=other[:12]):
        source.accept("1234567", "typo", "ann")
    assert source.accept(other[:9], "we rewrote it", "ann").id == other
    assert (image(source), refusal(source)) == ("demo:2", (None, ""))
    world.repo.commit(3)
    source.sync()
    assert image(source) == "demo:3"


@pytest.mark.fault("GT2")
def test_accepting_one_commit_accepts_no_other(world: World) -> None:
    world.repo.commit(1)
    source = world.source()
    source.sync()
    refused = world.repo.commit(2, "--amend")
    source.sync()
    world.repo.commit(3, "--amend")
    assert source.accept(refused, "that one", "ann").id == refused
    source.sync()
    stays(source, Kind.NOT_FORWARD, tag="demo:2")


@pytest.mark.fault("GT2")
def test_rewritten_history_is_followed_where_that_is_allowed(world: World) -> None:
    world.repo.commit(1)
    source = world.source(allow_rewind=True)
    source.sync()
    world.repo.commit(2, "--amend")
    source.sync()
    assert image(source) == "demo:2"


@pytest.mark.fault("GT3")
def test_an_older_commit_is_not_gone_back_to(world: World) -> None:
    old = world.repo.commit(0)
    world.repo.commit(1)
    source = world.source()
    source.sync()
    world.repo.git("reset", "--quiet", "--hard", old)
    source.sync()
    stays(source, Kind.NOT_FORWARD, old[:12])
    assert world.source().sync().status.accepted != old


@pytest.mark.fault("GT5")
@pytest.mark.parametrize("how", ["deleted", "renamed", "emptied"])
def test_a_branch_that_is_gone_leaves_the_last_good_commit(world: World, how: str) -> None:
    world.repo.commit(1)
    source = world.source()
    source.sync()
    if how == "emptied":
        shutil.rmtree(world.repo.folder)
        world._repo = None
        world.repo.git("status")
    elif how == "renamed":
        world.repo.git("branch", "--move", "main", "trunk")
    else:
        world.repo.git("checkout", "--quiet", "--detach")
        world.repo.git("branch", "--delete", "--force", "main")
    source.sync()
    stays(source, Kind.REF_MISSING, "branch main")


@pytest.mark.fault("GT5")
def test_a_branch_that_comes_back_is_followed_again(world: World) -> None:
    world.repo.commit(1)
    source = world.source()
    source.sync()
    world.repo.git("branch", "--move", "main", "trunk")
    source.sync()
    world.repo.commit(2)
    world.repo.git("branch", "--move", "trunk", "main")
    source.sync()
    assert (image(source), refusal(source)) == ("demo:2", (None, ""))


@pytest.mark.fault("GT5")
def test_a_detached_head_does_not_matter(world: World) -> None:
    first = world.repo.commit(1)
    world.repo.commit(2)
    world.repo.git("checkout", "--quiet", "--detach", first)
    source = world.source()
    source.sync()
    assert image(source) == "demo:2"


@pytest.mark.fault("GT5")
def test_a_tag_that_moves_is_refused(world: World) -> None:
    world.repo.commit(1)
    world.repo.git("tag", "--annotate", "--message", "first", "v1")
    source = world.source(tag="v1")
    source.sync()
    assert image(source) == "demo:1"
    world.repo.commit(2)
    source.sync()
    assert image(source) == "demo:1"
    world.repo.git("tag", "--force", "v1")
    source.sync()
    stays(source, Kind.NOT_FORWARD, "the tag was moved")


def test_a_pinned_commit_is_read_and_nothing_else(world: World) -> None:
    first = world.repo.commit(1)
    world.repo.commit(2)
    source = world.source(commit=first)
    source.sync()
    assert image(source) == "demo:1"


@pytest.mark.fault("GT5")
def test_a_shallow_boundary_hides_no_history(world: World) -> None:
    """The mirror begins with one commit; a merge of a branch from long before it is a step forward all the same."""
    world.repo.commit(0)
    world.repo.git("branch", "side")
    world.repo.many(60)
    source = world.source()
    source.sync()
    world.repo.git("checkout", "--quiet", "side")
    world.repo.write("side", "1")
    world.repo.commit_all("on the side")
    world.repo.git("checkout", "--quiet", "main")
    world.repo.git("merge", "--quiet", "--no-edit", "side")
    world.repo.commit(100)
    source.sync()
    assert (image(source), refusal(source)) == ("demo:100", (None, ""))


@pytest.mark.fault("GT14")
def test_more_commits_than_are_fetched_at_once_are_a_step_forward(world: World) -> None:
    world.repo.commit(1)
    source = world.source()
    source.sync()
    world.repo.many(70)
    world.repo.commit(2)
    source.sync()
    assert image(source) == "demo:2"


@pytest.mark.fault("GT14")
def test_wild_dates_do_not_change_who_descends_from_whom(world: World) -> None:
    dates = (2_000_000_000, 1_000, 1_900_000_000, 5, 1_500_000_000)
    for number, when in enumerate(dates):
        world.repo.commit(number, when=when)
    source = world.source()
    source.sync()
    for number, when in enumerate((3, 2_100_000_000, 1), start=10):
        world.repo.commit(number, when=when)
    source.sync()
    assert (image(source), refusal(source)) == ("demo:12", (None, ""))
    world.repo.git("reset", "--quiet", "--hard", "HEAD~5")
    world.repo.commit(20, when=2_140_000_000)
    source.sync()
    stays(source, Kind.NOT_FORWARD, tag="demo:12")


@pytest.mark.fault("GT14")
def test_history_that_is_too_long_to_be_followed_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_mirror, "DEPTHS", (2, 4))
    world.repo.commit(1)
    source = world.source()
    source.sync()
    for number in range(10):
        world.repo.commit(number)
    source.sync()
    stays(source, Kind.NOT_FORWARD, "within the 4 commits")


# ── our own copy ───────────────────────────────────────────────────────────────────────────────────────────────────


def mirror(world: World) -> Path:
    return world.git_folder / "mirror"


def _cut_packs(world: World) -> None:
    for pack in (mirror(world) / "objects" / "pack").glob("*.pack"):
        pack.chmod(0o600)
        with pack.open("r+b") as file:
            file.truncate(60)


def _flip_packs(world: World) -> None:
    for pack in (mirror(world) / "objects" / "pack").glob("*.pack"):
        pack.chmod(0o600)
        data = bytearray(pack.read_bytes())
        for at in range(20, len(data) - 20, 7):
            data[at] ^= 0xFF
        pack.write_bytes(data)


def _without_packs(world: World) -> None:
    for path in (mirror(world) / "objects" / "pack").iterdir():
        path.unlink()


def _alternates(world: World) -> None:
    (mirror(world) / "objects" / "info").mkdir(exist_ok=True)
    (mirror(world) / "objects" / "info" / "alternates").write_text("/nowhere\n")


def _replaced(world: World) -> None:
    (mirror(world) / "refs" / "replace").mkdir()


def _no_head(world: World) -> None:
    (mirror(world) / "HEAD").unlink()


def _garbage_config(world: World) -> None:
    (mirror(world) / "config").write_text("[garbage")


def _garbage_refs(world: World) -> None:
    (mirror(world) / "packed-refs").write_text("garbage\n\0\0")
    shutil.rmtree(mirror(world) / "refs")
    (mirror(world) / "refs").mkdir()
    (mirror(world) / "shallow").write_text("garbage\n")


DAMAGE = (_cut_packs, _flip_packs, _without_packs, _alternates, _replaced, _no_head, _garbage_config, _garbage_refs)


@pytest.mark.fault("GT6")
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__.strip("_"))
def test_a_damaged_copy_is_made_anew_and_history_is_still_followed(world: World, damage: object) -> None:
    world.repo.commit(0)
    world.repo.commit(1)
    source = world.source()
    source.sync()
    damage(world)  # type: ignore[operator]
    assert image(source) == "demo:1"
    source.sync()
    assert (image(source), refusal(source)) == ("demo:1", (None, ""))
    world.repo.commit(2)
    source.sync()
    assert (image(source), refusal(source)) == ("demo:2", (None, ""))
    world.repo.commit(3, "--amend")
    source.sync()
    stays(source, Kind.NOT_FORWARD, tag="demo:2")
    if damage is not _garbage_config:
        assert source.status().repaired


@pytest.mark.fault("GT6", "GT1")
def test_a_damaged_copy_is_kept_while_there_is_no_other_to_be_had(world: World) -> None:
    world.repo.commit(1)
    source = world.source()
    source.sync()
    _no_head(world)
    world.repo.folder.rename(world.folder / "away")
    source.sync()
    stays(source, Kind.UNREACHABLE)
    (world.folder / "away").rename(world.repo.folder)
    world.repo.commit(2)
    source.sync()
    assert image(source) == "demo:2"


@pytest.mark.fault("GT6")
def test_a_worn_copy_is_replaced_while_there_is_nothing_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_mirror, "PACKS_MAX", 0)
    world.repo.commit(1)
    source = world.source()
    source.sync()
    source.sync()
    assert not mirror(world).exists()
    world.repo.commit(2)
    source.sync()
    assert image(source) == "demo:2"


@pytest.mark.fault("GT7")
@pytest.mark.parametrize("lock", ["shallow.lock", "HEAD.lock", "index.lock", "config.lock", "gc.pid",
                                  "refs/reconciler/candidate.lock"])  # fmt: skip
def test_a_lock_that_was_left_behind_is_removed_when_it_is_old(world: World, lock: str) -> None:
    world.repo.commit(1)
    source = world.source()
    source.sync()
    path = mirror(world) / lock
    path.write_text("")
    os.utime(path, (time.time() - 400, time.time() - 400))
    world.repo.commit(2)
    source.sync()
    assert (image(source), refusal(source)) == ("demo:2", (None, ""))
    assert not path.exists()


@pytest.mark.fault("GT7")
def test_a_young_lock_of_ours_holds_nothing_up_and_a_checkout_s_is_left_alone(world: World) -> None:
    """A killed daemon may have left a git that still works there: a new copy is made beside it."""
    world.repo.commit(1)
    source = world.source()
    source.sync()
    mine, theirs = mirror(world) / "shallow.lock", world.repo.folder / ".git" / "index.lock"
    world.repo.commit(2)
    for path in (mine, theirs):
        path.write_text("")
    os.utime(theirs, (1, 1))
    source.sync()
    assert image(source) == "demo:2"
    assert theirs.exists()


@pytest.mark.fault("GT7")
def test_an_old_lock_stays_while_a_git_is_at_work_there(world: World) -> None:
    world.repo.commit(1)
    source = world.source()
    source.sync()
    lock = mirror(world) / "index.lock"
    lock.write_text("")
    os.utime(lock, (1, 1))
    work = ["git", f"--git-dir={mirror(world)}", "cat-file", "--batch"]
    with subprocess.Popen(work, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"HEAD\n")
        process.stdin.flush()
        assert process.stdout is not None
        process.stdout.readline()  # it runs
        source.sync()
        assert lock.exists()
        process.stdin.close()
    source.sync()
    assert not lock.exists()


# ── what stands in the tree ────────────────────────────────────────────────────────────────────────────────────────


def _symlink(world: World) -> None:
    (world.repo.folder / "manifest.yaml").unlink()
    (world.repo.folder / "manifest.yaml").symlink_to("/etc/passwd")


def _folder(world: World) -> None:
    (world.repo.folder / "manifest.yaml").unlink()
    world.repo.write("manifest.yaml/manifest.yaml", "x")


def _gone(world: World) -> None:
    (world.repo.folder / "manifest.yaml").unlink()


def _submodule(world: World) -> None:
    commit = world.repo.head()
    (world.repo.folder / "manifest.yaml").unlink()
    world.repo.git("rm", "--quiet", "--cached", "manifest.yaml")
    world.repo.git("update-index", "--add", "--cacheinfo", f"160000,{commit},manifest.yaml")
    world.repo.git("commit", "--quiet", "--message", "a submodule")


REJECTED = {_symlink: "a symbolic link", _folder: "a folder", _gone: "there is no", _submodule: "a submodule"}


@pytest.mark.fault("GT9")
@pytest.mark.parametrize("change", REJECTED, ids=lambda change: change.__name__.strip("_"))
def test_what_is_no_regular_file_is_no_manifest(world: World, change: object) -> None:
    world.repo.commit(1)
    source = world.source()
    source.sync()
    change(world)  # type: ignore[operator]
    if change is not _submodule:
        world.repo.commit_all("no manifest any more")
    source.sync()
    message = stays(source, Kind.REJECTED, REJECTED[change])  # type: ignore[index]
    with pytest.raises(Refused, match="cannot be accepted"):
        source.accept(world.repo.head(), "please", "ann")
    assert world.repo.head()[:12] in message


@pytest.mark.fault("GT9")
def test_a_manifest_that_may_be_run_is_one_and_may_not_be_run_here(world: World) -> None:
    world.repo.write("manifest.yaml", MANIFEST.format(number=1))
    (world.repo.folder / "manifest.yaml").chmod(0o755)
    world.repo.commit_all()
    source = world.source()
    source.sync()
    assert image(source) == "demo:1"
    assert source.path is not None
    assert stat.S_IMODE(source.path.stat().st_mode) == 0o640


@pytest.mark.fault("GT9")
def test_a_link_on_the_way_to_the_manifest_is_not_followed(world: World) -> None:
    world.repo.commit(1, at="real/manifest.yaml")
    (world.repo.folder / "deploy").symlink_to("real")
    world.repo.commit_all()
    source = world.source(path="deploy/manifest.yaml")
    source.sync()
    assert refusal(source)[0] is Kind.REJECTED


def test_what_lies_beside_the_manifest_comes_along_and_nothing_else(world: World) -> None:
    world.repo.write("top.txt", "no")
    world.repo.write("deploy/policies/mine.rego", "package mine\n")
    world.repo.write("deploy/app.env", "A=1\n")
    (world.repo.folder / "deploy" / "link.env").symlink_to("/etc/passwd")
    world.repo.commit(1, at="deploy/manifest.yaml")
    source = world.source(path="deploy/manifest.yaml")
    source.sync()
    assert source.path is not None
    found = {str(path.relative_to(source.path.parent)) for path in source.path.parent.rglob("*") if path.is_file()}
    assert found == {"manifest.yaml", "policies/mine.rego", "app.env"}
    loaded = source.load()
    assert loaded.desired is not None
    assert loaded.desired.user_policies == (("mine.rego", "package mine\n"),)


@pytest.mark.fault("GT8")
def test_files_for_which_there_is_no_room_are_left_out_and_policies_are_not(world: World) -> None:
    world.repo.write("big.bin", os.urandom(3 * 1024 * 1024))
    for number in range(1100):
        world.repo.write(f"src/{number}.txt", f"{number}")
    world.repo.write("z/policies/z.rego", "package z\n")
    world.repo.commit(1)
    source = world.source()
    source.sync()
    assert source.path is not None
    found = [path for path in source.path.parent.rglob("*") if path.is_file()]
    assert 990 < len(found) <= 1000
    assert (source.path.parent / "z/policies/z.rego").exists()
    assert not (source.path.parent / "big.bin").exists()


@pytest.mark.fault("GT8")
def test_a_huge_manifest_is_never_read(world: World) -> None:
    world.repo.commit(1)
    source = world.source()
    source.sync()
    world.repo.write("manifest.yaml", MANIFEST.format(number=2) + "# " + "x" * 2 * 1024 * 1024)
    world.repo.commit_all()
    source.sync()
    stays(source, Kind.TOO_BIG, "1048576 bytes")


@pytest.mark.fault("GT8")
def test_a_repository_beyond_its_limit_is_not_taken(world: World) -> None:
    world.repo.commit(1)
    source = world.source(max_bytes=2 * 1024 * 1024)
    source.sync()
    for number in range(5):
        world.repo.write(f"{number}.bin", os.urandom(900 * 1024))
    world.repo.commit(2)
    source.sync()
    stays(source, Kind.TOO_BIG, "max_bytes")


@pytest.mark.fault("GT12")
def test_a_work_tree_that_is_half_changed_is_not_read(world: World) -> None:
    world.repo.commit(1)
    source = world.source()
    source.sync()
    world.repo.write("manifest.yaml", "services: {image: 'half")
    world.repo.git("add", "manifest.yaml")
    source.sync()
    assert (image(source), refusal(source)) == ("demo:1", (None, ""))


@pytest.mark.fault("GT11")
def test_a_checkout_of_another_user_is_told_and_not_read(world: World) -> None:
    if os.getuid():
        pytest.skip("only root can give a folder to somebody else")
    world.repo.commit(1)
    source = world.source()
    source.sync()
    world.repo.commit(2)
    for path in (world.repo.folder, world.repo.folder / ".git"):
        os.chown(path, 65533, 65533)
    source.sync()
    stays(source, Kind.UNTRUSTED, "belongs to another user", "chown")


# ── looking at a commit without following it ───────────────────────────────────────────────────────────────────────


def test_a_commit_can_be_read_without_being_in_force(world: World) -> None:
    old = world.repo.commit(0)
    world.repo.commit(1)
    source = world.source()
    source.sync()
    loaded = source.manifest_at(old)
    assert loaded.desired is not None
    assert loaded.desired.services[0].image == "demo:0"
    assert loaded.commit is not None
    assert loaded.commit.id == old
    assert image(source) == "demo:1"
    world.repo.commit(2)
    source.sync()
    assert image(source) == "demo:2"


@pytest.mark.parametrize("name", ["HEAD", "abc", "--all", "12345678", "deadbeef" * 5, "main~1"])
def test_a_commit_that_is_not_known_is_a_problem(world: World, name: str) -> None:
    world.repo.commit(1)
    loaded = world.source().manifest_at(name)
    assert loaded.desired is None
    assert loaded.problems


def test_only_the_last_three_trees_are_kept(world: World) -> None:
    source = world.source()
    made = []
    for number in range(6):
        made.append(world.repo.commit(number))
        source.sync()
    assert {path.name for path in (world.git_folder / "trees").iterdir()} == set(made[-3:])
    state = json.loads((world.git_folder / "state.json").read_text())["state"]
    assert state["commit"] == made[-1]


@pytest.mark.fault("GT10")
@pytest.mark.control("K11")
def test_nothing_that_a_checkout_names_is_run(tmp_path: Path) -> None:
    """All of it at once; the corpus (tests/security/corpus_git.py) has each by itself, and layouts and objects."""
    stage = corpus_git.Stage(tmp_path)
    try:
        source = stage.world.source()
        source.sync()
        for name in corpus_git.PROGRAMS:
            stage.config(name, str(stage.command))
        for name in corpus_git.SHELLED:
            stage.config(name, f"!{stage.command}")
        corpus_git.hooks(stage)
        source.sync()
        assert (image(source), refusal(source)) == ("demo:2", (None, ""))
        assert not stage.tripwire.exists(), stage.tripwire.read_text()
    finally:
        stage.world.close()


@pytest.mark.fault("GT14")
def test_more_commits_at_once_than_anybody_makes_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_mirror, "BETWEEN_MAX", 20)
    world.repo.commit(1)
    source = world.source()
    source.sync()
    world.repo.many(30)
    source.sync()
    stays(source, Kind.NOT_FORWARD, "commits that were looked at")


def test_two_processes_of_ours_take_turns(world: World) -> None:
    world.repo.commit(1)
    source = world.source()
    with (world.git_folder / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process's
        with pytest.raises(Refused, match="still being read"):
            source.sync(timeout_s=0.1)
    assert source.sync().is_changed


def test_what_another_process_has_accepted_is_in_force_here_too(world: World) -> None:
    world.repo.commit(1)
    daemon, command = world.source(), world.source()
    daemon.sync()
    world.repo.commit(2, "--amend")
    command.sync()
    command.accept(world.repo.head(), "agreed", "ann")
    daemon.sync()
    assert (image(daemon), refusal(daemon)) == ("demo:2", (None, ""))


def test_a_look_that_was_asked_for_is_not_lost_to_the_thread_s_own(world: World) -> None:
    world.repo.commit(1)
    source = world.source(poll_s=0.01)
    source.start()
    for number in range(2, 12):
        made = world.repo.commit(number)
        source.sync()
        assert accepted(source).id == made
        assert image(source) == f"demo:{number}"


def test_a_bug_of_ours_is_told_and_the_next_look_comes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.repo.commit(1)
    source = world.source()
    source.sync()
    with monkeypatch.context() as planted:
        planted.setattr(source._follower, "look", lambda *_: 1 / 0)
        source.sync()
    assert "a bug of ours" in refusal(source)[1]
    assert image(source) == "demo:1"
    source.sync()
    assert refusal(source) == (None, "")


def test_a_full_disk_is_told_and_nothing_is_accepted_by_half(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.repo.commit(1)
    source = world.source()
    source.sync()
    world.repo.commit(2)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as planted:
        planted.setattr("reconciler.adapters.git_trees.os.fsync", full)
        source.sync()
    stays(source, Kind.UNREACHABLE, "No space left")
    assert [path.name for path in (world.git_folder / "trees").iterdir()] == [accepted(source).id]
    source.sync()
    assert image(source) == "demo:2"
