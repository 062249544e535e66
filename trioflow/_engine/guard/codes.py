"""The codes of what a workflow must not do, for the guard, ``trioflow lint`` and ``docs/lint``.

Each code has a page in ``docs/lint``. The calls that those from ``TF101`` on stand for are in
`trioflow._engine.guard.checks`; what the others stand for is found in the source only, by
``trioflow lint``.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CODES", "Code"]


@dataclass(frozen=True, slots=True)
class Code:
    """A kind of mistake in a workflow.

    Attributes:
        code: ``"TF101"``. It never changes its meaning.
        summary: What the workflow does, in a few words.
        hint: What to do instead, where that does not depend on the call.
        running: What happens when such code runs without having been found before.
    """

    code: str
    summary: str
    hint: str = ""
    running: str = "DeterminismError"


#: Every code with its meaning.
CODES: dict[str, Code] = {
    code.code: code
    for code in (
        Code("TF100", "The file is not valid Python", running="SyntaxError"),
        Code("TF101", "It reads a clock"),
        Code("TF102", "It blocks the worker with `time.sleep`"),
        Code("TF103", "It uses randomness that replay does not repeat"),
        Code("TF104", "It makes a UUID that replay does not repeat"),
        Code("TF105", "It uses the system's entropy"),
        Code("TF106", "It touches files or folders"),
        Code("TF107", "It reads from the terminal"),
        Code("TF108", "It uses the network"),
        Code("TF109", "It runs or signals processes"),
        Code("TF110", "It uses threads, or blocks like one"),
        Code("TF111", "It uses asyncio", "use what trio or anyio has for it"),
        Code("TF112", "It uses what lies beyond the workflow in trio or anyio"),
        Code("TF113", "It opens a database"),
        Code("TF114", "It reads the process' environment"),
        Code(
            "TF201",
            "It depends on the order of a set",
            "iterate over `sorted(...)` of it, or use a list or a dict",
            "another order after a restart",
        ),
        Code(
            "TF202",
            "It uses `id()` or `hash()`",
            "use a value that stays the same, such as a field",
            "another number after a restart",
        ),
        Code(
            "TF203",
            "It reads or changes state of the process",
            "keep it in a local variable, or give it to the workflow as an argument",
            "other instances and restarts change it",
        ),
        Code(
            "TF204",
            "It uses a primitive of trio or anyio that other instances share",
            "make it inside of the workflow",
        ),
        Code(
            "TF205",
            "It calls something async without `await`",
            "write `await` before the call, or start it in a nursery",
            "TrioflowError, or a RuntimeWarning",
        ),
        Code(
            "TF206",
            "It is not an `async def` function that returns",
            "write it with `async def` and without `yield`",
            "DefinitionError",
        ),
        Code(
            "TF207",
            "It prints",
            "use `trioflow.logger`, which is silent on replay",
            "printed again on each replay",
        ),
    )
}
