"""The fast tier (`pytest --fast`, `make test-fast`): tests that need no root, no switch, no API server and no process.

It deselects what a marker of NEEDS_MORE excludes, and draws at most EXAMPLES examples in each generated test. A test
that starts one of FORBIDDEN all the same lacks its marker: it fails, in this tier and where all tests run. Which
markers exist stands in pyproject.toml; nothing here decides about a single test.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import PurePath
from threading import get_ident

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
    """An audit hook (PEP 578): refuse forbidden programs, also behind setpriv, to the thread of a test, and remember
    them. Other threads may be those of fixtures that tests of other tiers share."""

    def __init__(self) -> None:
        self.thread: int | None = None
        self.refused: list[str] = []
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in ("subprocess.Popen", "os.exec", "os.posix_spawn") or self.thread != get_ident():
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
    """Watch the programs that tests of this process start."""
    config.stash[_WATCH] = _Watch()


def pytest_ignore_collect(collection_path: os.PathLike[str], config: pytest.Config) -> bool | None:
    """Leave whole folders out."""
    return True if config.getoption("fast") and _is_left_out(PurePath(collection_path)) else None


def _is_left_out(path: PurePath) -> bool:
    return path.name in WITHOUT_FAST_TESTS and path.parent.name == "tests"


def _needs_more(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in NEEDS_MORE)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that need more, and let the others draw fewer examples."""
    if not config.getoption("fast"):
        return
    left_out = [item for item in items if _needs_more(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]
    _draw_fewer(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Watch what the fixtures of a test start."""
    item.config.stash[_WATCH].refused.clear()
    return (yield from _watched(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Watch what a test starts. Its end is not watched: it may be that of fixtures which tests of other tiers share."""
    return (yield from _watched(item))


def _watched(item: pytest.Item) -> Iterator[None]:
    watch = item.config.stash[_WATCH]
    if not _needs_more(item) and not any(map(_is_left_out, item.path.parents)):
        watch.thread = get_ident()
    try:
        return (yield)
    finally:
        watch.thread = None


@pytest.fixture(autouse=True)
def nothing_forbidden_is_started(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test of the fast tier that has tried to start a forbidden program, whatever it made of the refusal."""
    yield
    watch = request.config.stash[_WATCH]
    if watch.refused:
        pytest.fail(f"the fast tier starts none of these, so the test needs a marker: {', '.join(watch.refused)}")


def _draw_fewer(items: list[pytest.Item]) -> None:
    """Lower max_examples where a test asks for more. Hypothesis has no public way to do that from outside."""
    for item in items:
        test = getattr(item, "function", None)
        own = getattr(test, "_hypothesis_internal_use_settings", None)
        if isinstance(own, settings) and own.max_examples > EXAMPLES:
            test._hypothesis_internal_use_settings = settings(own, max_examples=EXAMPLES)  # type: ignore[union-attr]
