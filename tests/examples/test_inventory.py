"""The inventory, as a user runs it: on awkward trees, and killed again and again."""

# ruff: noqa: PTH103, PTH118, PTH123 - pathlib knows no bytes

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
INVENTORY = ROOT / "examples" / "inventory.py"

needs_sha256sum = pytest.mark.skipif(not shutil.which("sha256sum"), reason="no sha256sum here")


def start(tree: Path, work: Path, *options: str) -> subprocess.Popen[bytes]:
    work.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, INVENTORY, tree, *options],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def take(tree: Path, work: Path, *options: str) -> tuple[int, str]:
    process = start(tree, work, *options)
    _, err = process.communicate(timeout=50)
    return process.returncode, os.fsdecode(err)


def check(tree: Path, manifest: Path) -> int:
    """Let sha256sum check a manifest; return how many files it found right."""
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", manifest], cwd=tree, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.count(b": OK\n")


def plant(tree: Path, folders: int, files: int) -> int:
    for n in range(folders):
        folder = tree / f"f{n % 3}" / f"g{n}"
        folder.mkdir(parents=True)
        for m in range(files):
            (folder / f"{m}.txt").write_bytes(bytes([n]) * 1000 * m)
    return folders * files


@needs_sha256sum
def test_awkward_names_and_what_is_no_file(tmp_path: Path):
    tree = tmp_path / "tree"
    names = [b"plain", b"-n", b" two  spaces ", b"new\nline", b"back\\slash", b"\\n", b"cr\r",
             b"not\xfftext", "ärger".encode(), b"#%3F?&;"]  # fmt: skip
    for folder in (b"", b"\xff\n\\", b"-d"):
        path = os.path.join(os.fsencode(tree), folder)
        os.makedirs(path, exist_ok=True)
        for name in names:
            with open(os.path.join(path, name), "wb") as file:
                file.write(name)
    (tree / "empty folder").mkdir()
    (tree / "link").symlink_to("plain")
    (tree / "loop").symlink_to(".")
    (tree / "dangling").symlink_to("nothing")
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(tree / "socket"))

    code, err = take(tree, tmp_path / "work")
    assert code == 0, err
    assert check(tree, tmp_path / "work" / "SHA256SUMS") == 3 * len(names)


@needs_sha256sum
def test_its_own_files_are_left_out_and_small_batches_are_fine(tmp_path: Path):
    count = plant(tmp_path, 2, 5)
    code, err = take(tmp_path, tmp_path, "--batch", "1", "--output", "f0/sums")
    assert code == 0, err
    assert check(tmp_path, tmp_path / "f0" / "sums") == count


@needs_sha256sum
def test_a_second_run_begins_anew(tmp_path: Path):
    tree, work = tmp_path / "tree", tmp_path / "work"
    count = plant(tree, 3, 3)
    assert take(tree, work)[0] == 0
    shutil.rmtree(tree / "f0")
    (tree / "f1" / "new").write_text("x")
    assert take(tree, work)[0] == 0
    assert check(tree, work / "SHA256SUMS") == count - 3 + 1


def module() -> dict[str, Any]:
    import examples.inventory  # noqa: PLC0415 - it decorates, so only where that is wanted

    return vars(examples.inventory)


def test_what_vanishes_or_cannot_be_read_is_reported(tmp_path: Path, monkeypatch):
    inventory = module()
    job = inventory["Job"](os.fsencode(tmp_path), 50)
    (tmp_path / "no").write_text("x")

    def refuse(path: bytes) -> str:
        raise PermissionError(13, "Permission denied", path)

    gone = inventory["checksum"].fn(job, b"", [b"gone"])
    monkeypatch.setitem(inventory, "sha256", refuse)
    refused = inventory["checksum"].fn(job, b"", [b"no"])
    assert [entry.problem for entry in gone + refused] == [
        "No such file or directory",
        "Permission denied",
    ]
    assert inventory["list_folder"].fn(job, b"gone").problem == "No such file or directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_an_unreadable_file_makes_the_exit_code_1(tmp_path: Path):
    tree = tmp_path / "tree"
    plant(tree, 1, 3)
    (tree / "f0" / "g0" / "1.txt").chmod(0)
    code, err = take(tree, tmp_path / "work")
    assert code == 1
    assert "not read: 'f0/g0/1.txt': Permission denied" in err


def test_a_directory_that_is_none_is_refused(tmp_path: Path):
    code, err = take(tmp_path / "nothing", tmp_path)
    assert code == 2
    assert "is no directory" in err
    assert list(tmp_path.iterdir()) == []


@needs_sha256sum
def test_it_goes_on_however_often_it_is_killed(tmp_path: Path):
    tree, work = tmp_path / "tree", tmp_path / "work"
    count = plant(tree, 150, 12)
    chance = random.Random(0)
    kills = 0
    while kills < 3:
        process = start(tree, work, "--batch", "1")
        try:
            process.communicate(timeout=chance.uniform(0.3, 0.9))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
    if kills:
        code, err = take(tree, work, "--batch", "1")
        assert code == 0, err
    assert check(tree, work / "SHA256SUMS") == count
