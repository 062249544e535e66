"""A class of the main module is stored under the module's own name, and found by both."""

from __future__ import annotations

import enum
import json
import subprocess
import sys
import textwrap
import types

import msgspec
import pytest

from trioflow._codec.failures.failures import Failure, matches, type_name
from trioflow._codec.names import canonical, imported, qualified
from trioflow._codec.plain import from_plain, to_plain
from trioflow._model.retry import RetryPolicy


class Kind(enum.Enum):
    A = 1


SHOP = """
import enum, json, sys
import msgspec
from trioflow._codec.failures.failures import Failure, matches
from trioflow._codec.names import imported, qualified
from trioflow._codec.plain import from_plain, to_plain
from trioflow._model.retry import RetryPolicy

class Declined(Exception):
    class Reason(enum.Enum):
        EMPTY = 1

class Hard(Declined):
    pass

def said(stored):
    failure = msgspec.json.decode(stored, type=Failure)
    back = failure.rebuild()
    policy = RetryPolicy(non_retryable=(Declined,))
    return [
        type(back) is Hard,
        back.args == (Declined.Reason.EMPTY,),
        policy.next_delay(1, failure, 0, "") is None,
        list(policy.non_retryable),
    ]

if __name__ == "__main__":
    stored = sys.stdin.read()
    if not stored:
        stored = msgspec.json.encode(Failure.of(Hard(Declined.Reason.EMPTY))).decode()
    print(json.dumps([stored, said(stored)]))
"""
AS_MODULE = "import sys, {0}, json; s = sys.stdin.read(); print(json.dumps([s, {0}.said(s)]))"


def run(args, folder, stored=""):
    done = subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        input=stored,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("package", [False, True])
def test_a_script_and_a_module_know_each_others_classes(tmp_path, package):
    folder = tmp_path / "pack" if package else tmp_path
    folder.mkdir(exist_ok=True)
    if package:
        (folder / "__init__.py").touch()
    script = folder / "shop.py"
    script.write_text(textwrap.dedent(SHOP))
    name = "pack.shop" if package else "shop"
    ways = {"script": [str(script)], "-m": ["-m", name], "module": ["-c", AS_MODULE.format(name)]}
    for start in ("script", "-m"):
        stored, said = run(ways[start], tmp_path)
        assert msgspec.json.decode(stored)["type"] == f"{name}.Hard"
        assert said == [True, True, True, [f"{name}.Declined"]]
        for way in ways.values():
            assert run(way, tmp_path, stored) == [stored, said]


@pytest.fixture
def main(monkeypatch):
    """Have a main module that is a script, `till.py`."""
    module = types.ModuleType("__main__")
    module.__dict__["__file__"] = "/nowhere/till.py"
    cls = type("Empty", (Exception,), {"__module__": "__main__"})
    module.__dict__["Empty"] = cls
    monkeypatch.setitem(sys.modules, "__main__", module)
    return cls


def test_names_of_the_main_module(main):
    assert qualified(main) == type_name(main) == "till.Empty"
    assert canonical("__main__.Empty") == canonical("__mp_main__.Empty") == "till.Empty"
    assert canonical("shop.Empty") == "shop.Empty"
    assert canonical("ValueError") == "ValueError"
    assert imported("till.Empty") is imported("__main__.Empty") is main
    assert imported("till") is imported("till.Full") is None


def test_what_was_stored_as_main_is_found_as_before(main):
    old = Failure(type="__main__.Empty", message="m", args=["m"], bases=("__main__.Base",))
    assert type(old.rebuild()) is main
    assert matches(old, ["till.Empty"])
    assert matches(old, ["__main__.Base"])
    assert RetryPolicy(non_retryable=("__main__.Base", main)).non_retryable == (
        "till.Base",
        "till.Empty",
    )


def test_a_prompt_has_no_other_name(monkeypatch):
    module = types.ModuleType("__main__")
    module.__dict__["__spec__"] = None
    monkeypatch.setitem(sys.modules, "__main__", module)
    cls = type("Empty", (Exception,), {"__module__": "__main__"})
    assert qualified(cls) == "__main__.Empty"


def test_enums_have_the_same_names():
    assert to_plain(Kind.A) == {"$enum": [f"{__name__}.Kind", "A"]}
    assert from_plain(to_plain(Kind.A)) is Kind.A
