"""The lock of an OVSDB is requested and released between transactions only: the Idl can do neither within one."""

from __future__ import annotations

from typing import Any

import pytest

from controller.ovsdb.replica import Replica

LOCK = "headgate_br_int"


def replica(monkeypatch: pytest.MonkeyPatch, lock: str | None, under_way: dict[str, Any]) -> tuple[Replica, list[Any]]:
    made = Replica.__new__(Replica)
    asked: list[Any] = []
    made.lock_name, made.txn, made._outstanding_txns = lock, None, under_way
    monkeypatch.setattr(made, "set_lock", asked.append)
    return made, asked


@pytest.mark.parametrize(("has", "wants"), [(LOCK, None), (None, LOCK)])
def test_while_a_transaction_is_under_way_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch, has: str | None, wants: str | None
) -> None:
    under_way: dict[str, Any] = {"1": object()}
    one, asked = replica(monkeypatch, has, under_way)
    one.want_lock(wants)
    assert asked == []
    under_way.clear()
    one.want_lock(wants)
    assert asked == [wants]


@pytest.mark.parametrize("name", [LOCK, None])
def test_what_is_wanted_already_is_not_asked_again(monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    one, asked = replica(monkeypatch, name, {})
    one.want_lock(name)
    assert asked == []
