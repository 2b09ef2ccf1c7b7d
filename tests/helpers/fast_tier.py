"""The fast tier (`pytest --fast`, `make test-fast`): tests that need no root, no switch, no API server and no process.

It deselects what a marker of NEEDS_MORE excludes, draws at most EXAMPLES examples in each generated test, and fails a
test that starts one of FORBIDDEN all the same: such a test lacks its marker. Which markers exist stands in
pyproject.toml; nothing here decides about a single test.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import PurePath

import pytest
from hypothesis import settings

# Markers of tests that the fast tier leaves out.
NEEDS_MORE = frozenset({"switch", "lab", "api", "process", "slow", "cluster"})
# Folders that have none but such tests: importing them alone costs seconds.
WITHOUT_FAST_TESTS = ("cluster", "hubs", "nodes", "packets", "vagrant")
# Programs of a switch, of network namespaces and of an API server, and those that take seconds to start.
FORBIDDEN = re.compile(r"ovs-.*|ovsdb-.*|unshare|nsenter|ip|etcd|kube-apiserver|kubectl|python[\d.]*|headgate")
EXAMPLES = 5


class _Watch:
    """An audit hook (PEP 578): while a test runs, refuse forbidden programs, also behind setpriv, and remember them."""

    def __init__(self) -> None:
        self.running = False
        self.refused: list[str] = []
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.running or event not in ("subprocess.Popen", "os.exec", "os.posix_spawn"):
            return
        words = arguments[1]
        for word in words if isinstance(words, list | tuple) else (words,):
            name = PurePath(os.fsdecode(word) if isinstance(word, str | bytes | os.PathLike) else "").name
            if FORBIDDEN.fullmatch(name):
                self.refused.append(name)
                raise PermissionError(f"the fast tier does not start {name}")


_WATCH = pytest.StashKey[_Watch]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option --fast."""
    parser.addoption("--fast", action="store_true", help="only tests that need no root, no switch and no API server")


def pytest_configure(config: pytest.Config) -> None:
    """Watch every program that tests of this process start."""
    if config.getoption("fast"):
        config.stash[_WATCH] = _Watch()


def pytest_ignore_collect(collection_path: os.PathLike[str], config: pytest.Config) -> bool | None:
    """Leave whole folders out."""
    path = PurePath(collection_path)
    return (
        True if config.getoption("fast") and path.name in WITHOUT_FAST_TESTS and path.parent.name == "tests" else None
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that need more, and let the others draw fewer examples."""
    if not config.getoption("fast"):
        return
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in NEEDS_MORE)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]
    _draw_fewer(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Watch what starts while this test and its fixtures run."""
    if (watch := item.config.stash.get(_WATCH, None)) is None:
        return (yield)
    watch.refused.clear()
    watch.running = True
    try:
        return (yield)
    finally:
        watch.running = False


@pytest.fixture(autouse=True)
def nothing_forbidden_is_started(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test of the fast tier that has tried to start a forbidden program, whatever it made of the refusal."""
    yield
    watch = request.config.stash.get(_WATCH, None)
    if watch is not None and watch.refused:
        pytest.fail(f"the fast tier starts none of these, so the test needs a marker: {', '.join(watch.refused)}")


def _draw_fewer(items: list[pytest.Item]) -> None:
    """Lower max_examples where a test asks for more. Hypothesis has no public way to do that from outside."""
    for item in items:
        test = getattr(item, "function", None)
        own = getattr(test, "_hypothesis_internal_use_settings", None)
        if isinstance(own, settings) and own.max_examples > EXAMPLES:
            test._hypothesis_internal_use_settings = settings(own, max_examples=EXAMPLES)  # type: ignore[union-attr]
