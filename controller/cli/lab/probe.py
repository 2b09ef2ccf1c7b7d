"""`headgate lab probe`: probes which endpoints reach each other, and compares with an earlier run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from controller.cli.lab.which_lab import LabChoice, complete_endpoint, lab_errors_as_failures
from controller.cli.output import JSON, output_option, print_json, seconds

if TYPE_CHECKING:
    from topology.lab.lab import Lab
    from topology.probe.history import ProbeRun
    from topology.probe.matrix import Matrix
    from topology.spec.model import LabPort

HISTORY_FILE = "probes.json"
PROBE_VERSION = 1


@click.command(short_help="Probe which pods reach each other, with real packets.")
@output_option
@click.argument("endpoints", nargs=-1, metavar="[NS/POD]…", shell_complete=complete_endpoint)
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="NS/POD",
    shell_complete=complete_endpoint,
    help="Probe from this endpoint only; repeatable.",
)
@click.option(
    "--to",
    "destinations",
    multiple=True,
    metavar="NS/POD",
    shell_complete=complete_endpoint,
    help="Probe to this endpoint only; repeatable.",
)
@click.option(
    "-p",
    "--port",
    "ports",
    multiple=True,
    metavar="PORT[/PROTOCOL]",
    help="Probe this port, like 80 or 53/UDP; repeatable. [default: all ports of the topology]",
)
@click.option("--family", type=click.Choice(["4", "6"]), help="Only this address family.")
@click.option("--nodes", is_flag=True, help="Also probe from and to nodes.")
@click.option("--icmp", is_flag=True, help="Also probe with ICMP echo requests.")
@click.option("--changes", is_flag=True, help="Show the differences from the last comparable run.")
@click.pass_obj
def probe(
    where: LabChoice,
    output: str,
    endpoints: tuple[str, ...],
    sources: tuple[str, ...],
    destinations: tuple[str, ...],
    ports: tuple[str, ...],
    family: str | None,
    nodes: bool,
    icmp: bool,
    changes: bool,
) -> None:
    """Probe with real packets which pods reach each other, over every port and address family.

    Real TCP, UDP and SCTP servers run in all pods; without SCTP in the kernel its packets are built in user space. A
    probe without an answer is repeated before it counts as denied. Rows of the table are sources, columns destinations.
    Results are allowed, denied, and closed: allowed to a port without a server. Endpoints can also be node:NAME and
    external:NAME.

    \b
    Examples:
      headgate lab probe --changes
      headgate lab probe --from tenant-a/batch --to tenant-a/backend -p 80
    """
    from topology.probe import history

    with lab_errors_as_failures():
        found = where.load()
        matrix = found.probe(
            list(sources or endpoints) or None,
            [_port(text) for text in ports] or None,
            destinations=list(destinations or endpoints) or (_all(found, nodes) if sources else None),
            nodes=nodes,
            icmp=icmp,
            families=[int(family)] if family else None,
        )
    runs = history.load_runs(found.folder / HISTORY_FILE)
    before = history.comparable_run(runs, matrix) if changes else None
    history.save_runs(found.folder / HISTORY_FILE, runs, history.ProbeRun(time.time(), matrix))
    if output == JSON:
        print_json(_answer(matrix, before))
    else:
        _draw(matrix, before, changes)


def _all(lab: Lab, nodes: bool) -> list[str]:
    return [name for name in lab.endpoints if nodes or not name.startswith("node:")]


def _draw(matrix: Matrix, before: ProbeRun | None, changes: bool) -> None:
    from rich.console import Console

    from topology.probe.render import change_lines, is_plain, outcome_lines, outcome_summary, print_matrix

    console = Console(highlight=False)
    if len(matrix.sources()) == len(matrix.destinations()) == 1:
        for line in outcome_lines(matrix, is_plain(console)):
            click.echo(line)
    else:
        print_matrix(matrix, console, before.matrix if before else None)
        click.echo(outcome_summary(matrix.count()))
    if not changes:
        return
    lines = change_lines(matrix, before.matrix, is_plain(console)) if before else []
    click.echo(_compared(matrix, before, len(lines)))
    for line in lines:
        click.echo(f"  {line}")


def _compared(matrix: Matrix, before: ProbeRun | None, number: int) -> str:
    """A line that says which run this one is compared with, and the number of differences."""
    if before is None:
        return "no earlier probe of these endpoints, ports and families to compare with"
    when = (
        f"{datetime.fromtimestamp(before.at).astimezone():%H:%M:%S}, {seconds(max(0.0, time.time() - before.at))} ago"
    )
    common, asked = before.common(matrix), len(matrix.results)
    part = "" if common == asked else f"; {common} of these {asked} probes were in it, the others are not compared"
    return f"{number or 'no'} {'change' if number == 1 else 'changes'} since the probe of {when}{part}"


@dataclass(frozen=True, slots=True)
class ProbeOutcome:
    """One probe. `outcome` is allowed, closed (allowed to a port without a server), denied, or wrong (another server
    answered); `port` is 0 for ICMP."""

    source: str
    destination: str
    protocol: str
    port: int
    family: int
    outcome: str


@dataclass(frozen=True, slots=True)
class ProbeChange:
    """A probe whose outcome differs from that of the run which is compared with."""

    source: str
    destination: str
    protocol: str
    port: int
    family: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Compared:
    """The earlier run: when, in RFC 3339 and UTC, and how many of the probes it has."""

    at: str
    probes: int


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """The answer of `headgate lab probe`; `version` is that of the form. `count` has the number of probes by outcome.

    `compared_with` is None without --changes, or where there is no earlier run to compare with.
    """

    count: dict[str, int]
    probes: tuple[ProbeOutcome, ...]
    compared_with: Compared | None = None
    changes: tuple[ProbeChange, ...] = ()
    version: int = PROBE_VERSION


def _answer(matrix: Matrix, before: ProbeRun | None) -> ProbeAnswer:
    probes = tuple(ProbeOutcome(*one, outcome.value) for one, outcome in matrix.results.items())
    if before is None:
        return ProbeAnswer(matrix.count(), probes)
    different = matrix.changes(before.matrix)
    at = datetime.fromtimestamp(before.at, UTC).isoformat(timespec="seconds")
    return ProbeAnswer(
        matrix.count(),
        probes,
        Compared(at, before.common(matrix)),
        tuple(ProbeChange(*one, then.value, now.value) for one, (then, now) in different.items()),
    )


def _port(text: str) -> LabPort:
    from pydantic import ValidationError

    from topology.spec.model import LabPort

    number, _, protocol = text.partition("/")
    try:
        return LabPort.model_validate({"port": number, "protocol": protocol.upper() or "TCP"})
    except ValidationError as error:
        raise click.BadParameter(f"{text!r} is not a port like 80 or 53/UDP", param_hint="--port") from error
