"""What the project promises about itself: its version, its public names, its files."""

from __future__ import annotations

import ast
import builtins
import importlib.metadata
import os
import re
import tomllib
from pathlib import Path

import pytest

import trioflow
from trioflow import errors
from trioflow._model.info import SuspendReport

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "trioflow"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
VERSION = PYPROJECT["project"]["version"]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def test_the_package_tells_type_checkers_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_the_tests_run_against_this_checkout():
    assert trioflow.__file__ == str(PACKAGE / "__init__.py")


def test_the_installed_version_is_that_of_pyproject():
    try:
        installed = importlib.metadata.version("trioflow")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("trioflow is imported from the checkout without being installed")
    assert installed == VERSION
    assert getattr(trioflow, "__version__", VERSION) == VERSION


def test_the_version_is_written_in_one_place():
    literal = re.compile(rf"[\"']{re.escape(VERSION)}[\"']")
    assert [n for n, path in MODULES.items() if literal.search(path.read_text("utf-8"))] == []


def test_the_changelog_has_each_release_once_and_a_place_for_the_next():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert text.count("<!-- towncrier release notes start -->") == 1
    headings = re.findall(r"(?m)^## \[?([^\]\s]+)", text)
    assert len(headings) == len(set(headings))
    assert headings[:1] in ([], [VERSION])


FRAGMENTS = sorted((ROOT / "newsfragments").glob("+*"))


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda path: path.name)
def test_a_news_fragment_is_one_entry(fragment: Path):
    text = fragment.read_text("utf-8")
    assert re.fullmatch(r"\S.*[.:)`]\n", text, re.DOTALL)
    assert not re.search(r"(?m)^(#|[-*] |$)", text[:-1])


def exported(path: Path) -> list[str] | None:
    """Give the literal ``__all__`` of a file, without importing it."""
    for node in ast.parse(path.read_text("utf-8")).body:
        match node:
            case (
                ast.Assign(targets=[ast.Name("__all__")], value=value)
                | ast.AnnAssign(target=ast.Name("__all__"), value=ast.expr() as value)
            ):
                return list(ast.literal_eval(value))
    return None


@pytest.mark.parametrize("name", [n for n, path in MODULES.items() if exported(path) is not None])
def test_every_exported_name_is_there_once(name: str):
    names = exported(MODULES[name]) or []
    assert sorted(set(names)) == sorted(names)
    module = importlib.import_module(name)
    assert [n for n in names if not hasattr(module, n)] == []


def test_every_error_is_exported():
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert defined == set(errors.__all__)


def test_the_tree_of_errors_is_the_tree_that_is_documented():
    documented: dict[str, set[str]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ([│├└─ ]*)(\w+)(?: \((\w+)\))?", line)
        if match is None:
            continue
        branch, name, builtin = match.groups()
        depth = len(branch) // 4
        above[depth:] = [name]
        documented[name] = {builtin} if builtin else set()
        if depth:
            documented[name].add(above[depth - 1])
    documented["TrioflowError"].add("Exception")
    documented |= {"Evicted": {"BaseException"}, "ContinueAsNew": {"BaseException"}}
    actual = {n: {base.__name__ for base in getattr(errors, n).__bases__} for n in errors.__all__}
    assert documented == actual


def test_no_error_takes_the_name_of_a_builtin():
    assert [name for name in errors.__all__ if hasattr(builtins, name)] == []


def test_contributing_says_where_a_change_goes_in_this_tree():
    section = (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("## Where a change goes")[1]
    named = set()
    for cell in re.findall(r"(?m)^\| (`trioflow/[^|]*) \|", section.split("\n## ")[0]):
        first, *siblings = (ROOT / path for path in re.findall(r"`([^`]+)`", cell))
        named |= {first, *(first.parent / path.name for path in siblings)}
    assert [path for path in named if not path.exists()] == []
    parts = {
        path
        for path in PACKAGE.iterdir()
        if path.name != "__init__.py" and (path.suffix == ".py" or any(path.glob("**/*.py")))
    }
    assert parts - named == set()


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_the_layers_are_those_that_are_enforced(page: str):
    text = (ROOT / page).read_text("utf-8")
    (shown,) = re.findall(r"```\n(__main__  >.*?)\n```", text, re.DOTALL)
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each["id"] == "layers")
    there = [re.sub(r"\(\w+\) \| ", "", layer) for layer in layers]  # without what is planned
    assert re.split(r"\s+>\s+", shown) == there


def test_the_architecture_names_every_part():
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"`(\w+(?:/|\.py))`", page.split("## Data flow")[0]))
    parts = {
        f"{name}/" if (PACKAGE / name).is_dir() else f"{name}.py"
        for name in {part.split(".")[1] for part in MODULES if "." in part}
    }
    assert parts - named == set()


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_every_file_and_folder_that_is_named_is_there(page: str):
    text = (ROOT / page).read_text("utf-8")
    named = set(re.findall(r"`(?:\*/)?([\w./-]*\w(?:\.py|\.lua|\.md|\.toml|/))`", text))
    there = [path for part in ("trioflow", "tests", "docs", "benchmarks") for path in tree(part)]
    there += [f"/{path.name}{'/' * path.is_dir()}" for path in ROOT.iterdir()]
    assert len(named) > 50
    assert [name for name in named if not any(path.endswith(f"/{name}") for path in there)] == []


def tree(part: str) -> list[str]:
    return [
        f"/{path.relative_to(ROOT).as_posix()}{'/' * path.is_dir()}"
        for path in [ROOT / part, *(ROOT / part).rglob("*")]
    ]


SCRIPTS = [ROOT / ".ci" / "run", *sorted((ROOT / "scripts").iterdir())]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_run(script: Path):
    assert os.access(script, os.X_OK)


def test_the_operations_guide_says_what_to_do_about_every_kind_of_suspension():
    section = (ROOT / "docs/operations.md").read_text("utf-8").split("## Suspended instances")[1]
    table = set(re.findall(r"^\| `([a-z ]+)` \|", section.split("\n## ")[0], re.MULTILINE))
    kinds = set(re.findall(r"``\"([a-z ]+)\"``:", SuspendReport.__doc__ or ""))
    assert len(kinds) > 5
    assert table == kinds
