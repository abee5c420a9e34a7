"""A manifest in a file: believed only when nobody can be in the middle of writing it, and read anew on any change.

Time is set by hand: the file's modification times are set to the clock's.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.adapters.file_source import MAX_BYTES, MAX_POLICIES, OLD_S, SETTLE_S, FileSource
from reconciler.ports import Loaded
from tests.cycle.cycle_world import HandClock

GOOD = """\
services:
  image: demo:1
  port: 3000
nginx:
  image: nginx:1.30
  port: 8080
network:
  name: web
  driver_type: bridge
"""
IS_ROOT = os.geteuid() == 0


class Desk:
    """A folder, a clock, and a source that follows the manifest in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "manifest.yaml"
        self.clock = HandClock()
        self.source = FileSource(self.path, self.clock)

    def write(self, text: str, name: str = "manifest.yaml") -> None:
        """Write in place, now."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        os.utime(path, (self.clock.now(), self.clock.now()))

    def rename_into_place(self, text: str) -> None:
        self.write(text, ".manifest.new")
        os.replace(self.folder / ".manifest.new", self.path)

    def load(self) -> Loaded:
        return self.source.load()

    def load_old(self) -> Loaded:
        """As it is read once nobody has touched anything for long."""
        self.clock.seconds += OLD_S + 1
        loaded = self.source.load()
        assert loaded.settled
        return loaded

    def message(self) -> str:
        (problem,) = self.load().problems
        return str(problem)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.write(GOOD)
    return made


# ---------------------------------------------------------------- settled


@pytest.mark.fault("E1")
def test_a_file_written_in_place_is_believed_when_it_looks_the_same_twice(desk: Desk) -> None:
    assert not desk.load().settled
    desk.clock.seconds += SETTLE_S / 2
    assert not desk.load().settled
    desk.clock.seconds += SETTLE_S / 2
    assert desk.load().settled


@pytest.mark.fault("E1", "E8")
def test_a_writer_at_work_starts_the_wait_anew(desk: Desk) -> None:
    desk.load()
    for length in (20, 40, 60):
        desk.clock.seconds += SETTLE_S
        desk.write(GOOD[:length])
        assert not desk.load().settled


@pytest.mark.parametrize("moment", [10178.123, 0.1, 3600.7, 99999.999])
def test_a_renamed_file_is_believed_whatever_the_clocks_fraction(desk: Desk, moment: float) -> None:
    desk.write(GOOD)
    desk.load_old()
    desk.clock.seconds += moment
    desk.rename_into_place(GOOD.replace("8080", "8081"))
    desk.source.renamed_into_place()
    assert desk.load().settled


def test_a_file_renamed_into_place_is_believed_at_once(desk: Desk) -> None:
    desk.rename_into_place(GOOD)
    desk.source.renamed_into_place()
    assert desk.load().settled
    assert desk.load().settled, "and it stays so"


def test_the_hint_of_a_rename_is_good_for_that_file_only(desk: Desk) -> None:
    desk.source.renamed_into_place()
    assert desk.load().settled
    desk.write(GOOD + "#")
    assert not desk.load().settled, "the same file, written in place since"
    desk.source.renamed_into_place()
    desk.rename_into_place(GOOD)
    assert not desk.load().settled, "another file than the one the hint was about"


def test_a_hint_about_a_file_that_is_gone_is_forgotten(desk: Desk) -> None:
    desk.path.unlink()
    desk.source.renamed_into_place()
    desk.write(GOOD)
    assert not desk.load().settled


def test_a_file_that_nobody_touched_for_long_is_believed_at_once(desk: Desk) -> None:
    desk.clock.seconds += OLD_S + 0.1
    assert desk.load().settled


@pytest.mark.fault("E1")
def test_a_policy_that_is_being_written_is_not_believed_either(desk: Desk) -> None:
    desk.load_old()
    desk.write("package swiftdeploy.admission.user\n", "policies/mine.rego")
    assert not desk.load().settled
    desk.clock.seconds += 1.01 * SETTLE_S
    assert desk.load().settled


# ---------------------------------------------------------------- what is refused


@pytest.mark.fault("E4")
def test_a_missing_manifest_says_what_to_do(desk: Desk) -> None:
    desk.path.unlink()
    assert "there is no manifest.yaml here" in desk.message()
    assert desk.load().desired is None


@pytest.mark.fault("E6")
def test_a_symbolic_link_is_refused(desk: Desk) -> None:
    desk.path.rename(desk.folder / "real.yaml")
    desk.path.symlink_to("real.yaml")
    assert "is a symbolic link" in desk.message()


def test_a_linked_folder_is_fine(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "current").symlink_to("real")
    (tmp_path / "real/manifest.yaml").write_text(GOOD)
    assert FileSource(tmp_path / "current/manifest.yaml", desk.clock).load().desired is not None


@pytest.mark.fault("E6")
def test_a_pipe_is_refused_without_waiting_for_a_writer(desk: Desk) -> None:
    desk.path.unlink()
    os.mkfifo(desk.path)
    assert "is not a regular file" in desk.message()


@pytest.mark.fault("E6")
def test_a_folder_is_refused(desk: Desk) -> None:
    desk.path.unlink()
    desk.path.mkdir()
    assert "is not a regular file" in desk.message()


@pytest.mark.fault("E5")
def test_a_huge_file_is_refused_and_not_read_to_its_end(desk: Desk) -> None:
    with desk.path.open("r+b") as file:
        file.truncate(1024**4)
    loaded = desk.load()
    assert loaded.desired is None
    assert "At most" in str(loaded.problems[0])


@pytest.mark.skipif(IS_ROOT, reason="root may read everything")
def test_a_file_we_may_not_read_says_what_to_do(desk: Desk) -> None:
    desk.path.chmod(0)
    assert "may not be read by this user; `chmod +r manifest.yaml`" in desk.message()


@pytest.mark.fault("E5")
def test_bytes_that_are_no_text_are_a_problem_and_no_crash(desk: Desk) -> None:
    desk.path.write_bytes(b"\xff\xfe\x00services")
    assert (desk.load().desired, desk.load().parsed) == (None, False)


def test_what_is_wrong_with_the_text_is_told_from_what_it_says(desk: Desk) -> None:
    desk.write("services: [")
    assert not desk.load().parsed
    desk.write("services: 3\n")
    assert desk.load().parsed
    assert desk.load().problems


def test_the_same_trouble_has_the_same_digest(desk: Desk) -> None:
    desk.path.unlink()
    missing = desk.load().digest
    assert desk.load().digest == missing
    desk.path.mkdir()
    assert desk.load().digest != missing


# ---------------------------------------------------------------- what else belongs to it


def test_an_unchanged_file_is_not_parsed_again(desk: Desk) -> None:
    assert desk.load().desired is desk.load().desired


def test_a_changed_env_file_is_noticed(desk: Desk) -> None:
    desk.write("GREETING=hello\n", "app.env")
    desk.write(GOOD.replace("  port: 3000\n", "  port: 3000\n  env_file: app.env\n"))
    before = desk.load_old().desired
    assert before is not None
    assert ("GREETING", "hello") in before.services[0].environment
    desk.write("GREETING=bye\n", "app.env")
    after = desk.load_old().desired
    assert after is not None
    assert ("GREETING", "bye") in after.services[0].environment


def test_an_env_file_outside_the_folder_is_not_read(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.env"
    outside.write_text("SECRET=1\n")
    (desk.folder / "app.env").symlink_to(outside)
    desk.write(GOOD.replace("  port: 3000\n", "  port: 3000\n  env_file: app.env\n"))
    loaded = desk.load()
    assert loaded.desired is None or "SECRET" not in dict(loaded.desired.services[0].environment)


def policies(loaded: Loaded) -> list[str]:
    assert loaded.desired is not None, loaded.problems
    return [name for name, _ in loaded.desired.user_policies]


def test_policies_beside_the_manifest_are_part_of_it_and_their_changes_are_noticed(desk: Desk) -> None:
    assert policies(desk.load_old()) == []
    desk.write("package swiftdeploy.canary.user\n", "policies/b.rego")
    desk.write("package swiftdeploy.admission.user\n", "policies/a.rego")
    desk.write("nobody reads this", "policies/README.md")
    loaded = desk.load_old()
    assert policies(loaded) == ["a.rego", "b.rego"]
    desk.write("package swiftdeploy.admission.user\n# edited\n", "policies/a.rego")
    assert desk.load_old().desired != loaded.desired
    (desk.folder / "policies/b.rego").unlink()
    assert policies(desk.load_old()) == ["a.rego"]


def test_a_policies_folder_of_another_name_is_read_at_the_first_look(desk: Desk) -> None:
    desk.write("package swiftdeploy.admission.user\n", "policies/not-mine.rego")
    desk.write("package swiftdeploy.admission.user\n", "rules/mine.rego")
    desk.write(GOOD + "opa:\n  policies_dir: rules\n")
    assert policies(desk.load_old()) == ["mine.rego"]


@pytest.mark.parametrize("bad", ["link", "folder", "bytes"])
def test_a_policy_that_cannot_be_read_makes_the_manifest_unusable(desk: Desk, bad: str) -> None:
    desk.write("package swiftdeploy.admission.user\n", "policies/good.rego")
    path = desk.folder / "policies/bad.rego"
    if bad == "link":
        path.symlink_to("good.rego")
    elif bad == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"\xff\xff")
        os.utime(path, (desk.clock.now(), desk.clock.now()))
    loaded = desk.load_old()
    assert loaded.desired is None
    assert any("bad.rego" in str(problem) for problem in loaded.problems)
    path.rmdir() if bad == "folder" else path.unlink()
    assert policies(desk.load_old()) == ["good.rego"]


def test_policies_are_never_left_out_in_silence(desk: Desk) -> None:
    for number in range(MAX_POLICIES + 1):
        desk.write("package swiftdeploy.admission.user\n", f"policies/{number}.rego")
    assert "holds 101 policies; at most 100 are read" in desk.message()


def test_a_policy_is_never_cut_off_in_silence(desk: Desk) -> None:
    desk.write("package swiftdeploy.admission.user\n" + "#" * MAX_BYTES, "policies/long.rego")
    assert "long.rego" in desk.message()
    assert f"is larger than {MAX_BYTES} bytes" in desk.message()


# ---------------------------------------------------------------- secrets

TESTED = GOOD.replace("  port: 3000\n", "  port: 3000\n  tester_secret: file:tester\n")
SECRET = "0123456789abcdef" * 2


def put_secret(desk: Desk, text: str = f"{SECRET}\n", mode: int = 0o600) -> Path:
    desk.write(text, "secrets/tester")
    path = desk.folder / "secrets/tester"
    path.chmod(mode)
    return path


def test_a_secret_is_known_by_its_digest_and_stands_in_nothing_that_is_kept(desk: Desk) -> None:
    put_secret(desk)
    desk.write(TESTED)
    loaded = desk.load_old()
    assert loaded.desired is not None, loaded.problems
    (web,) = loaded.desired.services
    assert web.tester_digest is not None
    assert desk.source.tester_secret(web.tester_digest) == SECRET
    assert SECRET not in repr(loaded)
    assert web.metrics.provider == "ingress"
    assert desk.source.tester_secret("0" * 16) is None


def test_a_changed_secret_is_another_wish_and_the_old_one_stays_known(desk: Desk) -> None:
    put_secret(desk)
    desk.write(TESTED)
    before = desk.load_old().desired
    put_secret(desk, SECRET[::-1])
    assert not desk.load().settled
    after = desk.load_old().desired
    assert before is not None
    assert after is not None
    assert before.revision == after.revision
    digests = [each.services[0].tester_digest or "" for each in (before, after)]
    assert [desk.source.tester_secret(digest) for digest in digests] == [SECRET, SECRET[::-1]]


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (None, 0, "is not there. `(umask 077; openssl rand -hex 32 > secrets/tester)`, or remove the line."),
        ("", 0o600, "is empty"),
        ("\n", 0o600, "is empty"),
        ("short\n", 0o600, "holds 5 characters, not 16 to 256"),
        (f"{SECRET}\n{SECRET}\n", 0o600, "holds other characters"),
        (f"{SECRET}$x", 0o600, "holds other characters"),
        (SECRET, 0o640, "is open to others (mode 0640). `chmod 600 secrets/tester`, or remove the line."),
        (SECRET, 0o604, "is open to others (mode 0604)"),
    ],
)
def test_a_secret_that_cannot_be_used_is_a_problem_at_its_place(
    desk: Desk, text: str | None, mode: int, said: str
) -> None:
    if text is not None:
        put_secret(desk, text, mode)
    desk.write(TESTED)
    message = desk.message()
    assert message.startswith(f"manifest.yaml:4:18: services.tester_secret: secrets/tester {said}")
    assert SECRET not in message
    assert desk.load().desired is None


def test_a_link_is_no_secret(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "shadow"
    outside.write_text(SECRET)
    outside.chmod(0o600)
    (desk.folder / "secrets").mkdir()
    (desk.folder / "secrets/tester").symlink_to(outside)
    desk.write(TESTED)
    assert "secrets/tester is a symbolic link" in desk.message()


def test_a_secret_that_is_mended_makes_the_manifest_good_again(desk: Desk) -> None:
    path = put_secret(desk, mode=0o644)
    desk.write(TESTED)
    assert desk.load_old().desired is None
    path.chmod(0o600)
    assert desk.load_old().desired is not None
