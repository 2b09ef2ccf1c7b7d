"""A replica that could not read the Leases for a while reads all objects anew before it gets any switch again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from controller.reconcile.ownership import Member, View
from controller.replicas.leases import MemberLease, Reading, ViewLease
from controller.replicas.member import ReplicaMember
from controller.sources.kubernetes.stream import ApiError

ME, OTHER = Member("r0", "a"), Member("r1", "b")
SECONDS = 5.0


class FakeLeases:
    """The Leases as one replica reads them; `away`: the API server does not answer."""

    def __init__(self) -> None:
        self.away = False
        self.members: dict[str, MemberLease] = {}
        self.view: ViewLease | None = None
        self._version = 0

    def read(self) -> Reading:
        if self.away:
            raise ApiError(0, "no answer")
        now = time.monotonic()
        return Reading(now, now, tuple(self.members.values()), self.view)

    def write_member(self, lease: MemberLease) -> None:
        self._version += 1
        self.members[lease.member.name] = replace(lease, version=str(self._version))

    def write_view(self, view: ViewLease, by: Member) -> None:
        self._version += 1
        self.view = ViewLease(view.view, str(self._version))

    def delete(self, lease: MemberLease) -> None:
        self.members.pop(lease.member.name, None)


class Setting:
    def __init__(self) -> None:
        self.leases = FakeLeases()
        self.caught_up: list[Callable[[], None]] = []
        self.member = ReplicaMember(
            self.leases, MemberLease(ME, SECONDS), 1.0, post=lambda _: None, ready=lambda: True,
            catch_up=self.caught_up.append,
        )  # fmt: skip

    def turn(self) -> None:
        """Read and write until there is nothing new."""
        while self.member._try_once(time.monotonic()):
            pass

    @property
    def in_view(self) -> bool:
        return self.leases.view is not None and self.leases.view.view.has(ME)

    def left_out(self) -> None:
        """The others go on without this replica."""
        epoch = self.leases.view.view.epoch if self.leases.view is not None else 0
        self.leases.write_view(ViewLease(View(epoch + 1, (OTHER,)), ""), OTHER)


def joined() -> Setting:
    setting = Setting()
    setting.turn()
    assert setting.in_view and not setting.caught_up
    return setting


def test_who_was_left_out_reads_anew_before_it_joins_again() -> None:
    setting = joined()
    setting.leases.away = True
    setting.turn()
    setting.left_out()
    setting.leases.away = False
    for _ in range(3):
        setting.turn()
        assert not setting.in_view
        assert not setting.leases.members[ME.name].ready
    (done,) = setting.caught_up
    done()
    setting.turn()
    assert setting.in_view


def test_who_was_cut_off_while_it_read_anew_reads_once_more() -> None:
    setting = joined()
    setting.leases.away = True
    setting.turn()
    setting.left_out()
    setting.leases.away = False
    setting.turn()
    setting.leases.away = True
    setting.turn()
    setting.leases.away = False
    setting.caught_up[0]()
    setting.turn()
    assert not setting.in_view
    setting.caught_up[1]()
    setting.turn()
    assert setting.in_view


def test_who_was_stopped_and_left_out_reads_anew_too() -> None:
    setting = joined()
    setting.member._read_at -= SECONDS  # as if nothing had run for that long
    setting.left_out()
    setting.turn()
    assert len(setting.caught_up) == 1 and not setting.in_view


def test_nobody_steps_down_where_nobody_was_left_out() -> None:
    setting = joined()
    setting.leases.away = True
    setting.turn()
    setting.leases.away = False
    setting.turn()
    assert setting.in_view and not setting.caught_up
