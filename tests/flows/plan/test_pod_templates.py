"""A pod's flows that are filled in are those that `render_pod` gives, whatever its values; and so are a plan's."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.bridge.state import Binding, PodBinding
from flows.cluster.model import Direction, Key
from flows.cluster.net import ADDRESS_BITS, Net
from flows.openflow.actions import Load
from flows.openflow.match import exactly
from flows.openflow.match_fields import IN_PORT
from flows.openflow.port_numbers import MAX_OFPORT
from flows.pipeline.pod_limits import Limit
from flows.pipeline.registers import SOURCE_OFPORT
from flows.pipeline.tables import CLASSIFY
from flows.plan import pod_templates
from flows.plan.bridge_plan import BridgePlan
from flows.plan.encoder import FlowEncoder
from flows.plan.pod_templates import PodTemplates
from flows.policy.rule import Applies, Watch
from flows.render.flow_set import FlowSet
from flows.render.neighbors import link_local
from flows.render.pods import render_pod
from flows.wire.values import Body

ISOLATED = [frozenset(one) for one in ((), (Direction.EGRESS,), (Direction.INGRESS,), tuple(Direction))]
APPLYING = st.builds(frozenset.union, st.sampled_from(ISOLATED), st.frozensets(st.sampled_from(Watch)))
MAC = 0x020000000102
TEMPLATES: PodTemplates = PodTemplates()  # one for all tests, so that templates are used again


def pod(ofport: int, mac: int | None, *nets: Net) -> PodBinding:
    return PodBinding(ofport, f"p{ofport}", Key("x", f"pod-{ofport}"), mac, nets)


def values(size: int) -> st.SearchStrategy[int]:
    """Numbers of as many bytes; such as stand in flows anyway, and such that collide, are frequent."""
    few = (0, 1, 2, 0x0806, 0x86DD, 0x4847, 0x9091, 0x90919293, 0xFFFE, (1 << 8 * size) - 1)
    return st.sampled_from(sorted({one & (1 << 8 * size) - 1 for one in few})) | st.integers(0, (1 << 8 * size) - 1)


LIMITS = st.sets(st.sampled_from(Limit)).map(lambda some: tuple(sorted(some)))
MACS = st.none() | st.just(MAC) | values(6)
NETS = st.one_of(
    st.builds(lambda value: Net(4, value, 32), values(4)),
    st.builds(lambda value: Net(6, value, 128), values(16)),
    st.builds(link_local, st.just(MAC) | values(6)),
    st.builds(lambda value: Net(4, value << 8, 24), values(3)),
)
PODS = st.builds(
    lambda ofport, mac, nets, limits: pod(ofport, mac, *nets)._replace(limits=limits),
    values(2),
    MACS,
    st.lists(NETS, max_size=6),
    LIMITS,
)


def rendered(one: PodBinding, isolated: frozenset[Applies]) -> dict[bytes, Body]:
    found, encoder = FlowSet(), FlowEncoder()
    render_pod(found, one, isolated)
    return dict(map(encoder.flow, found.flows()))


def filled(templates: PodTemplates, one: PodBinding, isolated: frozenset[Applies]) -> dict[bytes, Body]:
    keys, bodies = templates.flows(one, isolated)
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, bodies, strict=True))


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(one=PODS, isolated=APPLYING)
def test_pods_that_are_filled_in_equal_those_that_are_rendered(one: PodBinding, isolated: frozenset[Applies]) -> None:
    assert filled(TEMPLATES, one, isolated) == rendered(one, isolated)


@pytest.mark.slow
def test_every_kind_of_ordinary_pod_is_filled_in() -> None:
    class Filled(PodTemplates):
        def plain(
            self, pod: PodBinding, isolated: frozenset[Applies], routes: bool = False
        ) -> tuple[tuple[bytes, ...], tuple[Body, ...]]:
            assert pod.ofport not in (1, MAX_OFPORT)  # only samples are rendered
            return super().plain(pod, isolated, routes)

    templates = Filled()
    kinds = [
        versions
        for count in range(pod_templates.MOST_TEMPLATE_ADDRESSES + 1)
        for versions in product((4, 6), repeat=count)
    ]
    for versions, mac, isolated in product(kinds, (None, MAC), ISOLATED):
        nets = [Net(version, 0x0A000001 + n, ADDRESS_BITS[version]) for n, version in enumerate(versions)]
        for ofport in (1, MAX_OFPORT):
            assert filled(templates, pod(ofport, mac, *nets), isolated) == rendered(pod(ofport, mac, *nets), isolated)


@pytest.mark.parametrize(
    "one",
    [
        pod(1 << 16, MAC, Net(4, 0x0A000001, 32)),
        pod(-1, MAC),
        pod(1, 1 << 48, Net(4, 0x0A000001, 32)),
        pod(1, -1, Net(6, 1, 128)),
        pod(1, MAC, Net(4, 1 << 32, 32)),
        pod(1, None, Net(6, 1 << 128, 128)),
    ],
)
def test_what_cannot_be_rendered_is_refused_alike(one: PodBinding) -> None:
    templates = PodTemplates()
    filled(templates, pod(1, MAC, Net(4, 0x0A000001, 32)), ISOLATED[0])
    with pytest.raises(Exception, match=r".") as plain:
        rendered(one, ISOLATED[0])
    with pytest.raises(type(plain.value)) as found:
        templates.flows(one, ISOLATED[0])
    assert str(found.value) == str(plain.value)


@pytest.mark.parametrize("what", ["match", "action"])
def test_flows_that_differ_in_more_than_values_have_no_template(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def odd(flows: FlowSet, one: PodBinding, isolated: frozenset[Applies], routes: bool) -> None:
        render_pod(flows, one, isolated, routes)
        # The number beside the ofport is no value of the pod.
        matched, loaded = (1, 0) if what == "match" else (0, 1)
        flows.add(CLASSIFY, 1, [exactly(IN_PORT, one.ofport + matched)], [Load(SOURCE_OFPORT, one.ofport + loaded)])

    monkeypatch.setattr(pod_templates, "render_pod", odd)
    with pytest.raises(ValueError, match="differ in more than"):
        PodTemplates().flows(pod(1, MAC), ISOLATED[0])


class Plain(FlowEncoder):
    """Renders every pod flow by flow."""

    def pod(
        self, pod: PodBinding, isolated: frozenset[Applies], routes: bool = False
    ) -> tuple[tuple[bytes, ...], tuple[Body, ...]]:
        found = rendered(pod, isolated)
        return tuple(found), tuple(found.values())


FEW_MACS = st.sampled_from((None, MAC, MAC + 1))
VIEWS = st.lists(
    st.builds(lambda mac, nets: pod(1, mac, *nets), FEW_MACS, st.lists(NETS, max_size=3, unique=True)), max_size=4
).map(lambda pods: Binding(pods=tuple(one_at(n, one) for n, one in enumerate(pods, 1))))


def one_at(ofport: int, one: PodBinding) -> PodBinding:
    return pod(ofport, one.mac, *one.addresses)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(views=st.lists(VIEWS, min_size=1, max_size=3), isolated=st.lists(st.sampled_from(ISOLATED), min_size=3))
def test_plans_with_contested_addresses_are_those_of_rendered_pods(
    views: list[Binding], isolated: list[frozenset[Direction]]
) -> None:
    """Two ports may claim one MAC address, which then the first of them has."""
    chosen = [0]

    def isolation(key: Key) -> frozenset[Direction]:
        return isolated[(int(key.name[-1]) + chosen[0]) % len(isolated)]

    plans = [BridgePlan(encoder(), userspace=False) for encoder in (FlowEncoder, Plain)]
    for step, view in enumerate(views):
        changes = []
        for plan in plans:
            chosen[0] = step
            plan.set_binding(view, isolation)
            chosen[0] = step + 1
            for one in view.pods:
                plan.isolate(one.ofport, isolation(one.pod))
            changes.append(plan.take())
        assert plans[0].flows == plans[1].flows
        assert changes[0] == changes[1]
