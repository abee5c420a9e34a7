"""`verify`, the stand-alone verifier and the shell of docs/history.md: three readers of one format, asked the same."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.history_checkpoints import Checkpoints
from reconciler.adapters.history_file import HistoryFile
from reconciler.adapters.history_key import HistoryKey

ROOT = Path(__file__).parents[2]
ALONE = ROOT / "scripts" / "verify-history"
NOW = "2026-11-23T01:02:03.000Z"
pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")

Run = Callable[..., Any]
Change = Callable[[list[bytes]], list[bytes]]


def write(directory: Path, key: HistoryKey, count: int = 30) -> None:
    checkpoints = Checkpoints(key.sign, lambda: 0.0, 12)
    log = HistoryFile(directory, "demo", "1", lambda: "id", 6_000, checkpoints=checkpoints, packs=True)
    for number in range(count):
        log.append({"kind": "cycle", "number": number, "policy": "PASS", "pad": "x" * 300}, NOW)
    log.close()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed log of three segments, one of them compressed, and its public key beside it."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "state").mkdir()
    key = HistoryKey(folder / "state")
    write(folder / "state", key)
    (folder / "auditor.pub").write_text(f"{key.public()}\n")
    assert sorted(path.name for path in (folder / "state").glob("history-0*"))[0].endswith(".gz")
    return folder


@pytest.fixture
def state(original: Path, state_dir: Path) -> Path:
    shutil.copytree(original / "state", state_dir)
    return state_dir


def alone(*words: str | Path) -> tuple[int, str]:
    """The stand-alone verifier's exit code and what it prints; in this process, for there are many of these."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setattr(sys, "argv", [str(ALONE), *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ALONE))
    return int(ended.value.code or 0), said.getvalue()


def lines_of(state: Path) -> list[bytes]:
    found = []
    for path in [*sorted(state.glob("history-0*")), state / "history.jsonl"]:
        content = path.read_bytes()
        found += (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines(keepends=True)
    return found


def put(state: Path, lines: list[bytes]) -> None:
    """The same log, in one plain segment."""
    for path in state.glob("history-0*"):
        path.unlink()
    (state / "history.jsonl").write_bytes(b"".join(lines))


# --- the verdict


def test_a_log_that_was_left_alone_is_whole(run: Run, state: Path, original: Path) -> None:
    result = run("verify", "--key", str(original / "auditor.pub"), "--full")
    count = len(lines_of(state))
    assert (result.code, result.err) == (0, "")
    first, chain, signed, _, _, keep = result.out.splitlines()
    files = len(list(state.glob("history-0*"))) + 1
    assert first == f"{count} records in {files} files, 2026-11-23 01:02:03 to 2026-11-23 01:02:03 UTC"
    assert chain == "chain     whole: every record follows from the one before"
    assert re.fullmatch(
        rf"signed    by SHA256:\S+ \(in .*auditor.pub\): \d checkpoints, up to record {count - 1}", signed
    )
    link = keep.split()[1]
    assert run("verify", "--expect-checkpoint", link).code == 0
    words = [sys.executable, ALONE, state, "--key", original / "auditor.pub", "--expect", link]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "WHOLE"), done.stdout + done.stderr


def test_json_has_all_of_it(run: Run, state: Path) -> None:
    found = json.loads(run("verify", "-o", "json").out)
    last = json.loads(lines_of(state)[-1])
    assert (found["whole"], found["breaks"], found["broken"], found["torn_bytes"]) == (True, 0, [], 0)
    assert (found["records"], found["last"]["seq"], found["last"]["hash"]) == (last["seq"], last["seq"], last["hash"])
    assert sum(file["lines"] for file in found["files"]) == last["seq"]
    (signer,) = found["signers"]
    assert (signer["trusted"], signer["last"], found["vouched_up_to"]) == (True, last["seq"] - 1, last["seq"] - 1)
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", state / "history.pub"], capture_output=True, text=True, check=True
    )
    assert signer["fingerprint"] == shown.stdout.split()[1]


def test_the_key_is_shown_for_an_auditor_to_keep(run: Run, state: Path, original: Path) -> None:
    result = run("verify", "--show-key")
    assert (result.code, result.out) == (0, (original / "auditor.pub").read_text())
    assert json.loads(run("verify", "--show-key", "-o", "json").out)["fingerprint"] == result.err.strip()
    (state / "history.pub").unlink()
    assert run("verify", "--show-key").code == 1


def test_it_needs_no_daemon_and_no_lock(run: Run, state: Path, local: list[Any], operations: Any) -> None:
    before = {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}
    assert run("verify").code == 0
    assert (local, operations.asked) == ([], [])
    assert {path: path.read_bytes() for path in state.rglob("*") if path.is_file()} == before


def test_where_there_is_no_history_nothing_is_whole(run: Run, state_dir: Path) -> None:
    assert (run("verify").code, "does not exist" in run("verify").err) == (1, True)
    state_dir.mkdir()
    assert (run("verify").code, "yet" in run("verify").err) == (1, True)
    assert run("verify", "--show-key").code == 1
    (state_dir / "history.jsonl").write_bytes(b"")
    assert run("verify").code == 1


def test_an_unfinished_last_line_is_said_and_is_no_break(run: Run, state: Path) -> None:
    with (state / "history.jsonl").open("ab") as file:
        file.write(b'{"hash":"0123')
    result = run("verify")
    assert result.code == 0
    assert "the last 13 bytes are no whole line: being written, or torn by a crash" in result.out
    assert alone(state)[0] == 0


def test_archived_segments_are_begun_behind(run: Run, state: Path) -> None:
    first = state / "history-000001.jsonl.gz"
    last = json.loads(gzip.decompress(first.read_bytes()).splitlines()[-1])
    first.unlink()
    assert run("verify").code == 1
    assert run("verify", "--after", f"{last['seq']}:{last['hash']}").code == 0
    assert run("verify", "--after", f"{last['seq']}:{'0' * 64}").code == 1


# --- a log with a limit


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed log whose first segments were removed by the writer, and its public key beside it."""
    folder = tmp_path_factory.mktemp("pruned")
    (folder / "state").mkdir()
    key = HistoryKey(folder / "state")
    log = HistoryFile(
        folder / "state", "demo", "1", lambda: "id", 6_000, checkpoints=Checkpoints(key.sign, lambda: 0.0, 12),
        keep_bytes=8_000,
    )  # fmt: skip
    for number in range(60):
        log.append({"kind": "cycle", "number": number, "policy": "PASS", "pad": "x" * 300}, NOW)
    log.close()
    (folder / "auditor.pub").write_text(f"{key.public()}\n")
    return folder


@pytest.fixture
def rest(pruned: Path, state_dir: Path) -> Path:
    return Path(shutil.copytree(pruned / "state", state_dir))


def test_a_log_whose_beginning_was_removed_by_the_writer_is_whole_and_says_so(
    run: Run, rest: Path, pruned: Path
) -> None:
    first = json.loads(lines_of(rest)[0])
    assert first["seq"] > 1
    for words in ([], ["--key", str(pruned / "auditor.pub")]):
        result = run("verify", "--full", *words)
        assert (result.code, f"begins    behind record {first['seq'] - 1:,}:" in result.out) == (0, True), result
        code, said = alone(rest, *words)
        assert (code, f"that those up to {first['seq'] - 1} were removed" in said) == (0, True), said
    found = json.loads(run("verify", "-o", "json").out)
    assert (found["removed"]["up_to"], found["removed"]["hash"]) == (first["seq"] - 1, first["prev"])
    assert found["removed"]["said_by"] <= found["vouched_up_to"]
    assert run("verify", "--after", f"{first['seq'] - 1}:{first['prev']}").code == 0
    assert run("audit", "--out", "-").code == 0
    assert "history_pruned" in run("history", "-n", "0").out.replace(" ", "_")


CUTS: dict[str, Change] = {
    "one record more gone": lambda lines: lines[1:],
    "nothing left that accounts for it": lambda lines: [line for line in lines if b"history_pruned" not in line],
    "only a part that accounts for nothing": lambda lines: lines[-3:],
    "no signature behind the account": lambda lines: lines[
        : max(at for at, line in enumerate(lines) if b"history_pruned" in line and named(line, lines[0])) + 1
    ],
    "the account changed": lambda lines: [
        line.replace(b'"reason":"the finished', b'"reason":"The finished') for line in lines
    ],
}


def named(line: bytes, first: bytes) -> bool:
    begin = json.loads(first)
    return f"{begin['seq'] - 1}:{begin['prev']}".encode() in line


@pytest.mark.attack("V")
@pytest.mark.control("K16")
@pytest.mark.parametrize("name", CUTS)
def test_a_beginning_that_nobody_accounts_for_is_seen_by_both_verifiers(run: Run, rest: Path, name: str) -> None:
    put(rest, CUTS[name](lines_of(rest)))
    assert run("verify").code == 1
    code, said = alone(rest)
    assert (code, "WHOLE" in said) == (1, False)


@pytest.mark.parametrize("link", ["7", "0:" + "a" * 64, "7:" + "A" * 64, "7:abc", ":", "7:" + "a" * 65])
def test_what_is_no_link_is_wrong_usage(run: Run, state: Path, link: str) -> None:
    assert run("verify", "--expect-checkpoint", link).code == 64


# --- the corpus of attacks


def edited(lines: list[bytes], at: int) -> list[bytes]:
    return [*lines[:at], lines[at].replace(b"PASS", b"FAIL"), *lines[at + 1 :]]


def rechained(lines: list[bytes]) -> list[bytes]:
    """As somebody does it who knows the format: every hash and every link is right again."""
    from hashlib import sha256

    prev, done = "0" * 64, []
    for seq, line in enumerate(lines, 1):
        members = line.split(b',"seq":', 1)[1].split(b",", 1)[1]
        rest = b'"prev":"%b","seq":%d,%b' % (prev.encode(), seq, members.rstrip(b"\n"))
        prev = sha256(b"swiftdeploy-history-v1\0{" + rest).hexdigest()
        done.append(b'{"hash":"%b",%b\n' % (prev.encode(), rest))
    return done


def without_signatures(lines: list[bytes]) -> list[bytes]:
    return [re.sub(rb',"signature":"[^"]*"', b',"unsigned":"no key"', line) for line in lines]


def with_another_s(lines: list[bytes]) -> list[bytes]:
    """The signatures of the log, each moved to the checkpoint after it."""
    marked = [at for at, line in enumerate(lines) if b'"signature"' in line]
    taken = [re.search(rb'"signature":"[^"]*"', lines[at]) for at in marked]
    for at, found in zip(marked[1:], taken, strict=False):
        assert found is not None
        lines[at] = re.sub(rb'"signature":"[^"]*"', found[0], lines[at])
    return lines


ATTACKS: dict[str, Change] = {
    "one byte of the first record": lambda lines: [lines[0].replace(b'"format":1', b'"format":2'), *lines[1:]],
    "one byte in the middle": lambda lines: edited(lines, 14),
    "one byte of the last record": lambda lines: [*lines[:-1], lines[-1].replace(b"closed", b"Closed")],
    "first record deleted": lambda lines: lines[1:],
    "record deleted": lambda lines: [*lines[:9], *lines[10:]],
    "record doubled": lambda lines: [*lines[:9], lines[8], *lines[9:]],
    "records swapped": lambda lines: [*lines[:9], lines[10], lines[9], *lines[11:]],
    "record moved to the end": lambda lines: [*lines[:9], *lines[10:], lines[9]],
    "line put in": lambda lines: [*lines[:9], b'{"kind":"cycle"}\n', *lines[9:]],
    "empty line": lambda lines: [*lines[:9], b"\n", *lines[9:]],
    "carriage returns": lambda lines: [line.replace(b"\n", b"\r\n") for line in lines],
    "no newline between two": lambda lines: [*lines[:9], lines[9].rstrip(b"\n"), *lines[10:]],
    "zeros in a line": lambda lines: [*lines[:9], b"\0" * len(lines[9][:-1]) + b"\n", *lines[10:]],
    "spaces": lambda lines: [*lines[:9], lines[9].replace(b'"kind":', b'"kind": '), *lines[10:]],
    "a member twice": lambda lines: [*lines[:9], lines[9].replace(b"}\n", b',"number":1}\n'), *lines[10:]],
    "a line of 10 MB": lambda lines: [*lines[:9], b"x" * 10_000_000 + b"\n", *lines[9:]],
    "two logs in one": lambda lines: [*lines, *lines],
    "rechained, an edit": lambda lines: rechained(edited(lines, 14)),
    "rechained, a record gone": lambda lines: rechained([*lines[:14], *lines[15:]]),
    "rechained, the first gone": lambda lines: rechained(lines[1:]),
    "rechained, signatures moved": lambda lines: rechained(with_another_s(lines)),
    "rechained, signatures of nothing": lambda lines: rechained(
        [re.sub(rb'"signature":"[^"]*"', b'"signature":"AAAA"', line) for line in edited(lines, 14)]
    ),
}
FORGED = {"rechained, signatures gone": lambda lines: rechained(without_signatures(edited(lines, 14)))}


@pytest.mark.attack("V")
@pytest.mark.control("K16")
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_seen_by_both_verifiers(run: Run, state: Path, name: str) -> None:
    put(state, ATTACKS[name](lines_of(state)))
    result = run("verify")
    assert result.code == 1
    assert "BROKEN" in result.out or "WRONGLY" in result.out
    assert json.loads(run("verify", "-o", "json").out)["whole"] is False
    code, said = alone(state)
    assert code == 1
    assert "WHOLE" not in said


@pytest.mark.attack("V")
@pytest.mark.control("K16")
@pytest.mark.parametrize("how", ["key", "link"])
def test_a_log_rewritten_without_signatures_needs_something_kept_elsewhere(
    run: Run, state: Path, original: Path, how: str
) -> None:
    before = json.loads(lines_of(state)[20])
    put(state, FORGED["rechained, signatures gone"](lines_of(state)))
    assert run("verify").code == 0, "nothing in the log itself can show it"
    assert "not somebody who rewrites all of it" in run("verify").out
    kept = str(original / "auditor.pub") if how == "key" else f"{before['seq']}:{before['hash']}"
    assert run("verify", "--key" if how == "key" else "--expect-checkpoint", kept).code == 1
    assert alone(state, "--key" if how == "key" else "--expect", kept)[0] == 1


@pytest.mark.attack("V")
def test_a_log_signed_anew_by_a_key_of_the_attacker_s_is_seen_by_whoever_has_the_old_one(
    run: Run, state: Path, original: Path
) -> None:
    for path in state.glob("history*"):
        path.unlink()
    write(state, HistoryKey(state))
    assert run("verify").code == 0
    result = run("verify", "--key", str(original / "auditor.pub"))
    assert result.code == 1
    assert "NOT in" in result.out
    assert "by NO key in" in result.out
    assert alone(state, "--key", original / "auditor.pub")[0] == 1
    both = state / "both.pub"
    both.write_text(f"# old and new\n\n{(original / 'auditor.pub').read_text()}{(state / 'history.pub').read_text()}")
    assert run("verify", "--key", str(both)).code == 0


@pytest.mark.attack("V")
def test_a_log_cut_off_at_a_line_s_end_is_seen_by_whoever_kept_a_link(run: Run, state: Path) -> None:
    lines = lines_of(state)
    last = json.loads(lines[-1])
    put(state, lines[:-4])
    link = f"{last['seq']}:{last['hash']}"
    assert run("verify").code == 0
    result = run("verify", "--expect-checkpoint", link)
    assert (result.code, "the log ends with record" in result.out) == (1, True)
    assert alone(state, "--expect", link)[0] == 1


@pytest.mark.attack("V")
def test_every_byte_of_a_record_and_of_a_checkpoint_counts(run: Run, state: Path) -> None:
    """One bit of every byte, in a log that is short enough for it."""
    lines = lines_of(state)
    at = next(number for number, line in enumerate(lines) if b'"signature"' in line)
    from reconciler.formats.history import ORIGIN, verify

    for position in range(len(lines[at]) - 1):
        flipped = lines[at][:position] + bytes([lines[at][position] ^ 1]) + lines[at][position + 1 :]
        assert verify([*lines[:at], flipped, *lines[at + 1 :]], ORIGIN).breaks, position


def test_a_break_is_named_by_file_and_line_and_every_later_one_too(run: Run, state: Path) -> None:
    packed = state / "history-000001.jsonl.gz"
    lines = gzip.decompress(packed.read_bytes()).splitlines(keepends=True)
    packed.unlink()
    packed.write_bytes(gzip.compress(b"".join(edited(lines, 5))))
    with (state / "history.jsonl").open("ab") as file:
        file.write(b"by hand\n")
    count = len((state / "history.jsonl").read_bytes().splitlines())
    result = run("verify")
    assert "chain     BROKEN in 2 places:" in result.out
    assert "history-000001.jsonl.gz, line 6: record 6 is not what was written" in result.out
    assert f"history.jsonl, line {count}: not a line of this log: by hand" in result.out


def test_what_the_writer_said_about_damage_is_told(run: Run, state: Path) -> None:
    with (state / "history.jsonl").open("ab") as file:
        file.write(b"by hand \x1b[2J\n")
    write(state, HistoryKey(state), count=1)
    result = run("verify")
    assert re.search(r"told      record \d+, 2026-11-23 01:02:03: history corrupt: line \d+", result.out)
    assert "\x1b" not in result.out


def test_the_other_readers_take_checkpoints_and_compressed_segments_as_they_come(run: Run, state: Path) -> None:
    count = len(lines_of(state))
    found = json.loads(run("audit", "-o", "json").out)
    assert (found["records"], found["chain"]["records"], found["chain"]["breaks"]) == (count, count, 0)
    assert "- **Lines not understood:** 0\n" in run("audit", "--out", "-").out
    assert len(run("history", "-n", "0").out.splitlines()) == count
    assert "checkpoint  closed" in run("history", "-n", "1").out


def test_a_key_file_that_is_none_is_said(run: Run, state: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("ssh-rsa AAAA\n")
    (tmp_path / "empty").write_text("# nothing\n")
    for name, words in (("key", "ssh-ed25519"), ("empty", "holds no key"), ("missing", "cannot be read")):
        result = run("verify", "--key", str(tmp_path / name))
        assert (result.code, words in result.err) == (1, True), result


# --- what docs/history.md tells auditors to type


def shell(state: Path, title: str) -> subprocess.CompletedProcess[str]:
    page = (ROOT / "docs" / "history.md").read_text()
    found = re.search(rf"```sh\n# {title}\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return subprocess.run(["bash", "-c", found[1]], capture_output=True, text=True, check=False, cwd=state)


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("bash")), reason="needs jq and bash")
def test_the_shell_of_the_documentation_agrees(tmp_path: Path) -> None:
    key = HistoryKey(tmp_path)
    write(tmp_path, key, count=5)
    os.rename(tmp_path / "history.jsonl", tmp_path / "history-000001.jsonl")
    write(tmp_path, key, count=1)
    (tmp_path / "auditor.pub").write_text(f"{key.public()}\n")
    assert shell(tmp_path, "check the chain").stdout == "the chain holds\n"
    signed = shell(tmp_path, "check the last signature")
    assert signed.stdout.startswith('Good "swiftdeploy-history" signature for auditor'), signed.stdout + signed.stderr
    lines = lines_of(tmp_path)
    put(tmp_path, edited(lines, 3))
    (tmp_path / "history-000001.jsonl").touch()
    assert shell(tmp_path, "check the chain").stdout == "record 4 does not hold\n"
    put(tmp_path, rechained(edited(lines, 3)))
    (tmp_path / "history-000001.jsonl").touch()
    assert shell(tmp_path, "check the chain").stdout == "the chain holds\n"
    assert "Good" not in shell(tmp_path, "check the last signature").stdout
