"""``trioflow lint``: finds in source files what a workflow must not do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from trioflow._cli.output import console, print_json
from trioflow._engine.guard.codes import CODES
from trioflow._lint import Finding, check, fix
from trioflow._lint.files import SourceFile, find_files, read

__all__ = ["lint"]


@dataclass(frozen=True, slots=True)
class _Checked:
    """A file, and what was found in it."""

    path: Path
    text: str
    findings: list[Finding]
    workflows: int = 0
    mended: int = 0


def _codes(_: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Split codes, or what they begin with, at commas; refuse what no code begins with."""
    codes = tuple(each.strip().upper() for each in (value or "").split(",") if each.strip())
    for code in codes:
        if not any(each.startswith(code) for each in CODES):
            message = f"there is no code {code!r}; there are {', '.join(CODES)}"
            raise click.BadParameter(message, param=option)
    return codes


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--fix", "mend", is_flag=True, help="Fix what can be fixed automatically.")
@click.option("--select", callback=_codes, metavar="CODES", help="Look for these: TF1,TF203.")
@click.option("--ignore", callback=_codes, metavar="CODES", help="Leave these out.")
@click.option("--concise", is_flag=True, help="Print one line for each finding.")
@click.option("--json", "as_json", is_flag=True, help="Print an array of objects instead.")
@click.pass_context
def lint(
    context: click.Context,
    *,
    paths: tuple[Path, ...],
    mend: bool,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    concise: bool,
    as_json: bool,
) -> None:
    """Find what workflows must not do, in files and folders (by default in this one).

    Nothing is imported or run. Workflows are looked at, and the functions of their file that they
    call. What the codes mean is in docs/lint. `# noqa: TF101` in a line leaves a finding out.

    Exit codes: 0 if nothing is found, 1 if something is, 2 for wrong usage.
    """
    codes = tuple(
        code
        for code in CODES
        if code.startswith(select or ("TF",)) and not (ignore and code.startswith(ignore))
    )
    checked = [_check(path, codes, mend=mend) for path in find_files(paths or (Path(),))]
    if as_json:
        print_json([_as_object(each, finding) for each, finding in _all(checked)])
    else:
        _print(checked, concise=concise)
    context.exit(1 if any(each.findings for each in checked) else 0)


def _all(checked: Iterable[_Checked]) -> Iterator[tuple[_Checked, Finding]]:
    for each in checked:
        for finding in each.findings:
            yield each, finding


def _check(path: Path, codes: tuple[str, ...], *, mend: bool) -> _Checked:
    mended = 0
    try:
        source = read(path)
        if mend:
            source, mended = _mend(source, codes)
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    except SyntaxError as error:
        finding = Finding(
            1, 1, 1, 1, "TF100", f"The file is not valid Python: {error}", "fix the syntax"
        )
        return _Checked(path, "", [finding] if "TF100" in codes else [])
    report = check(source.text)
    findings = [each for each in report.findings if each.code in codes]
    return _Checked(path, source.text, findings, report.workflows, mended)


def _mend(source: SourceFile, codes: tuple[str, ...]) -> tuple[SourceFile, int]:
    if not codes or source.line_end is None:
        return source, 0
    text, mended = fix(source.text, codes)
    if mended:
        source.write(text)
    return SourceFile(source.path, text, source.encoding, source.line_end), mended


def _as_object(checked: _Checked, finding: Finding) -> dict[str, Any]:
    return {
        "filename": str(checked.path),
        "line": finding.line,
        "column": finding.column,
        "end_line": finding.end_line,
        "end_column": finding.end_column,
        "code": finding.code,
        "message": finding.message,
        "hint": finding.hint,
        "fixable": bool(finding.fix),
    }


# --- for people ------------------------------------------------------------------------------


def _print(checked: list[_Checked], *, concise: bool) -> None:
    out = console()
    for each, finding in _all(checked):
        out.print(_line(each, finding) if concise else _block(each, finding))
    found = sum(len(each.findings) for each in checked)
    mended = sum(each.mended for each in checked)
    if mended:
        out.print(f"Fixed {_count(mended, 'mistake')}.")
    if found:
        fixable = sum(bool(finding.fix) for _, finding in _all(checked))
        out.print(f"Found {_count(found, 'mistake')}.")
        if fixable:
            out.print(f"[*] {fixable} can be fixed with `--fix`.")
    else:
        workflows = sum(each.workflows for each in checked)
        files = _count(len(checked), "file")
        out.print(f"Found no mistakes in {_count(workflows, 'workflow')} in {files}.")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _head(finding: Finding) -> Text:
    mark = Text("[*] ", "cyan") if finding.fix else Text()
    return Text.assemble((finding.code, "bold red"), " ", mark, finding.message)


def _line(checked: _Checked, finding: Finding) -> Text:
    place = f":{finding.line}:{finding.column}: "
    hint = f"; {finding.hint}"
    return Text.assemble((str(checked.path), "bold"), (place, "cyan"), _head(finding), hint)


def _block(checked: _Checked, finding: Finding) -> Text:
    place = f"{checked.path}:{finding.line}:{finding.column}"
    number = str(finding.line)
    margin = " " * len(number)
    lines = checked.text.split("\n")
    line = lines[finding.line - 1] if finding.line <= len(lines) else ""
    end = finding.end_column if finding.end_line == finding.line else len(line) + 1
    shown = line.expandtabs(4)
    start = len(line[: finding.column - 1].expandtabs(4))
    width = max(len(line[: end - 1].expandtabs(4)) - start, 1)
    bar = ("|", "bold blue")
    return Text.assemble(
        _head(finding),
        "\n",
        *(margin, ("--> ", "bold blue"), place, "\n"),
        *(margin, " ", bar, "\n"),
        *((number, "bold blue"), " ", bar, " ", shown, "\n"),
        *(margin, " ", bar, " ", " " * start, ("^" * width, "bold red"), "\n"),
        *(margin, " ", bar, "\n"),
        *(("help", "bold cyan"), ": ", finding.hint, "\n"),
    )
