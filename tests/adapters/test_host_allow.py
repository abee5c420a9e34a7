"""The host's allow file: root's word, or nobody's.

The tests' own user stands for root, so that they show the same for whoever runs them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler import wiring
from reconciler.adapters.file_source import OLD_S, FileSource
from reconciler.adapters.host_allow import HostAllowFile, parse
from reconciler.formats.mounts import HostAllow
from reconciler.formats.yaml_strict import MAX_BYTES
from tests.cycle.cycle_world import HandClock

pytestmark = pytest.mark.control("K7")

MANIFEST = """\
project: {{name: shop}}
services:
  image: demo:1
  port: 3000
  volumes: [{mounts}]
nginx: {{image: "nginx:1.30", port: 8080}}
network: {{name: web, driver_type: bridge}}
"""
DATA = "/srv/data/x:/x"
SOCKET = "/run/docker.sock:/s"


def put(path: Path, text: str | bytes = "shop: [/srv/data]\n", mode: int = 0o644) -> Path:
    path.unlink(missing_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def allowed(path: Path, owner: int | None = None) -> HostAllow:
    return HostAllowFile(path, os.geteuid() if owner is None else owner).read()[0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "allow.yaml"


# ---------------------------------------------------------------- what it says


def test_each_project_has_its_own_paths(path: Path) -> None:
    permitted = allowed(put(path, "shop: [/srv/data, /run/docker.sock]\nblog:\n  - /srv/blog\nidle: []\n"))
    assert permitted.of("shop") == {"/srv/data", "/run/docker.sock"}
    assert permitted.of("blog") == {"/srv/blog"}
    assert permitted.of("idle") == permitted.of("other") == frozenset()
    assert not permitted.trouble


def test_a_missing_file_permits_nothing_and_is_no_trouble(path: Path) -> None:
    assert allowed(path) == HostAllow()
    assert allowed(path / "deeper") == HostAllow()


@pytest.mark.parametrize("text", ["", "\n", "# shop: [/srv]\n\n  # more\n"])
def test_a_file_without_a_word_permits_nothing_and_is_no_trouble(path: Path, text: str) -> None:
    assert allowed(put(path, text)) == HostAllow()


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("shop: [/srv/data", "2:1", ""),
        ("- /srv/data\n", "1:1", "this is no mapping. Write <project>: [list of paths]"),
        ("---\n", "2:1", "this is no mapping"),
        ("/srv/data\n", "1:1", "this is no mapping"),
        ('"*": [/srv]\n', "1:1", '"*" is no project\'s name. Name each by itself'),
        ("Shop: [/srv]\n", "1:1", "Shop is no project's name"),
        ("shop: /srv\n", "1:7", "shop is no list. Write [] or a list of paths such as [/srv/data]"),
        ("shop:\n", "1:6", "shop is no list"),
        ("shop: {/srv: true}\n", "1:7", "shop is no list"),
        ("shop: [srv]\n", "1:8", 'shop[0] is "srv". Use an absolute path'),
        ("shop: [/srv, /srv/../etc]\n", "1:14", 'shop[1] is "/srv/../etc". Use an absolute path'),
        ("shop: [/srv/./a]\n", "1:8", "Use an absolute path"),
        ("shop: [//srv]\n", "1:8", "Use an absolute path"),
        ("shop: [/srv//a]\n", "1:8", "Use an absolute path"),
        ("shop: [/srv/]\n", "1:8", "and '/' at its end"),
        ("shop: ['/srv/*']\n", "1:8", "Use an absolute path"),
        ("shop: ['/srv ']\n", "1:8", "Use an absolute path"),
        ("shop: ['']\n", "1:8", "shop[0] is no text. Use"),
        ("shop: [[/srv]]\n", "1:8", "shop[0] is no text. Use"),
        ("shop: [~]\n", "1:8", 'shop[0] is "~". Use'),
        ("shop: [7]\n", "1:8", 'shop[0] is "7". Use'),
        ("shop: [/a]\nshop: [/b]\n", "2:1", "shop is written twice"),
        ("shop: &a [/srv]\nblog: *a\n", "1:7", "anchor &a is not allowed"),
        ("shop: !!set [/srv]\n", "1:7", "tag "),
        (b"shop: [/srv\xff]\n", "1:12", "is not UTF-8"),
    ],
)
def test_what_is_not_understood_is_told_with_its_place_and_nothing_is_permitted(
    path: Path, text: str | bytes, place: str, said: str
) -> None:
    good = b"blog: [/srv/blog]\n"
    bad = text if isinstance(text, bytes) else text.encode()
    permitted = allowed(put(path, bad))
    assert permitted.trouble.startswith(f"{path}:{place}: ")
    assert said in permitted.trouble
    assert not permitted.paths
    assert not parse(good + bad, "allow.yaml").paths, "nor what is good beside it"


def test_all_that_is_wrong_is_counted(path: Path) -> None:
    assert allowed(put(path, "shop: [a, b, c]\n")).trouble.endswith(" (and 2 more such)")


def test_a_file_without_end_is_not_read_to_its_end(path: Path) -> None:
    put(path)
    os.truncate(path, 1024**4)
    assert f"At most {MAX_BYTES}" in allowed(path).trouble


# ---------------------------------------------------------------- who wrote it


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o644)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir(0o755)


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def _hard_link(path: Path) -> None:
    os.link(path, path.with_suffix(".other"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.chmod(0o664), "can be written by others (mode 0664). Look at it, then `chmod 644 "),
        (lambda path: path.chmod(0o646), "can be written by others (mode 0646)"),
        (_link, "is a symbolic link. It must be a file of its own"),
        (_hard_link, "has 2 names: it is a hard link"),
        (_pipe, "is not a regular file"),
        (_folder, "is not a regular file"),
    ],
)
def test_what_others_may_have_written_is_not_believed(path: Path, spoil: Callable[[Path], None], said: str) -> None:
    assert allowed(put(path)).paths
    spoil(path)
    permitted = allowed(path)
    assert not permitted.paths
    assert permitted.trouble.startswith(f"{path}:1:1: {said}")


def test_somebody_elses_file_is_not_believed(path: Path) -> None:
    put(path)
    permitted = allowed(path, os.geteuid() + 1)
    assert not permitted.paths
    assert f"belongs to the user {os.geteuid()}, not to {os.geteuid() + 1}" in permitted.trouble


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_in_production_it_must_be_roots(path: Path) -> None:
    put(path)
    assert HostAllowFile(path).read()[0].paths
    os.chown(path, 65534, -1)
    assert "belongs to the user 65534, not to root" in HostAllowFile(path).read()[0].trouble


@pytest.mark.skipif(os.geteuid() == 0, reason="root's own file is root's")
def test_another_users_file_is_refused_by_default(path: Path) -> None:
    assert "not to root" in HostAllowFile(put(path)).read()[0].trouble


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_we_may_not_read_says_what_to_do(path: Path) -> None:
    assert "may not be read by this user. `chmod 644" in allowed(put(path, mode=0o200)).trouble


def test_a_change_is_seen_whatever_the_clock_of_the_file_says(path: Path) -> None:
    """Same size, same moment, same inode: what tells is what it says."""
    file = HostAllowFile(put(path, "shop: [/srv/a]\n"), os.geteuid())
    os.utime(path, (1e9, 1e9))
    assert file.read()[0].of("shop") == {"/srv/a"}
    path.write_text("shop: [/srv/b]\n")
    os.utime(path, (1e9, 1e9))
    assert file.read()[0].of("shop") == {"/srv/b"}
    path.chmod(0o666)
    assert not file.read()[0].paths, "the bytes alone are not enough"
    path.unlink()
    assert file.read() == (HostAllow(), None)


def test_what_did_not_change_is_not_parsed_again(path: Path) -> None:
    file = HostAllowFile(put(path), os.geteuid())
    assert file.read()[0] is file.read()[0]


# ---------------------------------------------------------------- through the source


class Desk:
    """A manifest that mounts, and an allow file elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "app" / "manifest.yaml"
        self.path.parent.mkdir()
        self.allow = folder / "allow.yaml"
        self.clock = HandClock()
        self.source = FileSource(self.path, self.clock, HostAllowFile(self.allow, os.geteuid()))

    def mount(self, *mounts: str) -> None:
        self.path.write_text(MANIFEST.format(mounts=", ".join(f"'{mount}'" for mount in mounts)))

    def permit(self, text: str) -> None:
        put(self.allow, text)

    def mounts(self) -> list[str]:
        """Sources of what is mounted, once nobody is writing; none where the manifest is refused."""
        self.source.load()
        self.clock.seconds += OLD_S + 1
        loaded = self.source.load()
        assert loaded.settled
        return [mount.source for mount in loaded.desired.services[0].mounts] if loaded.desired else []

    def problems(self) -> list[str]:
        return [str(problem) for problem in self.source.load().problems]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    made = Desk(tmp_path)
    made.mount(DATA)
    return made


def test_a_permission_counts_at_the_next_look_and_so_does_its_end(desk: Desk) -> None:
    refused = desk.problems()
    assert len(refused) == 1
    assert refused[0].endswith("or let the host's /etc/swiftdeploy/allow.yaml permit it.")
    desk.permit("shop: [/srv/data]\n")
    assert desk.mounts() == ["/srv/data/x"]
    assert desk.mounts() == ["/srv/data/x"], "remembered"
    desk.permit("shop: [/srv/other]\n")
    assert desk.mounts() == []
    desk.permit("blog: [/srv/data]\n")
    assert desk.mounts() == [], "another project's"
    desk.permit("shop: [/srv/data/x]\n")
    assert desk.mounts() == ["/srv/data/x"]
    desk.allow.chmod(0o666)
    assert desk.mounts() == []
    desk.allow.chmod(0o644)
    assert desk.mounts() == ["/srv/data/x"]
    desk.allow.unlink()
    assert desk.mounts() == []


def test_a_bad_allow_file_is_told_once_where_a_mount_needed_it(desk: Desk) -> None:
    desk.permit("shop:\n- /srv/data/\n")
    desk.mount("./config:/c", "//srv:/d", DATA, "/srv/other:/o")
    told = [problem for problem in desk.problems() if f"{desk.allow}:2:3: shop[0] is" in problem]
    assert len(desk.problems()) == 3
    assert len(told) == 1
    assert told[0].startswith("manifest.yaml:5:40: services.volumes[2]: ")
    assert "permit it. That file permits nothing now: " in told[0]
    assert told[0].endswith("at its end.")
    desk.permit("shop:\n- /srv/other/\n- /srv/data\n")
    assert desk.problems(), "nor what is good in it"


def test_a_bad_allow_file_is_nobodys_trouble_where_no_mount_needs_it(desk: Desk) -> None:
    desk.mount("./config:/c")
    desk.permit("nonsense")
    assert desk.mounts() == [f"{desk.path.parent}/config"]
    assert not desk.problems()


def test_half_a_permission_is_not_believed(desk: Desk) -> None:
    """`- /srv` may be the beginning of `- /srv/app`."""
    assert desk.mounts() == []
    assert desk.source.load().settled, "the manifest itself is nobody's work in progress"
    desk.permit("shop:\n- /srv")
    os.utime(desk.allow, (desk.clock.now(), desk.clock.now()))
    assert not desk.source.load().settled
    assert desk.mounts() == ["/srv/data/x"]


def test_the_engines_socket_is_permitted_by_its_own_path_only(desk: Desk) -> None:
    desk.mount(SOCKET)
    for text in ("shop: [/run]", "shop: [/]", "shop: [/var/run/docker.sock]", "shop: [/run/docker.soc]"):
        desk.permit(text)
        assert "is the container engine itself" in desk.problems()[0]
    desk.permit("shop: [/run/docker.sock]")
    assert desk.mounts() == ["/run/docker.sock"]


@pytest.mark.parametrize("folder", ["/run", "/var/run", "/"])
def test_nor_is_a_folder_that_holds_it(desk: Desk, folder: str) -> None:
    desk.mount(f"{folder}:/r")
    desk.permit(f"shop: ['{folder}']")
    assert "holds the container engine's socket" in desk.problems()[0]
    desk.mount("/run/lock:/r")
    desk.permit("shop: [/run]")
    assert desk.mounts() == ["/run/lock"]


def test_what_we_decide_by_stays_ours_by_its_whole_path_too(desk: Desk, tmp_path: Path) -> None:
    desk.permit(f"shop: ['{tmp_path}']")
    for ours in (tmp_path, desk.path.parent, desk.path.parent / "state", desk.path.parent / ".git/x"):
        desk.mount(f"{ours}:/x:ro")
        assert "SwiftDeploy decides" in desk.problems()[0]
    for not_to_write in (desk.path, desk.path.parent / "policies"):
        desk.mount(f"{not_to_write}:/x")
        assert "Mount it read-only" in desk.problems()[0]
    desk.mount(f"{desk.path.parent}/config:/x", f"{tmp_path}/beside:/y")
    assert desk.mounts() == [f"{desk.path.parent}/config", f"{tmp_path}/beside"]


def test_the_program_reads_the_host_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that follows a manifest is made by `source_of`, which asks root's file."""
    seen: list[tuple[Path, int]] = []
    init = HostAllowFile.__init__

    def spied(self: HostAllowFile, path: Path, owner: int = 0) -> None:
        seen.append((path, owner))
        init(self, desk.allow, os.geteuid())

    monkeypatch.setattr(HostAllowFile, "__init__", spied)
    desk.permit("shop: [/srv/data]\n")
    assert wiring.source_of(desk.path).load().desired is not None
    with wiring.local_operations(desk.path, desk.path.parent / "state"):
        pass
    assert seen == [(Path("/etc/swiftdeploy/allow.yaml"), 0)] * 2


# ---------------------------------------------------------------- links in what is mounted


@pytest.mark.control("K10")
def test_a_link_below_the_manifests_folder_is_refused_with_its_place_while_it_is_there(desk: Desk) -> None:
    folder = desk.path.parent / "data" / "x"
    desk.mount("./data/x/y:/h")
    assert desk.mounts() == [str(folder / "y")], "what is not there yet is the engine's to refuse"
    folder.mkdir(parents=True)
    assert desk.mounts() == [str(folder / "y")]
    folder.rmdir()
    folder.symlink_to("/")
    assert desk.mounts() == []
    assert desk.problems() == [
        f'manifest.yaml:5:13: services.volumes[0]: "./data/x/y" passes through the symbolic link {folder}, '
        "and the engine would mount whatever that points at. Put the folder itself there, or let the host's "
        "/etc/swiftdeploy/allow.yaml permit where it points."
    ]
    folder.unlink()
    assert desk.mounts() == [str(folder / "y")]


@pytest.mark.control("K10")
def test_what_the_host_permits_may_be_a_link_but_not_what_is_below_it(desk: Desk, tmp_path: Path) -> None:
    real, named = tmp_path / "real", tmp_path / "named"
    (real / "folder").mkdir(parents=True)
    (real / "out").symlink_to("/")
    named.symlink_to(real)
    desk.permit(f"shop: [{named}]\n")
    desk.mount(f"{named}/folder:/h")
    assert desk.mounts() == [f"{named}/folder"]
    desk.mount(f"{named}/out:/h")
    assert desk.mounts() == []
    assert f"passes through the symbolic link {named}/out," in desk.problems()[0]


@pytest.mark.control("K10")
def test_what_became_a_link_since_is_not_given_to_a_service(desk: Desk) -> None:
    folder = desk.path.parent / "data"
    folder.mkdir()
    desk.mount("./data:/h")
    assert desk.mounts() == [str(folder)]
    assert desk.source.mount_trouble(str(folder)) == ""
    folder.rmdir()
    folder.symlink_to("/etc")
    assert f"passes through the symbolic link {folder}" in desk.source.mount_trouble(str(folder))
    assert desk.source.mount_trouble("/usr/share") == "", "what the manifest's reading refuses is not judged here"
