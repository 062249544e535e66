"""The example of a trace prints the tree that operations.md shows."""

from __future__ import annotations

from pathlib import Path

from examples import tracing

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


async def test_it_prints_the_tree_of_the_docs(capsys):
    await tracing.main()
    printed = capsys.readouterr().out
    shown = OPERATIONS.read_text("utf-8").partition("$ python examples/tracing.py\n")[2]
    assert printed == shown.partition("```")[0]
