"""`headgate recommend`: the least policies of a namespace that allow what the audit and the counters saw."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError

from controller.base.near_names import did_you_mean
from controller.base.printable import printable
from controller.cli.client import ControllerClient
from controller.cli.durations import Duration
from controller.cli.errors import EXIT_FAILED, EXIT_OK, CommandFailure, WrongUsage
from controller.cli.output import JSON, print_json
from controller.cli.plan import summary
from controller.cli.plan_answer import present_of
from controller.cli.which_controller import controller_options
from controller.status.audit_model import AuditEnd, AuditEvent
from controller.status.plans import Changes, Present, plan_and_cluster
from flows.cluster.model import Cluster, Direction, Key, Protocol
from flows.cluster.net import parse_address
from flows.explain.manifest import policy_manifest, policy_object
from flows.plan.connection_scope import connection_scope, scoped_cluster
from flows.policy.engine import PolicyEngine
from flows.policy.probe import Endpoint, Probe
from flows.policy.verdict import verdict
from flows.reach.model import EvidenceView, RecommendedView, RecommendView, SeenView
from flows.reach.recommend import (
    CountedRule,
    Evidence,
    Recommendation,
    Recommended,
    Seen,
    SeenEnd,
    evidence_text,
    recommend,
)

MAX_EVENTS = 10_000
MAX_READ_POLICIES = 200  # of the namespace, whose counters are read
YAML = "yaml"
_EVENT = TypeAdapter(AuditEvent)


@click.command("recommend")
@click.option("--namespace", metavar="NS", required=True, help="The namespace to write policies for.")
@click.option("--since", type=Duration(), default="24h", show_default=True, help="What was seen in the last DURATION.")
@click.option(
    "--events",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Events from an audit file, too, such as one of --audit-file; repeatable.",
)
@click.option(
    "-o", "--output", type=click.Choice([YAML, JSON]), default=YAML, show_default=True,
    help="Policies to apply, with comments; or the same and what each rule came from, for programs.",
)  # fmt: skip
@controller_options
def recommend_policies(server: str, namespace: str, since: int, files: tuple[Path, ...], output: str) -> None:
    """Write NetworkPolicies that allow what was seen in a namespace, and nothing else, as YAML.

    One policy for each workload with an audited connection, by its labels; a comment for each rule says what it came
    from. Have connections audited first, for as long as it takes to see all of them:

    \b
      kubectl annotate namespace shop headgate.io/audit=all
      headgate recommend --namespace shop --since 24h >seen.yaml

    Rules of present policies that have counted packets which were not audited are kept. The result is checked: every
    connection that was seen must stay allowed once it replaces the namespace's policies; what else would change
    follows as a comment, and `headgate plan seen.yaml` has the whole of it.

    Exit codes: 0 written; 1 nothing was seen, or a connection that was seen would be denied; 2 wrong usage; 3 the
    controller does not answer.
    """
    client = ControllerClient(server)
    events = [*client.audit(limit=str(MAX_EVENTS), verdict="allowed", since=str(since)).events, *_from(files, since)]
    present = present_of(client.cluster(), client)
    if namespace not in present.cluster.namespaces:
        known = sorted(present.cluster.namespaces)
        raise WrongUsage(f"there is no namespace {namespace}{did_you_mean(namespace, known)}")
    seen = list(seen_in(events))
    counted = list(_counted(present, namespace, events))
    found = recommend(present.cluster, namespace, seen, counted)
    view = checked_view(present, found, seen, namespace)
    if output == JSON:
        print_json(view)
    else:
        write(found, view)
    if not found.policies:
        click.echo("headgate: nothing to write; docs/audit.md says how to have connections audited first", err=True)
    click.get_current_context().exit(EXIT_FAILED if view.denied or not view.policies else EXIT_OK)


def checked_view(present: Present, found: Recommendation, seen: list[Seen], namespace: str) -> RecommendView:
    """What was found, with what it would do to the present and to what was seen."""
    put = tuple((one.policy.key, one.policy) for one in found.policies)
    gone = tuple((key, present.cluster.policies[key]) for key in found.replaces if key not in dict(put))
    plan, after = plan_and_cluster(present, Changes(put, gone))
    checked, denied = _checked(after, seen)
    return RecommendView(
        namespace,
        tuple(_policy_view(one) for one in found.policies),
        tuple(str(key) for key, _ in gone),
        plan,
        checked,
        tuple(map(_seen_view, denied)),
        len(seen) - checked,
        found.notes,
    )


def _policy_view(one: Recommended) -> RecommendedView:
    return RecommendedView(policy_object(one.policy), tuple(_evidence(*item) for item in one.evidence.items()))


def _evidence(place: str, one: Evidence) -> EvidenceView:
    text, connections = evidence_text(one), tuple(map(_seen_view, one.seen))
    if one.counted is not None:
        return EvidenceView(place, "counted", text, connections, one.counted.place, one.counted.packets)
    return EvidenceView(place, "seen" if connections else "names", text, connections)


def _seen_view(one: Seen) -> SeenView:
    source, destination = (str(end.pod or end.address) for end in (one.source, one.destination))
    return SeenView(source, destination, one.protocol.name if one.protocol else "", one.port, one.times, one.last)


def write(found: Recommendation, view: RecommendView) -> None:
    """Print the policies as YAML, and what came of checking them."""
    for note in found.notes:
        click.echo(f"# note: {printable(note)}")
    for one in found.policies:
        click.echo("---")
        for line in commented(one):
            click.echo(line)
    if not found.policies:
        return
    click.echo("---")
    if view.deletes:
        click.echo(f"# They replace: {', '.join(view.deletes)}. Apply these first, then delete those.")
    click.echo(f"# Against the present: {summary(view.plan)}")
    for conn in view.denied:
        ends = f"{conn.source} to {conn.destination} port {conn.port}"
        click.echo(printable(f"# WOULD BE DENIED although it was seen: {ends}"))
    rest = f"; {view.unchecked:,} without ports or of pods that are gone were not" if view.unchecked else ""
    stay = view.checked - len(view.denied)
    click.echo(f"# Checked: of {view.checked:,} connections that were seen, {stay:,} stay allowed{rest}.")


def commented(one: Recommended) -> Iterator[str]:
    """The manifest, with what each rule came from above it."""
    left = dict(one.evidence)
    for line in policy_manifest(one.policy):
        for place in [place for place in left if line.place.startswith(place)]:
            indent = line.text[: len(line.text) - len(line.text.lstrip())]
            yield f"{indent}# {printable(evidence_text(left.pop(place)))}"
        yield line.text


def seen_in(events: list[AuditEvent]) -> Iterator[Seen]:
    """The connections of events, each once; ports of clients do not matter."""
    found: dict[tuple[SeenEnd, SeenEnd, str, int | None], Seen] = {}
    for event in events:
        source, destination = _end(event.source), _end(event.destination)
        if event.verdict != "allowed" or source is None or destination is None:
            continue
        protocol = Protocol.__members__.get(event.protocol)
        key = source, destination, event.protocol, event.destination.port
        last = found.get(key, Seen(source, destination, protocol, event.destination.port, 0))
        found[key] = last._replace(times=last.times + 1, last=max(last.last, event.time))
    yield from found.values()


def _end(end: AuditEnd) -> SeenEnd | None:
    try:
        address = parse_address(end.address)
    except ValueError:
        return None
    if end.kind != "pod":
        return SeenEnd(address)
    namespace, _, name = end.name.partition("/")
    return SeenEnd(address, Key(namespace, name), end.workload)


def _from(files: tuple[Path, ...], since: int) -> Iterator[AuditEvent]:
    earliest = (datetime.now(UTC) - timedelta(seconds=since)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for file in files:
        number = 0
        try:
            with file.open("rb") as lines:
                for line in lines:
                    number += 1
                    event = _EVENT.validate_json(line)
                    if event.time >= earliest:
                        yield event
        except ValidationError:
            raise WrongUsage(f"{file}, line {number}: it is no audit event") from None
        except OSError as error:
            raise WrongUsage(f"{file}: {error.strerror}") from None


def _counted(present: Present, namespace: str, events: list[AuditEvent]) -> Iterator[CountedRule]:
    """Rules of the namespace's policies that have counted packets, and that no event names."""
    named = {text for event in events for text in event.rules}
    policies = [policy for key, policy in sorted(present.cluster.policies.items()) if key.namespace == namespace]
    for policy in policies[:MAX_READ_POLICIES] if present.policy is not None else ():
        try:
            detail = present.policy(str(policy.key)) if present.policy is not None else None
        except (LookupError, CommandFailure):
            continue
        packets = {place: rule.packets or 0 for rule in (detail.rules if detail else ()) for place in rule.rules}
        for direction in Direction:
            for number, rule in enumerate(policy.rules(direction)):
                place = f"{policy.key} {direction.value}[{number}]"
                told = any(text.startswith(f"{policy.key} {direction.value} rule {number} ") for text in named)
                if rule is not None and packets.get(place) and not told:
                    yield CountedRule(policy.subjects, direction, rule, place, packets[place])


def _checked(after: Cluster, seen: list[Seen]) -> tuple[int, list[Seen]]:
    """How many connections policy can be asked about, and those of them that it would deny."""
    engine = PolicyEngine()
    engine.load(after)
    checked, denied = 0, []
    for one in seen:
        ends = (one.source, one.destination)
        keys = [end.pod for end in ends if end.pod is not None]
        if one.protocol is None or one.port is None or any(key not in after.pods for key in keys):
            continue
        checked += 1
        small = scoped_cluster(connection_scope(after, engine, keys, [end.address for end in ends]))
        source, destination = (Endpoint(end.address, end.pod) for end in ends)
        if not verdict(small, Probe(source, destination, int(one.protocol), one.port)).allowed:
            denied.append(one)
    return checked, denied
