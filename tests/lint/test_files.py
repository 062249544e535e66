"""Which files are looked at, and how they are read and written."""

from __future__ import annotations

import pytest

from trioflow._lint.files import find_files, read


def test_folders_are_searched_without_what_is_hidden_or_installed(tmp_path):
    for name in (
        *(
            "b.py",
            "a.pyi",
            "c.txt",
            "sub/d.py",
            ".hidden/e.py",
            ".venv/f.py",
            "sub/__pycache__/g.py",
        ),
        *("mine/lib/h.py", "build/i.py", "node_modules/j.py"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "mine" / "pyvenv.cfg").touch()
    found = [str(path.relative_to(tmp_path)) for path in find_files([tmp_path])]
    assert found == ["a.pyi", "b.py", "sub/d.py"]
    assert [*find_files([tmp_path / "c.txt", tmp_path / "build", tmp_path / "c.txt"])] == [
        tmp_path / "c.txt",
        tmp_path / "build" / "i.py",
    ]


@pytest.mark.parametrize(
    "data",
    [
        "# ä\nx = 1\n".encode(),
        "# ä\r\nx = 1\r\n".encode(),
        "\ufeff# ä\nx = 1".encode(),
        "# coding: latin-1\n# ä\n".encode("latin-1"),
        b"",
    ],
)
def test_encoding_and_line_ends_are_kept(tmp_path, data):
    file = tmp_path / "x.py"
    file.write_bytes(data)
    source = read(file)
    assert "\r" not in source.text
    assert "\ufeff" not in source.text
    source.write(source.text)
    assert file.read_bytes() == data


def test_mixed_line_ends_are_not_written(tmp_path):
    file = tmp_path / "x.py"
    file.write_bytes(b"x\r\ny\n")
    assert read(file).text == "x\ny\n"
    with pytest.raises(ValueError, match="do not all end in one way"):
        read(file).write("z\n")
    assert file.read_bytes() == b"x\r\ny\n"


@pytest.mark.parametrize("before", [b"", b"\n\n\n", b"# coding: no-such-coding\n"])
def test_an_encoding_that_does_not_fit_is_a_mistake_in_the_file(tmp_path, before):
    (tmp_path / "x.py").write_bytes(before + b"workflow = '\xff'\n")
    with pytest.raises(SyntaxError):
        read(tmp_path / "x.py")
