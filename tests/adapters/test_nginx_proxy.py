"""The proxy's flags, notes and process table, without an nginx (tests/contract has a real one)."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from reconciler.adapters import nginx_proxy
from reconciler.adapters.nginx_proxy import NginxProxy, ask_hash, complaint
from reconciler.core.desired import Mount
from reconciler.core.errors import EffectUnknown, EngineError
from reconciler.core.observed import ObservedContainer, Status
from reconciler.core.plan import OK, Outcome, PrepareProxy, ReloadProxy, SetTraffic
from reconciler.core.plan import TestProxyConfig as TryConfig

NGINX = ObservedContainer("c1", "nginx", "nginx", "r", Status.RUNNING, pid=100)


class FakeBoxes:
    """An engine with one nginx: main process 100, as `table` says."""

    def __init__(self) -> None:
        self.signals: list[str] = []
        self.refuse: EngineError | None = None
        self.table: list[tuple[int, int, str]] = []
        self.pid = 100
        self.answer: tuple[int, str] | None = (0, "")
        self.once: list[tuple[str, Sequence[str]]] = []

    def main_pid(self, container_id: str) -> int:
        return self.pid

    def signal(self, container_id: str, name: str) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.signals.append(name)

    def processes(self, container_id: str) -> list[tuple[int, int, str]]:
        return self.table

    def execute(self, container_id: str, command: Sequence[str]) -> tuple[int, str] | None:
        return self.answer

    def run_once(
        self, image_id: str, command: Sequence[str], mounts: Sequence[Mount], tmpfs: Sequence[str], user: str
    ) -> tuple[int, str]:
        self.once.append((image_id, command))
        return 1, "2026/11/23 nginx: [emerg] 7#7: no live upstreams in /etc/nginx/live/next/nginx.conf:3\n"


class Bench:
    """A proxy over folders of a test, with a process table of files and a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.live, self.run, self.proc = folder / "live", folder / "run", folder / "proc"
        self.proc.mkdir()
        self.boxes = FakeBoxes()
        self.now = 1000.0
        self.answers: str | None = None
        self.secrets: dict[str, str] = {}
        self.proxy = self.fresh()

    def fresh(self) -> NginxProxy:
        """The same, as after a restart of ours."""
        return NginxProxy(
            live_dir=self.live,
            run_dir=self.run,
            boxes=self.boxes,
            monotonic=lambda: self.now,
            user=f"{os.geteuid()}:{os.getegid()}",
            ask=lambda _socket: self.answers,
            proc=self.proc,
            secret=self.secrets.get,
        )

    def process(self, pid: int, parent: int, start: int, title: str) -> None:
        folder = self.proc / str(pid)
        folder.mkdir(exist_ok=True)
        fields = ["S", str(parent), *["0"] * 17, str(start), "0"]
        (folder / "stat").write_text(f"{pid} (nginx (odd) name) {' '.join(fields)}\n")
        (folder / "cmdline").write_bytes(title.encode() + b"\0")

    def gone(self, pid: int) -> None:
        for file in (self.proc / str(pid)).iterdir():
            file.unlink()
        (self.proc / str(pid)).rmdir()

    def nginx(self, *workers: int) -> None:
        self.process(100, 1, 5, "nginx: master process nginx -c /etc/nginx/live/nginx.conf")
        for worker in workers:
            self.process(worker, 100, worker, "nginx: worker process")

    @property
    def retiring(self) -> int:
        return self.proxy.observe(NGINX, ()).retiring

    @property
    def weights(self) -> dict[str, int]:
        return dict(self.proxy.observe(None, ("app", "other")).weights)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# ── workers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_noted_workers_retire_until_they_are_gone(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(()))
    bench.nginx(101, 102)
    assert bench.retiring == 0
    assert bench.proxy.apply(ReloadProxy("c1")) == OK
    assert bench.boxes.signals == ["SIGHUP"]
    assert bench.retiring == 2
    bench.nginx(103, 104)
    assert bench.retiring == 2
    bench.now += 3
    assert bench.proxy.observe(NGINX, ()).retiring_for_s == 3
    bench.gone(101)
    assert bench.retiring == 1
    bench.gone(102)
    assert bench.retiring == 0
    assert bench.proxy.observe(NGINX, ()).retiring_for_s == 0


@pytest.mark.fault("I3")
def test_workers_retire_from_when_a_reload_shows_however_long_it_took(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(()))
    bench.nginx(101)
    bench.proxy.apply(ReloadProxy("c1"))
    bench.now += 8
    assert bench.proxy.observe(NGINX, ()).retiring_for_s == 8, "asked for, and not seen yet"
    bench.nginx(102)
    assert bench.proxy.observe(NGINX, ()).retiring_for_s == 0
    bench.now += 2
    assert bench.proxy.observe(NGINX, ()).retiring_for_s == 2
    bench.proxy.apply(ReloadProxy("c1"))
    bench.now += 1
    assert bench.proxy.observe(NGINX, ()).retiring_for_s == 1, "another reload"


def test_a_restart_of_ours_forgets_nobody(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(()))
    bench.nginx(101)
    bench.proxy.apply(ReloadProxy("c1"))
    bench.nginx(102)
    bench.proxy = bench.fresh()
    assert bench.retiring == 1


def test_another_process_with_the_pid_of_a_noted_one_is_not_retiring(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(()))
    bench.nginx(101)
    bench.proxy.apply(ReloadProxy("c1"))
    bench.process(101, 100, 999, "nginx: worker process")
    assert bench.retiring == 0
    bench.process(101, 7, 101, "nginx: worker process")
    assert bench.retiring == 0


def test_a_zombie_and_a_cache_manager_serve_nobody(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(()))
    bench.nginx(101)
    bench.process(105, 100, 105, "nginx: cache manager process")
    bench.proxy.apply(ReloadProxy("c1"))
    assert bench.retiring == 1
    (bench.proc / "101/cmdline").write_bytes(b"")
    assert bench.retiring == 0


def test_a_second_reload_remembers_those_of_the_first(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(()))
    bench.nginx(101)
    bench.proxy.apply(ReloadProxy("c1"))
    bench.nginx(102)
    bench.proxy.apply(ReloadProxy("c1"))
    bench.nginx(103)
    assert bench.retiring == 2


def test_a_reload_by_somebody_else_shows_by_title_and_counts_from_when_it_was_seen(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(()))
    bench.nginx(101, 102)
    bench.process(101, 100, 101, "nginx: worker process is shutting down")
    assert bench.retiring == 1
    bench.now += 7
    assert bench.proxy.observe(NGINX, ()).retiring_for_s == 7
    bench.gone(101)
    bench.now += 1
    assert bench.proxy.observe(NGINX, ()).retiring_for_s == 0


def test_a_reload_that_brought_no_new_worker_retires_nobody_after_a_while(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(()))
    bench.nginx(101)
    bench.proxy.apply(ReloadProxy("c1"))
    bench.now += nginx_proxy.RELOAD_SETTLES_S + 0.1
    assert bench.retiring == 0


def test_workers_below_an_init_are_found(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(()))
    bench.process(100, 1, 1, "/sbin/docker-init -- nginx")
    bench.process(110, 100, 2, "nginx: master process nginx")
    bench.process(111, 110, 3, "nginx: worker process")
    bench.proxy.apply(ReloadProxy("c1"))
    assert bench.retiring == 1


def test_a_pid_that_is_somebody_elses_here_is_asked_of_the_engine(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(()))
    bench.process(100, 1, 1, "/usr/bin/vim")
    bench.boxes.table = [(100, 1, "nginx: master process"), (101, 100, "nginx: worker process")]
    bench.proxy.apply(ReloadProxy("c1"))
    assert bench.retiring == 1
    bench.boxes.table[1:] = [(102, 100, "nginx: worker process")]
    assert bench.retiring == 0


def test_a_signal_that_was_refused_leaves_the_note_as_it_was(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(()))
    bench.nginx(101)
    bench.boxes.refuse = EngineError("no")
    assert bench.proxy.apply(ReloadProxy("c1")).outcome is Outcome.FAILED
    assert bench.retiring == 0


def test_a_signal_that_may_have_arrived_keeps_its_note(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(()))
    bench.nginx(101)
    bench.boxes.refuse = EffectUnknown("late")
    assert bench.proxy.apply(ReloadProxy("c1")).outcome is Outcome.UNKNOWN
    assert bench.retiring == 1


def test_nothing_is_signalled_before_the_note_is_written(bench: Bench) -> None:
    bench.nginx(101)
    bench.run.write_text("in the way")
    assert bench.proxy.apply(ReloadProxy("c1")).outcome is Outcome.FAILED
    assert bench.boxes.signals == []


@pytest.mark.fault("C6")
@pytest.mark.parametrize("note", ["", "{", "[]", "null", '{"workers": 5}', '{"workers": [[1]], "container": "c1"}'])
def test_a_damaged_note_is_no_note(bench: Bench, note: str) -> None:
    bench.proxy.apply(PrepareProxy(()))
    bench.nginx(101)
    (bench.run / "reload.json").write_text(note)
    assert bench.retiring == 0


@pytest.mark.parametrize("trap", ["pipe", "link", "folder"])
def test_a_note_that_nginx_made_a_trap_of_is_no_note(bench: Bench, tmp_path: Path, trap: str) -> None:
    """A captured nginx can write to the folder that its socket is in."""
    bench.proxy.apply(PrepareProxy(()))
    bench.nginx(101)
    note = bench.run / "reload.json"
    match trap:
        case "pipe":
            os.mkfifo(note)
        case "link":
            true = {"container": "c1", "noted_at_s": bench.now, "workers": [[101, 101]]}
            (tmp_path / "elsewhere").write_text(json.dumps(true))
            note.symlink_to(tmp_path / "elsewhere")
        case _:
            note.mkdir()
    assert bench.retiring == 0


def test_a_note_about_another_container_counts_nobody(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(()))
    bench.nginx(101)
    note = {"container": "c0", "noted_at_s": bench.now, "workers": [[101, 101]]}
    (bench.run / "reload.json").write_text(json.dumps(note))
    assert bench.retiring == 0


# ── flags ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("I13")
def test_a_weight_is_that_many_buckets_from_the_first(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(("app",)))
    for weight in (0, 1, 5, 100):
        assert bench.proxy.apply(SetTraffic("app", weight)) == OK
        present = {bucket for bucket in range(100) if (bench.live / "flags/app" / str(bucket)).is_file()}
        assert present == set(range(weight))


def test_links_are_relative_so_that_they_hold_inside_the_container(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(("app",)))
    assert os.readlink(bench.live / "flags/app") == "../sets/0"


@pytest.mark.fault("I11")
@pytest.mark.parametrize("damage", ["flag gone", "flag too many", "flag is a folder", "set gone", "link elsewhere"])
def test_damaged_flags_are_no_weight_and_are_mended(bench: Bench, damage: str) -> None:
    bench.proxy.apply(PrepareProxy(("app",)))
    bench.proxy.apply(SetTraffic("app", 5))
    folder = bench.live / "sets/5"
    match damage:
        case "flag gone":
            (folder / "3").unlink()
        case "flag too many":
            (folder / "7").touch()
        case "flag is a folder":
            (folder / "3").unlink()
            (folder / "3").mkdir()
        case "set gone":
            folder.rename(folder.with_name("elsewhere"))
        case _:
            (bench.live / "flags/app").unlink()
            (bench.live / "flags/app").symlink_to("/etc")
    assert bench.weights == {}
    assert bench.proxy.apply(SetTraffic("app", 5)) == OK
    assert bench.weights == {"app": 5}


@pytest.mark.fault("C1")
@pytest.mark.parametrize("weight", [0, 100])
def test_the_way_back_needs_no_free_byte(bench: Bench, monkeypatch: pytest.MonkeyPatch, weight: int) -> None:
    bench.proxy.apply(PrepareProxy(("app",)))
    bench.proxy.apply(SetTraffic("app", 5))

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    for call in ("open", "symlink", "mkdir", "link"):
        monkeypatch.setattr(os, call, full)
    assert bench.proxy.apply(SetTraffic("app", weight)) == OK
    assert bench.weights == {"app": weight}


def test_a_service_whose_name_is_a_path_gets_nothing(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(()))
    for name in ("../x", ".", "", "a/b", "a\0"):
        assert bench.proxy.apply(SetTraffic(name, 5)).outcome is Outcome.FAILED


def test_a_folder_in_a_links_place_is_a_failure_in_words(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(()))
    (bench.live / "flags/app").mkdir()
    (bench.live / "flags/app/x").touch()
    failed = bench.proxy.apply(SetTraffic("app", 5))
    assert failed.outcome is Outcome.FAILED
    assert "flags" in failed.detail


# ── sockets and configurations ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.fault("I15")
def test_a_stale_socket_goes_and_a_living_one_stays(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.proxy.apply(PrepareProxy(()))
    monkeypatch.chdir(bench.run)
    path = bench.run / "proxy.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("proxy.sock")
        server.listen()
        bench.proxy.apply(PrepareProxy(()))
        assert path.is_socket()
    bench.proxy.apply(PrepareProxy(()))
    assert not path.exists()


def test_what_is_no_socket_is_not_removed(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(()))
    (bench.run / "proxy.sock").write_text("notes")
    bench.proxy.apply(PrepareProxy(()))
    assert (bench.run / "proxy.sock").read_text() == "notes"


def test_nobody_answers_on_no_socket(tmp_path: Path) -> None:
    assert ask_hash(tmp_path / "none") is None


def test_a_stopped_nginx_is_not_asked(bench: Bench) -> None:
    bench.answers = "a" * 64
    stopped = ObservedContainer("c1", "nginx", "nginx", "r", Status.EXITED)
    assert bench.proxy.observe(stopped, ()).live_hash is None
    bench.nginx(101)
    assert bench.proxy.observe(NGINX, ()).live_hash == "a" * 64


def test_where_nginx_does_not_run_the_test_gets_a_container_of_its_own(bench: Bench) -> None:
    bench.boxes.answer = None
    failed = bench.proxy.apply(TryConfig("text", "sha256:1", "c1"))
    assert failed.outcome is Outcome.FAILED
    assert failed.detail == "nginx refuses the configuration: no live upstreams in nginx.conf:3"
    assert (bench.live / "next/nginx.conf").read_text() == "text"
    assert [image for image, _ in bench.boxes.once] == ["sha256:1"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("", "no reason given"),
        ("nginx: [warn] odd\nnginx: [emerg] bad in X:3\nnginx: test failed\n", "bad in nginx.conf:3"),
        ("2026/01/01 00:00:00 [emerg] 9#9: bad in X:3\n", "bad in nginx.conf:3"),
        ("exec: nginx: not found\n", "exec: nginx: not found"),
    ],
)
def test_of_all_nginx_says_the_reason_is_kept(said: str, words: str) -> None:
    assert complaint(said, "X") == words


# ── testers' secrets ───────────────────────────────────────────────────────────────────────────────────────────────

DIGEST, LATER = "0" * 16, "1" * 16
SECRET = "s3cret" * 5


def including(*digests: str) -> str:
    return "".join(f"include /etc/nginx/live/testers/app.{digest}.map;\n" for digest in digests)


def files_of(bench: Bench) -> dict[str, str]:
    """What nginx could include, each for its owner alone."""
    found = sorted((bench.live / "testers").iterdir())
    assert {path.stat().st_mode & 0o777 for path in found} <= {0o600}
    return {path.name.split(".")[1]: path.read_text() for path in found}


def in_place(bench: Bench, text: str) -> None:
    (bench.live / "nginx.conf").write_text(text)


def test_a_secret_is_there_before_its_configuration_is_tested_or_nginx_started(bench: Bench) -> None:
    bench.secrets = {DIGEST: SECRET, LATER: SECRET[::-1]}
    bench.proxy = bench.fresh()
    assert bench.proxy.apply(PrepareProxy(("app",), including(DIGEST))) == OK
    assert files_of(bench) == {DIGEST: f'"~^{SECRET}$" 1;\n'}
    assert bench.proxy.apply(TryConfig(including(LATER), "sha256:1", "c1")) == OK
    assert files_of(bench) == {DIGEST: f'"~^{SECRET}$" 1;\n', LATER: f'"~^{SECRET[::-1]}$" 1;\n'}


def test_a_configuration_without_testers_makes_no_files(bench: Bench) -> None:
    bench.proxy.apply(PrepareProxy(("app",), "events {}"))
    assert not (bench.live / "testers").exists()


def test_a_reload_forgets_the_secrets_that_nothing_includes(bench: Bench) -> None:
    bench.secrets = {DIGEST: SECRET, LATER: SECRET[::-1]}
    bench.proxy = bench.fresh()
    bench.proxy.apply(PrepareProxy((), including(DIGEST, LATER)))
    (bench.live / "testers/.app.2222222222222222.map.new").write_text("half")
    (bench.live / "testers/.app.2222222222222222.map.new").chmod(0o600)
    bench.nginx(101)
    bench.proxy.apply(ReloadProxy("c1"))
    assert {DIGEST, LATER} <= set(files_of(bench)), "without a configuration nobody knows what is needed"
    in_place(bench, including(LATER))
    assert bench.proxy.apply(ReloadProxy("c1")) == OK
    assert set(files_of(bench)) == {LATER}


@pytest.mark.parametrize("harm", ["gone", "another", "open", "a link"])
def test_an_included_file_that_was_harmed_is_seen_and_mended(bench: Bench, harm: str) -> None:
    bench.secrets = {DIGEST: SECRET}
    bench.proxy = bench.fresh()
    bench.proxy.apply(PrepareProxy((), including(DIGEST)))
    in_place(bench, including(DIGEST))
    assert bench.proxy.observe(NGINX, ()).has_includes
    path = bench.live / f"testers/app.{DIGEST}.map"
    if harm == "gone":
        path.unlink()
    elif harm == "another":
        path.write_text('"~^mine$" 1;\n')
    elif harm == "open":
        path.chmod(0o644)
    else:
        path.rename(bench.live / "elsewhere")
        path.symlink_to(bench.live / "elsewhere")
    assert not bench.proxy.observe(NGINX, ()).has_includes
    bench.proxy.apply(PrepareProxy((), including(DIGEST)))
    assert bench.proxy.observe(NGINX, ()).has_includes
    assert (files_of(bench), path.is_symlink()) == ({DIGEST: f'"~^{SECRET}$" 1;\n'}, False)


def test_a_secret_that_is_not_at_hand_keeps_its_file_and_lets_nginx_start_without_one(bench: Bench) -> None:
    bench.secrets = {DIGEST: SECRET}
    bench.proxy = bench.fresh()
    bench.proxy.apply(PrepareProxy((), including(DIGEST)))
    in_place(bench, including(DIGEST))
    bench.secrets.clear()
    assert bench.proxy.apply(PrepareProxy((), including(DIGEST))) == OK
    assert files_of(bench) == {DIGEST: f'"~^{SECRET}$" 1;\n'}
    (bench.live / f"testers/app.{DIGEST}.map").unlink()
    assert bench.proxy.apply(PrepareProxy((), including(DIGEST))) == OK
    assert files_of(bench) == {DIGEST: "# The secret is not at hand: nobody is a tester.\n"}
    assert bench.proxy.observe(NGINX, ()).has_includes
    bench.secrets[DIGEST] = SECRET
    assert not bench.proxy.observe(NGINX, ()).has_includes
