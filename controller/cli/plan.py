"""`headgate plan`: what applying or deleting objects would do, before it is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from controller.cli.client import ControllerClient
from controller.cli.cluster_choice import cluster_options
from controller.cli.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, WrongUsage
from controller.cli.names import group_name
from controller.cli.output import BAD, DIM, GOOD, HUMAN, JSON, OutputPage, print_json
from controller.cli.plan_answer import present_of, read_changes
from controller.sources.offline import OfflineCluster, OfflineError
from controller.status.plans import Present, plan_view
from flows.reach.model import PlanView, ReachChange

MARKDOWN = "markdown"
MAX_NAMES = 8  # of one side of a change in text; -o json has all
MAX_SHOWN = 200  # changes in text
_STYLES = {"added": GOOD, "removed": BAD, "changed": ""}
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


@click.command()
@click.argument("changes", metavar="[CHANGE]...", nargs=-1)
@click.option(
    "--delete", "deleted", metavar="PATH", multiple=True, help="Delete the objects in this file or folder instead."
)
@click.option(
    "-o",
    "--output",
    type=click.Choice([HUMAN, MARKDOWN, JSON]),
    default=HUMAN,
    show_default=True,
    help="For people, for a merge request, or for programs.",
)
@cluster_options
def plan(
    server: str,
    offline: OfflineCluster | None,
    /,
    output: str,
    changes: tuple[str, ...],
    deleted: tuple[str, ...],
) -> None:
    """Say what applying a CHANGE would do: a file or folder of policies, namespaces, pods or workloads, or `-`.

    Connections that come and go, by workload; flows that each switch gets and loses; and, of a running controller, what
    the rules that go have counted lately. Nothing is applied. A pod that is applied keeps its addresses and node; the
    pods of a workload that is applied get its labels.

    \b
    Examples:
      headgate plan new-policy.yaml
      headgate plan --delete old-policy.yaml
      headgate plan changed/ --manifests deploy/ -o markdown
      kubectl get ns,po,no,netpol -A -o yaml | headgate plan new.yaml --manifests -

    \b
    Exit codes: 0 nothing would change; 1 something would; 2 wrong usage, or something in the files cannot be
    read; 3 the controller does not answer.
    """
    if not changes and not deleted:
        raise click.UsageError("name a file to apply, or one with --delete")
    if offline:
        present = Present(offline.cluster)
    else:
        client = ControllerClient(server)
        present = present_of(client.cluster(), client)
    try:
        given = read_changes(changes, deleted)
        found = plan_view(present, given)
    except OfflineError as error:
        raise WrongUsage(str(error)) from None
    if output == JSON:
        print_json(found)
    elif output == MARKDOWN:
        click.echo("\n".join(markdown_lines(found)))
    else:
        show_plan(found)
    if given.problems:
        click.echo("headgate: something in the files cannot be read, so what it would do is not in the plan", err=True)
    code = EXIT_USAGE if given.problems else EXIT_FAILED if found.changes else EXIT_OK
    click.get_current_context().exit(code)


def show_plan(found: PlanView) -> None:
    """Print a plan for people."""
    page = OutputPage()
    for note in found.notes:
        page.line(note, DIM)
    if not found.objects:
        page.line("Nothing would change: the cluster has these objects as they are.")
        return
    page.line("Objects: " + ", ".join(f"{one.kind} {one.name} {one.action}" for one in found.objects[:MAX_SHOWN]))
    page.line(summary(found))
    for one in found.reach[:MAX_SHOWN]:
        page.line(f"  {_SIGNS[one.kind]} {_text(one)}", _STYLES[one.kind])
    if len(found.reach) > MAX_SHOWN:
        page.line(f"  and {len(found.reach) - MAX_SHOWN:,} more changes; -o json has them")
    page.table(
        "Flows",
        ("NODE", "BRIDGE", "ADDED", "REMOVED", "CHANGED"),
        [(one.node, one.bridge, str(one.added), str(one.removed), str(one.changed)) for one in found.switches],
        right="ADDED REMOVED CHANGED",
    )
    page.table(
        "Rules that go, and the packets they have counted",
        ("RULE", "PACKETS"),
        [(one.rule, str(one.packets)) for one in found.traffic],
        right="PACKETS",
    )


def summary(found: PlanView) -> str:
    """One line: how many connections come, go and change, and on how many switches flows do."""
    counts = {kind: sum(one.kind == kind for one in found.reach) for kind in _SIGNS}
    if not found.reach:
        return "No connection would change." + (_switches(found) if found.switches else "")
    return (
        f"Connections: {counts['added']} added, {counts['removed']} removed, {counts['changed']} changed."
        + _switches(found)
    )


def _switches(found: PlanView) -> str:
    added, removed, changed = (
        sum(getattr(one, name) for one in found.switches) for name in ("added", "removed", "changed")
    )
    return f" Flows: {added} added, {removed} removed, {changed} changed, on {len(found.switches)} switches."


def _text(one: ReachChange) -> str:
    ports = one.after.text if one.kind == "added" else one.before.text
    if one.kind == "changed":
        ports = f"{one.before.text} -> {one.after.text}"
    return f"{_names(one.sources)} => {_names(one.destinations)} : {ports}"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
    return ", ".join(map(group_name, names[:MAX_NAMES])) + more


def markdown_lines(found: PlanView) -> Iterator[str]:
    """A plan for a merge request. Names are code, so that none of them is taken for markup."""
    yield "### Headgate plan"
    yield ""
    yield summary(found) if found.objects else "Nothing would change."
    for note in found.notes:
        yield f"- {_code(note)}"
    if found.reach:
        yield ""
        yield "| | From | To | Before | After |"
        yield "|---|---|---|---|---|"
        for one in found.reach[:MAX_SHOWN]:
            sides = (_code_names(one.sources), _code_names(one.destinations), one.before.text, one.after.text)
            yield f"| {one.kind} | {' | '.join(sides)} |"
        if len(found.reach) > MAX_SHOWN:
            yield f"| | and {len(found.reach) - MAX_SHOWN:,} more | | | |"
    if found.switches:
        yield ""
        yield "| Node | Bridge | Flows added | removed | changed |"
        yield "|---|---|---:|---:|---:|"
        for switch in found.switches[:MAX_SHOWN]:
            yield f"| {switch.node} | {switch.bridge} | {switch.added} | {switch.removed} | {switch.changed} |"
    if found.traffic:
        yield ""
        yield "| Rule that goes | Packets |"
        yield "|---|---:|"
        for rule in found.traffic[:MAX_SHOWN]:
            yield f"| {_code(rule.rule)} | {rule.packets} |"


def _code_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
    return ", ".join(_code(group_name(name)) for name in names[:MAX_NAMES]) + more


def _code(text: str) -> str:
    return f"`{text.replace('`', chr(39)).replace('|', chr(92) + '|')}`"
