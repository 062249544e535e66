"""What `--fix` changes, and what it leaves to people."""

from __future__ import annotations

import textwrap

import pytest

from trioflow._lint import check, fix


def fixed(source: str) -> str:
    text, _ = fix(textwrap.dedent(source).lstrip())
    return text


@pytest.mark.parametrize(
    ("call", "mended"),
    [
        ("time.time()", "trioflow.now()"),
        ("uuid.uuid4()", "trioflow.uuid4()"),
        ("random.randint(1, time.time())", "trioflow.random().randint(1, trioflow.now())"),
        ("f(*random.sample([1], k=1))", "f(*trioflow.random().sample([1], k=1))"),
        ("[x for x in {'a', 'b'}]", "[x for x in sorted({'a', 'b'})]"),
        ("'ü', time.time(), '€', time.time()", "'ü', trioflow.now(), '€', trioflow.now()"),
    ],
)
def test_calls_in_the_body_of_a_workflow_are_mended(call, mended):
    source = f"""
        import random, time, uuid
        import trioflow
        @trioflow.workflow
        async def flow(f):
            x = ({call})
    """
    assert fixed(source).splitlines()[-1] == f"    x = ({mended})"
    assert check(fixed(source)).findings == []


@pytest.mark.parametrize(
    "call",
    [
        "time.monotonic()",
        "time.time(*x)",
        "datetime.now()",
        "random.seed(3)",
        "random.Random()",
        "time.sleep(3)",
        "(lambda: time.time())()",
        "helper()",
        "[x for x in set(x)]",
        "[x for x in {'a', 3}]",
        "[x for x in {1, x}]",
        "[x for x in set()]",
        "asyncio.sleep(3)",
    ],
)
def test_what_takes_thought_is_not_mended(call):
    source = textwrap.dedent(f"""
        import asyncio, random, time
        from datetime import datetime
        import trioflow
        def helper(): return time.time()
        @trioflow.workflow
        async def flow(x):
            {call}
    """)
    assert fix(source) == (source, 0)


@pytest.mark.parametrize(
    ("imports", "now", "after"),
    [
        ("import trioflow as t\nfrom t import workflow", "t.now()", None),
        ("from trioflow import now, workflow", "now()", None),
        ("from trioflow import now as clock, workflow", "clock()", None),
        ("from trioflow import workflow", "trioflow.now()", "import trioflow\n"),
    ],
)
def test_the_name_for_it_is_the_one_that_the_file_has(imports, now, after):
    head = "import time\n"
    decorator = "@t.workflow" if " t\n" in imports else "@workflow"
    body = f"{decorator}\nasync def flow():\n    return "
    text, count = fix(f"{head}{imports}\n{body}time.time()\n")
    assert text == f"{head}{after or ''}{imports}\n{body}{now}\n"
    assert count == 1


TIME = "import time\n"
OURS = "from trioflow import workflow\n"
FLOW = "@workflow\nasync def f(): time.time()\n"


@pytest.mark.parametrize(
    "source",
    [
        f"{TIME}{OURS}trioflow = 3\n{FLOW}",
        TIME + OURS + FLOW.replace("()", "(trioflow)", 1),
        f"import time; {OURS}{FLOW}",
        f"{TIME}from .app import registry\n@registry.{FLOW.removeprefix('@')}",
    ],
)
def test_without_a_name_that_is_free_nothing_is_changed(source):
    assert len(check(source).findings) == 1
    assert fix(source) == (source, 0)


def test_a_local_name_does_not_stand_for_the_import():
    source = f"{TIME}from trioflow import now, workflow\n" + FLOW.replace("()", "(now)", 1)
    text, count = fix(source)
    assert count == 1
    assert "import trioflow\nfrom trioflow" in text
    assert "trioflow.now()" in text


def test_exempt_lines_and_other_codes_are_left_alone():
    source = (
        "import time, uuid\nimport trioflow\n@trioflow.workflow\nasync def f():\n"
        "    time.time()  # noqa: TF101\n    uuid.uuid4()\n    time.time()\n"
    )
    text, count = fix(source, ("TF101",))
    assert count == 1
    assert text.splitlines()[-3:] == [
        "    time.time()  # noqa: TF101",
        "    uuid.uuid4()",
        "    trioflow.now()",
    ]
