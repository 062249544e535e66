"""Sets in their order, and `id()` and `hash()`."""

from __future__ import annotations

import pytest

from tests.lint.sources import codes, flow, marked

BEFORE = """
    from collections.abc import Set as AbstractSet
    from dataclasses import dataclass

    @dataclass
    class Order:
        tags: set[str]
        lines: list[str]

    class Big(Order): ...

    @activity
    async def tags_of(x) -> set[str]: ...

    def names() -> frozenset[str]: ...

    KINDS = {"a", "b"}
    LOOKUP = {"a": 1}
"""


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("for x in {'a', arg}: pass", "{'a', arg}"),
        ("for x in set(arg): pass", "set(arg)"),
        ("seen = set()\nfor x in seen: pass", "seen"),
        ("seen = set()\nseen |= {3}\nfor x in seen: pass", "seen"),
        ("seen = set()\nseen = seen | {3}\nfor x in seen: pass", "seen"),
        ("seen: set[str] = arg()\nfor x in seen - {3}: pass", None),
        ("[x for x in arg.keys() & {}]", "arg.keys() & {}"),
        ("[x for x in {y for y in arg}]", "{y for y in arg}"),
        ("{x: 1 for x in set(arg)}", "set(arg)"),
        ("list(set(arg))", "set(arg)"),
        ("enumerate(frozenset(arg))", "frozenset(arg)"),
        ("next(iter(set(arg)))", "set(arg)"),
        ("dict.fromkeys(set(arg))", "set(arg)"),
        ("','.join(set(arg))", "set(arg)"),
        ("list(itertools.chain(set(arg), []))", "set(arg)"),
        ("await anyio.amap(tags_of, set(arg))", "set(arg)"),
        ("a, b = set(arg)", "set(arg)"),
        ("arg(*set(arg))", "set(arg)"),
        ("[*set(arg)]", "set(arg)"),
        ("set(arg).pop()", "set(arg)"),
        ("{await tags_of(x) for x in set(arg)}", "set(arg)"),
        ("for x in set(arg).union([3]): pass", "set(arg).union([3])"),
        ("for x in (set(arg) if arg else []): pass", "set(arg) if arg else []"),
        ("for x in await tags_of(1): pass", "await tags_of(1)"),
        ("for x in names(): pass", "names()"),
        ("for x in KINDS: pass", "KINDS"),
        ("def inner(o: Order):\n    for x in o.tags: pass", "o.tags"),
        ("def inner(o: 'Order | None'):\n    for x in o.tags: pass", "o.tags"),
        ("def inner(xs: AbstractSet[str]):\n    for x in xs: pass", "xs"),
        ("for x in (seen := set(arg)): pass", "seen := set(arg)"),
        ("def inner(xs: 'set[str]'):\n    for x in xs: pass", "xs"),
        ("def inner(xs: set[str] | None = None):\n    for x in xs: pass", "xs"),
        ("def inner(o: Big):\n    for x in o.tags: pass", "o.tags"),
        ("def inner():\n    yield from set(arg)", "set(arg)"),
        ("from typing import FrozenSet\ndef inner(xs: FrozenSet[str]):\n    list(xs)", "xs"),
    ],
)
def test_the_order_of_a_set_is_found(body, place):
    found = marked(flow(body, BEFORE))
    assert [each[0] for each in found] == ["TF201"]
    assert place is None or found[0][1] == place


@pytest.mark.parametrize(
    "body",
    [
        "for x in sorted(set(arg)): pass",
        "seen = set()\nif arg in seen: len(seen)",
        "[x for x in sorted(x for x in set(arg))]",
        "sorted(list(set(arg)))",
        "any(x > 3 for x in set(arg))",
        "sum(1 for _ in set(arg)), min(set(arg)), max(set(arg))",
        "{x + 1 for x in set(arg)}",
        "set(arg).update(x for x in set(arg))",
        "xs = set(arg)\nxs = sorted(xs)\nfor x in xs: pass",
        "for x in LOOKUP: pass",
        "for x in LOOKUP.keys(): pass",
        "for x in LOOKUP | {}: pass",
        "def inner(o: Order):\n    for x in o.lines: pass",
        "def inner(xs: list[str]):\n    for x in xs: pass",
        "set = arg\nfor x in set(3): pass",
        "def inner(xs):\n    if arg: xs = set(xs)\n    for x in xs: pass",
        "def inner(o: Big):\n    for x in o.other: pass",
        "def inner(xs: 'not python'):\n    for x in xs: pass",
        "def inner(xs: dict[str, set[str]]):\n    for x in xs: pass",
        "xs = xs2\nxs2 = xs\nfor x in xs: pass",
        "arg.pop()",
        "{1}.discard(1)",
        "side_effect(lambda: list({1, 2}), list[int])",
    ],
)
def test_what_does_not_depend_on_it_is_left_alone(body):
    assert codes(flow(body, BEFORE)) == []


@pytest.mark.parametrize(
    ("body", "place"), [("id(arg)", "id"), ("hash(arg)", "hash"), ("sorted(arg, key=id)", "id")]
)
def test_numbers_that_differ_between_processes_are_found(body, place):
    assert marked(flow(body)) == [("TF202", place)]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("print(arg)", ["TF207"]),
        ("list(map(print, arg))", ["TF207"]),
        ("arg.print()", []),
        ("print = arg\nprint(3)", []),
    ],
)
def test_what_is_printed_again_on_replay_is_found(body, found):
    assert codes(flow(body)) == found


def test_names_that_are_also_builtins_are_left_alone():
    assert codes(flow("id = arg\narg(id, arg.id, arg(id=3))")) == []
