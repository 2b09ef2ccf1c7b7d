"""One status out of those of all replicas: of each switch, what the replica says that serves it. Values only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from controller.status.model import (
    NodeView,
    PodView,
    PolicyView,
    ProblemView,
    StatusView,
    SwitchView,
    WaitResult,
)

NO_ANSWER = "its replica {} does not answer: {}"
NO_OWNER = "no replica serves it yet"
SwitchKey = tuple[str, str, str]  # node, bridge and datapath id


def merge_status(own: StatusView, others: Mapping[str, StatusView | str]) -> StatusView:
    """`own`, with what other replicas know of their switches. `others` by name; a text is why one did not answer.

    Each replica's part of policies is about its own switches, so a policy is realized where all say so.
    """
    answers = {own.replica: own, **{name: one for name, one in others.items() if isinstance(one, StatusView)}}
    silent = {name: one for name, one in others.items() if isinstance(one, str)}
    said = {name: {_key(one): one for one in view.switches} for name, view in answers.items()}
    switches = tuple(_switch(one, said, silent) for one in own.switches)
    speaker = {one.node: name for one in own.switches if (name := _speaker(_key(one), said))}
    return replace(
        own,
        switches=switches,
        policies=_policies(own, answers, silent),
        pods=_pods(own, answers, speaker),
        problems=_problems(answers),
        nodes=tuple(_nodes(own, answers, speaker)),
        replicas=tuple(
            replace(
                one,
                owned=sum(switch.owner == one.name for switch in switches),
                primary=sum(_speaker(_key(switch), said) == one.name for switch in switches),
                reason=silent.get(one.name, ""),
            )
            for one in own.replicas
        ),
    )


def _key(one: SwitchView) -> SwitchKey:
    return one.node, one.bridge, one.dpid


def _speaker(key: SwitchKey, said: Mapping[str, Mapping[SwitchKey, SwitchView]]) -> str:
    """The replica that serves a switch, by its own words; of several, the one with the newest generation."""
    found = [(one.generation, name) for name, views in said.items() if (one := views.get(key)) and one.primary]
    return max(found)[1] if found else ""


def _switch(
    one: SwitchView, said: Mapping[str, Mapping[SwitchKey, SwitchView]], silent: Mapping[str, str]
) -> SwitchView:
    speaker = _speaker(_key(one), said)
    if speaker:
        return replace(said[speaker][_key(one)], owner=one.owner)
    if one.owner in silent:
        why = NO_ANSWER.format(one.owner, silent[one.owner])
    elif one.owner in said and (found := said[one.owner].get(_key(one))) is not None:
        return replace(found, in_sync=False, error=found.error or ("" if not found.openflow_connected else NO_OWNER))
    else:
        why = NO_OWNER
    return replace(one, in_sync=False, error=one.error or why)


def _policies(own: StatusView, answers: Mapping[str, StatusView], silent: Mapping[str, str]) -> tuple[PolicyView, ...]:
    parts = [{one.key: one for one in view.policies} for name, view in answers.items() if name != own.replica]
    why = "; ".join(NO_ANSWER.format(name, reason) for name, reason in sorted(silent.items()))
    found = []
    for policy in own.policies:
        reasons = [policy.reason] if policy.reason else []
        realized = policy.realized
        for part in parts:
            other = part.get(policy.key)
            if other is not None and not other.realized:
                realized = False
                if other.reason and other.reason not in reasons:
                    reasons.append(other.reason)
        if why and policy.pods:
            realized, reasons = False, [*reasons, why]
        found.append(replace(policy, realized=realized, reason="; ".join(reasons)))
    return tuple(found)


def _pods(own: StatusView, answers: Mapping[str, StatusView], speaker: Mapping[str, str]) -> tuple[PodView, ...]:
    told = {name: {one.key: one for one in view.pods} for name, view in answers.items() if name != own.replica}
    return tuple(told.get(speaker.get(one.node, ""), {}).get(one.key, one) for one in own.pods)


def _problems(answers: Mapping[str, StatusView]) -> tuple[ProblemView, ...]:
    return tuple(dict.fromkeys(one for view in answers.values() for one in view.problems))


def _nodes(own: StatusView, answers: Mapping[str, StatusView], speaker: Mapping[str, str]) -> Iterator[NodeView]:
    told = {name: {one.node: one for one in view.nodes} for name, view in answers.items()}
    for node in own.nodes:
        yield told.get(speaker.get(node.node, ""), {}).get(node.node, node)


def merge_waits(own: WaitResult, others: Mapping[str, WaitResult | str]) -> WaitResult:
    """Realized where it is for all replicas; what is missing, by all of them."""
    lines = list(own.missing)
    realized = own.realized
    for name, one in sorted(others.items()):
        if isinstance(one, str):
            realized = False
            lines.append(f"replica {name} does not answer: {one}")
        elif not one.realized:
            realized = False
            lines += [f"replica {name}: {line}" for line in one.missing if line not in own.missing]
    return WaitResult(realized, tuple(lines))
