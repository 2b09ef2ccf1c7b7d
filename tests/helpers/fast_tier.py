"""The fast tier (`pytest --fast`, `make test-fast`): tests that need no root, no switch and no API server.

It deselects what a marker of NEEDS_MORE excludes, draws at most EXAMPLES examples in each generated test, and fails a
test that starts one of FORBIDDEN all the same: such a test lacks its marker. Which markers exist stands in
pyproject.toml; nothing here decides about a single test.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import PurePath

import pytest
from hypothesis import settings

# Markers of tests that the fast tier leaves out.
NEEDS_MORE = frozenset({"switch", "lab", "api", "slow"})
# Folders that have none but such tests: importing them alone costs seconds.
WITHOUT_FAST_TESTS = ("hubs", "nodes", "packets", "vagrant")
# Programs that stand for a switch, for root or for an API server.
FORBIDDEN = frozenset(
    {"ovs-vswitchd", "ovsdb-server", "ovs-vsctl", "ovs-ofctl", "unshare", "nsenter", "ip", "etcd", "kube-apiserver"}
)
EXAMPLES = 10
_FAST = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option --fast."""
    parser.addoption("--fast", action="store_true", help="only tests that need no root, no switch and no API server")


def pytest_configure(config: pytest.Config) -> None:
    """Watch every program that this process starts."""
    if config.getoption("fast"):
        started = config.stash[_FAST] = []
        sys.addaudithook(lambda event, arguments: _watch(event, arguments, started))


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
    """Forget what was started before this test."""
    if (started := item.config.stash.get(_FAST, None)) is not None:
        started.clear()
    return (yield)


@pytest.fixture(autouse=True)
def nothing_forbidden_is_started(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test of the fast tier that has tried to start a switch, an API server or a namespace."""
    yield
    if started := request.config.stash.get(_FAST, None):
        pytest.fail(f"the fast tier starts none of these, mark the test: {', '.join(started)}")


def _watch(event: str, arguments: tuple[object, ...], started: list[str]) -> None:
    """An audit hook (PEP 578): note and refuse forbidden programs, also behind setpriv or env."""
    if event not in ("subprocess.Popen", "os.exec", "os.posix_spawn"):
        return
    words = arguments[1]
    for word in words if isinstance(words, Iterable) and not isinstance(words, str) else (words,):
        name = PurePath(os.fsdecode(word) if isinstance(word, str | bytes | os.PathLike) else "").name
        if name in FORBIDDEN:
            started.append(name)
            raise PermissionError(f"the fast tier does not start {name}")


def _draw_fewer(items: list[pytest.Item]) -> None:
    """Lower max_examples where a test asks for more. Hypothesis has no public way to do that from outside."""
    for item in items:
        test = getattr(item, "function", None)
        own = getattr(test, "_hypothesis_internal_use_settings", None)
        if isinstance(own, settings) and own.max_examples > EXAMPLES:
            test._hypothesis_internal_use_settings = settings(own, max_examples=EXAMPLES)  # type: ignore[union-attr]
