"""What fakes are refused at once: unknown names, and functions called unlike theirs."""

# mypy: ignore-errors

from __future__ import annotations

import re

import pytest

from trioflow import Registry, activity_by_name, workflow_by_name
from trioflow.errors import DefinitionError
from trioflow.testing import crash_everywhere, explore, open_tester, simulate

flows = Registry()
elsewhere = activity_by_name("elsewhere", int)


@flows.activity
async def charge(order: str, amount: int = 1, *, currency: str = "EUR") -> str:
    raise AssertionError("the real one")


@flows.activity
def plain(*parts: str, **more: int) -> int:
    raise AssertionError("the real one")


@flows.workflow
async def ship(order: str) -> str:
    raise AssertionError("the real one")


@flows.workflow
async def checkout(order: str) -> str:
    return await charge(order, currency="USD") + await ship(order)


@flows.workflow
async def calls_elsewhere() -> int:
    return await elsewhere(number=1)


WRONG = {
    "too few": (charge, lambda order: "", "too many positional arguments"),
    "too many": (charge, lambda order, amount, more, currency="": "", "'more'"),
    "needs the optional": (charge, lambda order, amount, *, currency: "", "'amount'"),
    "no keyword": (charge, lambda order, amount: "", "'currency'"),
    "other keyword": (charge, lambda order, amount=1, *, currenzy="": "", "'currency'"),
    "not variadic": (plain, lambda parts: 1, "too many|'other_name'"),
    "of a sub-workflow": (ship, lambda: "", "too many positional arguments"),
}


@pytest.mark.parametrize(("faked", "fn", "said"), WRONG.values(), ids=WRONG)
async def test_a_function_that_cannot_take_the_arguments_is_refused(faked, fn, said):
    async with open_tester(registry=flows) as tester:
        for given in (faked, faked.name):
            with pytest.raises(DefinitionError, match=said) as raised:
                tester.fake(given, fn)
            assert str(raised.value).count("(") >= 2  # both signatures
    with pytest.raises(DefinitionError, match=said):
        simulate(checkout, "tea", registry=flows, activities={faked: fn})


@pytest.mark.parametrize(
    "fn",
    [
        lambda order, amount=1, currency="": f"{order} ",
        lambda *args, **kwargs: f"{args[0]} ",
        lambda anything, amount=5, *, currency=5: f"{anything} ",
    ],
)
async def test_names_of_positional_parameters_do_not_matter(fn):
    async with open_tester(registry=flows) as tester:
        tester.fake(charge, fn, times=1)
        tester.fake(plain, lambda *parts, **more: 1)
        tester.fake(ship, lambda order: "sent", times=1)
        assert await tester.run(checkout, "tea") == "tea sent"


async def test_what_is_no_function_is_refused():
    async with open_tester(registry=flows) as tester:
        with pytest.raises(DefinitionError, match=re.escape("lambda *args, **kwargs: 'paid'")):
            tester.fake(charge, "paid")
        with pytest.raises(DefinitionError, match="an activity, a workflow, or the name of one"):
            tester.fake(charge.fn, lambda order: "paid")


async def test_unknown_names_are_refused():
    async with open_tester(registry=flows) as tester:
        with pytest.raises(DefinitionError, match=r"'chrage'; did you mean 'charge'\?"):
            tester.fake("chrage", lambda order: "")
        with pytest.raises(DefinitionError, match=r"'x'; there are 'calls_elsewhere', 'charge'"):
            tester.fake("x", lambda order: "")
        with pytest.raises(DefinitionError, match=r"on_start\(\).*did you mean 'checkout'"):
            tester.on_start("chekout", print)
        with pytest.raises(DefinitionError, match=r"on_start\(\)"):
            tester.on_start("charge", print)  # which is no workflow
    async with open_tester(registry=Registry()) as tester:
        with pytest.raises(DefinitionError, match="give registry="):
            tester.fake("charge", lambda order: "")


async def test_simulations_refuse_them_too():
    unknown = {"registry": flows, "activities": {"chrage": lambda order: ""}}
    with pytest.raises(DefinitionError, match="did you mean 'charge'"):
        simulate(checkout, "tea", **unknown)
    with pytest.raises(DefinitionError, match="did you mean 'charge'"):
        await explore(checkout, "tea", **unknown)
    with pytest.raises(DefinitionError, match="did you mean 'charge'"):
        await crash_everywhere(checkout, "tea", **unknown)
    given = {charge: lambda order, amount=1, currency="": "paid ", "ship": lambda order: "sent"}
    simulation = simulate(checkout, "tea", registry=flows, activities=given)
    assert simulation.result() == "paid sent"
    assert len(simulation.called("ship")) == 1
    assert simulation.called("plain") == []
    with pytest.raises(DefinitionError, match=r"called\(\).*did you mean 'ship'"):
        simulation.called("shipp")


async def test_what_is_known_by_its_name_is_faked_as_it_is_called():
    async with open_tester(registry=flows) as tester:
        fake = tester.fake(elsewhere, lambda number: number + 1)
        assert await tester.run(calls_elsewhere) == 2
        assert fake.calls[0].kwargs == {"number": 1}
        tester.fake("elsewhere", lambda number: number + 2)  # it is known by now
        assert await tester.run(calls_elsewhere) == 3
        tester.fake(workflow_by_name("far away"), lambda: None)
    simulated = simulate(
        calls_elsewhere, registry=flows, activities={elsewhere: lambda number: number + 1}
    )
    assert simulated.result() == 2
