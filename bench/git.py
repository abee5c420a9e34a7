"""What following a repository costs: a look without news, a push, and a repository of 1 GB and 100,000 commits.

`GIT_BENCH_COMMITS` and `GIT_BENCH_MB` make the large one smaller.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measures import Row, median, ms, timed
from reconciler.adapters.git_access import BUNDLES
from reconciler.adapters.git_source import GitSource
from tests.git.git_servers import Ssh, Web, git_daemon
from tests.git.git_world import MANIFEST, Repo, World, clean_environment, image

COMMITS = int(os.environ.get("GIT_BENCH_COMMITS", "100000"))
MEGABYTES = int(os.environ.get("GIT_BENCH_MB", "1024"))
FILES = 2000
LOOKS = 20


@contextmanager
def _place() -> Iterator[World]:
    """A bare repository `base/shop.git` with one version, a clone that pushes to it, and a folder for a source."""
    with tempfile.TemporaryDirectory(prefix="bench-git-") as folder:
        world = World(Path(folder))
        Repo(world.folder / "base" / "shop.git", bare=True)
        world.repo.git("remote", "add", "origin", str(world.folder / "base" / "shop.git"))
        _push(world, 0)
        try:
            yield world
        finally:
            world.close()


def _push(world: World, number: int) -> None:
    world.repo.commit(number)
    world.repo.git("push", "--quiet", "origin", "HEAD:main")


# ---------------------------------------------------------------- a look without news


def idle_looks() -> Iterator[Row]:
    """Processor time of a look that finds nothing new, git and its helpers included, the server's left out."""
    with _place() as world:
        base = world.folder / "base"
        yield _idle(world, "a folder of this host", str(base / "shop.git"))
        with git_daemon(base, world.folder) as url:
            yield _idle(world, "git://", f"{url}/shop.git")
        with _web(world) as web:
            yield _idle(world, "https://, its authority named", f"{web.url}/shop.git", ca_file=str(web.ca_file))
            everybody = world.folder / "bundle.pem"
            everybody.write_bytes(Path(BUNDLES[0]).read_bytes() + web.ca_file.read_bytes())
            yield _idle(world, "https://, all the host's authorities", f"{web.url}/shop.git", ca_file=str(everybody))
        with Ssh(world.folder / "ssh").serving() as ssh:
            keys = {"known_hosts": str(ssh.known_hosts), "ssh_key": str(ssh.folder / "user")}
            yield _idle(world, "ssh://", f"{ssh.url}{base}/shop.git", **keys)


@contextmanager
def _web(world: World) -> Iterator[Web]:
    """In a process of its own: what it does is not our cost."""
    web = Web(world.folder / "base", world.folder / "web", tls=True)
    process = multiprocessing.get_context("fork").Process(target=web._server.serve_forever, daemon=True)
    process.start()
    try:
        yield web
    finally:
        process.terminate()
        process.join()
        web._server.server_close()


def _idle(world: World, what: str, url: str, **config: str) -> Row:
    source = world.source(url=url, **config)
    source.sync()
    assert source.status().trouble is None, source.status().trouble
    bare = ["git", "ls-remote", url, "refs/heads/main"]
    more = {"GIT_SSL_CAINFO": config.get("ca_file", "")} if "ca_file" in config else {}
    more |= (
        {"GIT_SSH_COMMAND": f"ssh -F /dev/null -i {config['ssh_key']} -o UserKnownHostsFile={config['known_hosts']}"}
        if ("ssh_key" in config)
        else {}
    )
    environment = clean_environment(world.folder, more)

    def bare_git() -> None:
        subprocess.run(bare, check=True, capture_output=True, env=environment)

    ours, theirs = [], []
    for _ in range(LOOKS):
        ours.append(_processor_s(lambda: source._look(forgive=True)))
        theirs.append(_processor_s(bare_git))
    us, them = median(ours), median(theirs)
    peer = f"git ls-remote: {ms(them)}"
    return Row(f"a look without news, {what}, processor", ms(us), peer, f"{us / them:.2f}", "≤ 20 ms", us <= 0.020)


def _processor_s(work: Callable[[], object]) -> float:
    before = _used_s()
    work()
    return _used_s() - before


def _used_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


# ---------------------------------------------------------------- a push


def pushes() -> Iterator[Row]:
    """From the end of `git push` to the commit being in force: with a hint, as a webhook gives it, and without."""
    with _place() as world, git_daemon(world.folder / "base", world.folder) as url:
        hinted = _delays(world, f"{url}/shop.git", 12, 3600.0, is_hinted=True)
        yield Row("git push → in force, with a hint, p50", ms(median(hinted)), "-", "-", "≤ 1 s", median(hinted) <= 1.0)
        polled = _delays(world, f"{url}/shop.git", 7, 15.0, is_hinted=False)
        worst = f"{median(polled):.1f} s (worst {max(polled):.1f} s)"
        yield Row("git push → in force, polling every 15 s, p50", worst, "-", "-", "≤ 17 s", median(polled) <= 17.0)


def _delays(world: World, url: str, count: int, poll_s: float, *, is_hinted: bool) -> list[float]:
    news = threading.Event()
    source = world.source(url=url, poll_s=poll_s)
    source._wake = lambda _words: news.set()
    source.start()
    news.wait(60)
    found = []
    for _ in range(count):
        time.sleep(0.6 + random.random() * (2.0 if is_hinted else poll_s))
        news.clear()
        _push(world, int(time.time() * 1000))
        began = time.perf_counter()
        if is_hinted:
            source.hint("bench")
        assert news.wait(120), source.status()
        found.append(time.perf_counter() - began)
    source.stop()
    return found


# ---------------------------------------------------------------- a large repository


def large_repository() -> Iterator[Row]:
    """The first look at it, a look without news, one commit more, and history rewritten from its beginning."""
    with tempfile.TemporaryDirectory(prefix="bench-git-") as folder:
        world = World(Path(folder))
        big = Repo(world.folder / "base" / "shop.git", bare=True)
        _fill(big, COMMITS, MEGABYTES * 2**20 // max(1, COMMITS))
        what = f"{_size(big.folder) / 2**20:,.0f} MB, {COMMITS:,} commits"
        with git_daemon(world.folder / "base", world.folder) as url:
            source = world.source(url=f"{url}/shop.git", timeout_s=600.0)
            first = timed(source.sync)
            assert source.status().trouble is None, source.status().trouble
            fetched = _size(world.git_folder) / 2**20
            clone = world.folder / "clone"
            command = ["git", "clone", "--quiet", "--bare", f"{url}/shop.git", str(clone)]
            peer = timed(lambda: subprocess.run(command, check=True, env=clean_environment(world.folder)))
            yield Row(
                f"first look, {what}",
                f"{first:.1f} s, {fetched:.0f} MB",
                f"git clone: {peer:.1f} s, {_size(clone) / 2**20:,.0f} MB",
                f"{first / peer:.2f}",
                "≤ 60 s",
                first <= 60,
            )
            looks = [_processor_s(lambda: source._look(forgive=True)) for _ in range(LOOKS)]
            us = median(looks)
            yield Row("the same, a look without news, processor", ms(us), "-", "-", "≤ 20 ms", us <= 0.020)
            yield _one_more(big, source)
            yield _rewritten(world, big, source)


def _one_more(big: Repo, source: GitSource) -> Row:
    _import(big, "refs/heads/main", ["from refs/heads/main^0", *_file("manifest.yaml", MANIFEST.format(number=2))])
    took = timed(source.sync)
    assert image(source) == "demo:2", source.status().trouble
    return Row("the same, one commit more", f"{took:.1f} s", "-", "-", "≤ 10 s", took <= 10)


def _rewritten(world: World, big: Repo, source: GitSource) -> Row:
    """Refused only when all of the history is known: nothing less says that a commit does not descend from another."""
    _import(big, "refs/heads/other", _file("manifest.yaml", MANIFEST.format(number=3)), was="refs/heads/main~5")
    big.git("update-ref", "refs/heads/main", "refs/heads/other")
    took = timed(source.sync)
    trouble = source.status().trouble
    assert trouble is not None
    assert image(source) == "demo:2"
    size = f"{_size(world.git_folder) / 2**20:.0f} MB in all"
    return Row(f"the same, rewritten: {trouble.kind}", f"{took:.1f} s, {size}", "-", "-", "≤ 120 s", took <= 120)


def _fill(repo: Repo, commits: int, size: int) -> None:
    """A history in which every commit changes one of FILES files of `size` random bytes; the last has a manifest."""
    chance = random.Random(7)
    process = subprocess.Popen(
        ["git", "fast-import", "--quiet"],
        cwd=repo.folder, stdin=subprocess.PIPE, env=clean_environment(repo.folder),
    )  # fmt: skip
    assert process.stdin is not None
    for number in range(commits):
        process.stdin.write(_head("refs/heads/main", number))
        if number == commits - 1:
            process.stdin.write("\n".join(_file("manifest.yaml", MANIFEST.format(number=1))).encode() + b"\n")
        data = chance.randbytes(size)
        name = f"src/{number % FILES // 50}/{number % FILES}.bin"
        process.stdin.write(f"M 100644 inline {name}\ndata {len(data)}\n".encode() + data + b"\n")
    process.stdin.close()
    assert process.wait() == 0


def _import(repo: Repo, ref: str, lines: list[str], was: str = "") -> None:
    start = [f"from {repo.head(was)}"] if was else []
    text = "\n".join([_head(ref, COMMITS + 1).decode().rstrip("\n"), *start, *lines, ""])
    repo.git("fast-import", "--quiet", "--force", given=text.encode())


def _head(ref: str, number: int) -> bytes:
    words = f"change {number}"
    return f"commit {ref}\ncommitter A <a@b> {1_600_000_000 + number} +0000\ndata {len(words)}\n{words}\n".encode()


def _file(name: str, text: str) -> list[str]:
    return [f"M 100644 inline {name}", f"data {len(text.encode())}", text]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


ROWS = {"git-idle": idle_looks, "git-push": pushes, "git-large": large_repository}
