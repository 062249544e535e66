"""A pytest plugin that makes each test of a suite on trio, and then by workflows in three ways.

With each call of the test its fixtures are made anew: what one call did to them is not seen by the
next one.
"""

# mypy: ignore-errors

from __future__ import annotations

import inspect
import zlib
from fnmatch import fnmatchcase

import pytest
import trio.testing

from tests.fidelity.exclusions import WHOLE_FILES, only_live, path_in_suite, reason_for, shapes
from tests.fidelity.runs import Trio, Workflows

RUNS_NO_LOOP = "it runs no loop"
found = set()  # files and tests of the suite


def pytest_addoption(parser):
    group = parser.getgroup("fidelity")
    group.addoption("--sample", type=int, default=1, help="make one test of so many")
    group.addoption("--excluded", action="store_true", help="make only tests that are excluded")


def pytest_configure(config):
    config.pluginmanager.register(_Caller())


def pytest_ignore_collect(collection_path, config):
    """Do not even import a file that is excluded as a whole: it may need what is not installed."""
    path = path_in_suite(collection_path)
    if collection_path.suffix == ".py":
        found.add(path)
    return True if path in WHOLE_FILES else None


def pytest_collection_modifyitems(config, items):
    sample, excluded = config.getoption("sample"), config.getoption("excluded")
    kept, left = [], []
    for item in items:
        found.add("::".join(_name_of(item)))
        callspec = getattr(item, "callspec", None)
        backend = callspec and callspec.params.get("anyio_backend")
        reason = reason_for(*_name_of(item))
        if (
            backend not in (None, "trio")  # it may be no hashable value
            or zlib.crc32(item.nodeid.encode()) % sample
            or (excluded and reason is None)
        ):
            left.append(item)
            continue
        kept.append(item)
        if reason is not None:
            mark = pytest.mark.xfail(strict=False) if excluded else pytest.mark.skip
            item.add_marker(mark(reason=reason))
    items[:] = kept
    config.hook.pytest_deselected(items=left)


def pytest_terminal_summary(terminalreporter, config):
    """Say what was made, and which exclusions concern nothing that there is."""
    skipped = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])]
    made = sum(
        len(terminalreporter.stats.get(kind, [])) for kind in ("passed", "failed", "xfailed")
    )
    nothing = skipped.count(f"Skipped: {RUNS_NO_LOOP}")
    terminalreporter.write_line(
        f"fidelity: {made} tests made as workflows; {nothing} run no loop; "
        f"{len(skipped) - nothing} are excluded, or skipped by themselves, and so are whole files"
    )
    suites = {name.partition("/")[0] for name in found}
    for shape in shapes():
        if shape.partition("/")[0] in suites and not any(
            fnmatchcase(each, shape) for each in found
        ):
            terminalreporter.write_line(f"fidelity: no such test: {shape}")


def _name_of(item):
    """Return a test's file and name, as the exclusions have them."""
    return path_in_suite(item.path), item.nodeid.partition("[")[0].partition("::")[2]


class _Caller:
    """The hook that calls a test; registered last, so that it comes before those of others."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem):
        _Test(pyfuncitem).compare()
        return True


class _Test:
    """One test, called again and again."""

    def __init__(self, item):
        self.item = item
        self.called = False

    def call(self, runs, how):
        """Call the test with its runs made by ``runs``."""
        if self.called:
            self._renew_fixtures()
        self.called = True
        arguments = {name: self.item.funcargs[name] for name in self.item._fixtureinfo.argnames}
        test = self.item.obj
        if inspect.iscoroutinefunction(test):
            test = trio.testing.trio_test(test)  # which calls trio.run()
        try:
            with runs.in_place():
                test(**arguments)
        except BaseException as error:
            if runs.unsuited:
                pytest.skip(runs.unsuited)
            error.add_note(f"({how})")
            raise

    def _renew_fixtures(self):
        item = self.item
        item.session._setupstate.teardown_exact(item.parent)
        item._initrequest()
        item.session._setupstate.setup(item)
        for fixture in item.funcargs.values():
            if isinstance(fixture, pytest.LogCaptureFixture):
                fixture.clear()

    def compare(self):
        """Call the test on trio, then by workflows: live, replayed, evicted before each turn."""
        on_trio = Trio()
        self.call(on_trio, "on trio")
        if not on_trio.ends:
            pytest.skip(RUNS_NO_LOOP)
        live = Workflows()
        self.call(live, "live")
        assert live.ends == on_trio.ends
        if only_live(*_name_of(self.item)):
            return
        made = [list(history) for history in live.histories]
        self.call(live, "replayed")
        assert live.ends == on_trio.ends, "replayed"
        assert live.histories == made, "replayed"
        evicted = Workflows(evict=True)
        for _ in range(1 + sum(map(len, made))):
            self._call_until_evicted(evicted)
            if not evicted.left:
                break
        assert evicted.ends == on_trio.ends, "evicted"
        assert list(map(len, evicted.histories)) == list(map(len, made)), "evicted"

    def _call_until_evicted(self, runs):
        try:
            self.call(runs, "evicted")
        except KeyboardInterrupt:
            raise
        except BaseException:
            if not runs.left:  # else the test has made something else of `Again`
                raise
