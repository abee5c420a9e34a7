"""Which file system a folder is on, by the kernel's own list, and which ones a state directory must not be on."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.adapters.file_systems import doubt, kind_in, kind_of

MOUNTS = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 25 0:27 / /run rw,relatime shared:7 master:2 - tmpfs tmpfs rw,size=24684092k
31 27 0:40 / /srv rw,relatime - xfs /dev/vdb rw
32 31 0:41 / /srv/shared\040state rw,relatime shared:9 - nfs4 10.0.0.1:/state rw,vers=4.2
33 31 0:42 / /srv/twice rw - xfs /dev/vdc rw
34 33 0:43 / /srv/twice rw - ramfs none rw
35 31 0:44 / /srv/tab\011new\012back\134slash rw - cifs //nas/share rw
36 31 0:45 / /srv/a\040-\040b rw - fuse.sshfs me@there: rw
broken line
37 31 - nothing
"""


@pytest.mark.fault("C9")
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/swiftdeploy", "ext4"),
        ("/", "ext4"),
        ("/run", "tmpfs"),
        ("/run/swiftdeploy/state", "tmpfs"),
        ("/running/state", "ext4"),
        ("/srv/state", "xfs"),
        ("/srv/shared state/swiftdeploy", "nfs4"),
        ("/srv/shared", "xfs"),
        ("/srv/twice/state", "ramfs"),
        ("/srv/tab\tnew\nback\\slash/state", "cifs"),
        ("/srv/a - b", "fuse.sshfs"),
        ("/proc/1", "proc"),
    ],
)
def test_the_longest_mount_point_says_it_and_the_last_of_several(path: str, kind: str) -> None:
    assert kind_in(MOUNTS, path) == kind


@pytest.mark.parametrize("text", ["", "\n\n", "garbage", "1 2 3:4 / /elsewhere rw - ext4 x y", " - - - \n" * 3])
def test_a_list_that_says_nothing_says_nothing(text: str) -> None:
    assert kind_in(text, "/var/lib") == ""


@pytest.mark.fault("C9")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("tmpfs", "a reboot takes state and history away"),
        ("ramfs", "a reboot takes state and history away"),
        ("nfs", "locks and fsync are not to be trusted"),
        ("nfs4", "locks and fsync are not to be trusted"),
        ("cifs", "locks and fsync are not to be trusted"),
        ("9p", "locks and fsync are not to be trusted"),
        ("fuse.sshfs", "locks and fsync are not to be trusted"),
        ("fuse", "locks and fsync are not to be trusted"),
    ],
)
def test_what_cannot_keep_state_is_said_with_what_to_do(kind: str, words: str) -> None:
    assert words in doubt(kind)
    assert f"({kind})" in doubt(kind)
    assert "Use a folder on a disk" in doubt(kind)


@pytest.mark.parametrize("kind", ["", "ext4", "xfs", "btrfs", "zfs", "overlay", "fuseblk", "of_tomorrow"])
def test_what_can_or_is_not_known_is_not_doubted(kind: str) -> None:
    assert doubt(kind) == ""


def test_links_are_followed_and_what_is_not_there_yet_has_a_place_already(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    folder = tmp_path / "disk"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    mounts.write_text(f"1 0 1:1 / / rw - ext4 x rw\n2 1 1:2 / {folder.resolve()} rw - tmpfs x rw\n")
    assert kind_of(tmp_path / "link" / "state" / "new", mounts) == "tmpfs"
    assert kind_of(tmp_path, mounts) == "ext4"


def test_where_there_is_no_such_list_nothing_is_known(tmp_path: Path) -> None:
    assert kind_of(tmp_path, tmp_path / "mountinfo") == ""
