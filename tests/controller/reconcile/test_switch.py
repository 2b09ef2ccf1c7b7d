"""The known actual flows of a switch are those it has, in whatever order changes, dumps, commits and errors come."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.reconcile.audit_pace import AUDIT_SECONDS
from controller.reconcile.commands import Command, DumpFlows, SendBundle
from controller.reconcile.events import BundleDone, BundleFailed
from controller.reconcile.switch import LONGEST_RETRY_SECONDS, Switch
from flows.wire.values import Body, FlowKey, flow_key
from tests.helpers.controller.reconcile_driver import ValueSwitch

KEYS = [flow_key(1, 5, bytes([n])) for n in range(4)]
BODIES = [Body(cookie, instructions) for cookie in (1, 2) for instructions in (b"", b"go")]
STEPS = st.one_of(
    st.tuples(st.just("want"), st.dictionaries(st.sampled_from(KEYS), st.sampled_from([None, *BODIES]))),
    st.tuples(st.just("replace"), st.dictionaries(st.sampled_from(KEYS), st.sampled_from(BODIES))),
    st.tuples(st.just("by hand"), st.dictionaries(st.sampled_from(KEYS), st.sampled_from([None, *BODIES]))),
    st.tuples(st.sampled_from(["answer", "refuse", "ask", "wait", "forget", "again"]), st.none()),
)


class Pair:
    """A switch, its state machine, and the commands on their way between the two."""

    def __init__(self) -> None:
        self.switch, self.real = Switch(1), ValueSwitch(1)
        self.desired: dict[FlowKey, Body] = {}
        self.revision = 0
        self.now = 0.0
        self.session = 0
        self.waiting: list[Command] = []
        self.again()

    def again(self) -> None:
        """A new session; commands on their way are lost."""
        self.session += 1
        self.waiting = []
        self.switch.on_switch_up(self.session)

    def replace(self, desired: dict[FlowKey, Body]) -> None:
        """Replace the desired flows by another mapping."""
        self.desired = dict(desired)
        self.revision += 1
        self.switch.set_desired(self.desired, {}, self.revision)

    def want(self, changes: dict[FlowKey, Body | None]) -> None:
        """Change the desired flows in place."""
        before = {key: self.desired.get(key) for key in changes}
        set_flows(self.desired, changes)
        self.revision += 1
        self.switch.set_desired(self.desired, before, self.revision)

    def go_on(self) -> None:
        """Send the commands that are due."""
        self.waiting += self.switch.next_commands(self.now, True)

    def answer(self, refuse: bool = False) -> None:
        """The oldest command gets its answer."""
        if not self.waiting:
            return
        command = self.waiting.pop(0)
        if isinstance(command, DumpFlows):
            self.switch.on_flows_dumped(self.real.answer(command), self.now)
            return
        assert isinstance(command, SendBundle)
        reason = "no" if refuse else self.real.commit(command.changes)
        if reason:
            self.switch.on_bundle_failed(BundleFailed(1, command.session, command.number, reason), self.now)
        else:
            self.switch.on_bundle_done(BundleDone(1, command.session, command.number), self.now)

    def check(self) -> None:
        """What is believed, unless flows were changed by hand, and that counts are those of it."""
        actual = self.switch.actual_flows()
        assert (actual is None) == (self.switch.actual_count is None)
        if actual is not None:
            believed = dict(actual)
            assert believed == self.real.flows
            assert self.switch.actual_count == len(believed)
            assert not self.switch.realized or self.real.flows == self.desired


def set_flows(flows: dict[FlowKey, Body], changes: dict[FlowKey, Body | None]) -> None:
    """Some flows are these now, or gone."""
    for key, body in changes.items():
        flows.pop(key, None)
        if body is not None:
            flows[key] = body


@settings(max_examples=400, deadline=None)
@given(st.lists(STEPS, max_size=30), st.booleans())
def test_what_is_believed_is_what_is_there_and_ends_as_it_shall_be(
    steps: list[tuple[str, dict[FlowKey, Body | None]]], hands: bool
) -> None:
    pair = Pair()
    for step, flows in steps:
        if step == "want":
            pair.want(flows)
        elif step == "replace":
            pair.replace({key: body for key, body in flows.items() if body is not None})
        elif step == "by hand":
            if hands:
                set_flows(pair.real.flows, flows)
        elif step in ("answer", "refuse"):
            pair.answer(step == "refuse")
        elif step == "ask":
            pair.switch.request_counters()
        elif step == "wait":
            pair.now += LONGEST_RETRY_SECONDS
        elif step == "forget":
            pair.switch.forget_actual()
        else:
            pair.again()
        pair.go_on()
        if not hands:
            pair.check()
    pair.want({})
    for _ in range(8):
        pair.now += AUDIT_SECONDS
        pair.go_on()
        while pair.waiting:
            pair.answer()
            pair.go_on()
    assert pair.real.flows == pair.desired
    assert pair.switch.realized
    pair.check()


def test_who_asks_for_all_counters_while_few_are_on_their_way_gets_them_next() -> None:
    pair = Pair()
    pair.replace({KEYS[0]: BODIES[0]})
    pair.go_on()
    pair.switch.request_counters()
    first = pair.waiting[0]
    assert isinstance(first, DumpFlows)
    assert not first.all_counters
    pair.answer()
    assert pair.switch.full_dumps == 0
    pair.go_on()
    pair.answer()
    pair.go_on()
    second = pair.waiting[0]
    assert isinstance(second, DumpFlows)
    assert second.all_counters
    pair.answer()
    pair.go_on()
    assert (pair.switch.full_dumps, pair.waiting) == (1, [])


def test_before_anything_is_wanted_a_switch_is_asked_only_for_who_asks() -> None:
    switch = Switch(1)
    switch.on_switch_up(1)
    assert switch.next_commands(0.0, may_send=False) == []
    switch.request_counters()
    (command,) = switch.next_commands(0.0, may_send=False)
    assert isinstance(command, DumpFlows)
    assert command.all_counters
