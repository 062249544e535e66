"""What trioflow says to programs, for somebody at a shell: calls in it become commands."""

from __future__ import annotations

import ast
import re
import shlex

__all__ = ["in_shell"]

_CALL = re.compile(
    r"""
    client\.handle\((?P<whose>'[^']*'|"[^"]*")\)\.reset\(turn=(?P<exact>\d+)\)
    | client\.handle\((?P<other>'[^']*'|"[^"]*")(?:,[ ]workflow)?\)(?:\.describe\(\))?
      (?P<gives>[ ]gives[ ]a[ ]handle[ ]of[ ]it)?
    | \b(?:handle\.)?resume\(without=(?P<signal>'[^']*'|"[^"]*")\)
    | \b(?:handle\.)?reset\(turn=…\)(?P<turn>)
    | (?<![\w.])(?:handle\.)?(?P<verb>resume|pause|reset|fork|history)\(\)
    | \bturn=…(?P<number>)
    """,
    re.VERBOSE,
)


def in_shell(text: str, id: str | None = None) -> str:
    """Return what an error, or why an instance is suspended, says to somebody at a shell.

    Args:
        text: What it says to a program.
        id: The instance that it is about.
    """
    named = "ID" if id is None else shlex.quote(id)

    def command(found: re.Match[str]) -> str:
        if (other := found["other"]) is not None:
            shows = " shows it" if found["gives"] else ""
            return f"`trioflow describe {shlex.quote(ast.literal_eval(other))}`{shows}"
        if (signal := found["signal"]) is not None:
            without = shlex.quote(ast.literal_eval(signal))
            return f"`trioflow resume {named} --without {without}`"
        if found["turn"] is not None:
            return f"`trioflow reset {named} --turn N`"
        if found["exact"] is not None:
            whose = shlex.quote(ast.literal_eval(found["whose"]))
            return f"`trioflow reset {whose} --turn {found['exact']}`"
        if found["number"] is not None:
            return "--turn N"
        return f"`trioflow {found['verb']} {named}`"

    return _CALL.sub(command, text)
