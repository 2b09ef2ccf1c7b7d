"""`headgate matrix`: who reaches whom, in the terminal, as lines, JSON or one HTML file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from controller.base.near_names import did_you_mean
from controller.cli.client import ControllerClient
from controller.cli.cluster_choice import cluster_options
from controller.cli.errors import CommandFailure, WrongUsage
from controller.cli.names import group_name
from controller.cli.output import HUMAN, JSON, OutputPage, print_json
from controller.sources.offline import OfflineCluster
from flows.cluster.model import Cluster
from flows.reach.answer import PortError, matrix_view
from flows.reach.exposure import exposures
from flows.reach.matrix import Level
from flows.reach.model import BlockView, ExposureView, MatrixView, narrowed

CONNECTIONS, HTML = "connections", "html"
MAX_GRID_GROUPS = 24  # more are shown as a list
MAX_NAMES = 12  # of one line of the list; -o connections has all


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Choice([HUMAN, CONNECTIONS, JSON, HTML]),
    default=HUMAN,
    show_default=True,
    help="A table for people; a line for each pair (connections); JSON for programs; one HTML page.",
)
@click.option(
    "--by",
    "level",
    type=click.Choice([one.value for one in Level]),
    default=Level.WORKLOAD.value,
    show_default=True,
    help="What the rows and columns are.",
)
@click.option("-p", "--port", default="", metavar="PORT", help="Only this port: 80, 53/UDP, 8000-8080/TCP, TCP, other.")
@click.option("-n", "--namespace", multiple=True, metavar="NAME", help="Only what has an end in this namespace.")
@click.option("--exposure", is_flag=True, help="What workloads are open to from pods that need not exist yet.")
@click.option("--file", "path", metavar="FILE", help="Write there instead of standard output.")
@cluster_options
def matrix(
    server: str,
    offline: OfflineCluster | None,
    /,
    output: str,
    level: str,
    port: str,
    namespace: tuple[str, ...],
    exposure: bool,
    path: str | None,
) -> None:
    """Show who reaches whom: pods, workloads or namespaces, and addresses outside, with the ports.

    A pod always reaches itself and its own node; neither is shown. `some` marks a pair where it holds for some of the
    pods, or of the ports, only: ask by pod for the exact answer.

    --exposure shows instead what the policies of each workload allow with pods that may come: any pod, and pods of the
    labels that rules name. What policies those pods would have is not known.

    \b
    Examples:
      headgate matrix
      headgate matrix --by namespace -p 5432
      headgate matrix --manifests deploy/ -o connections
      kubectl get ns,po,no,netpol -A -o yaml | headgate matrix --manifests -
      headgate matrix --by pod -n shop -o html --file matrix.html

    \b
    Exit codes: 0 shown; 2 wrong usage, or what was to be read is no cluster; 3 the controller does not answer.
    """
    if exposure and (port or output in (HTML, CONNECTIONS) or path is not None or level != Level.WORKLOAD.value):
        raise click.UsageError("--exposure is by workload and for any port, as a table or as JSON")
    cluster = offline.cluster if offline else ControllerClient(server).cluster().cluster()
    if exposure:
        _show_exposure(cluster, namespace, output)
        return
    found = _only(ask(cluster, level, port), namespace)
    for note in found.notes:
        click.echo(f"headgate: {note}", err=True)
    if output == HUMAN and path is None:
        show_matrix(found)
    elif output == JSON and path is None:
        print_json(found)
    else:
        _write(path, _text(found, output))


def _show_exposure(cluster: Cluster, namespaces: tuple[str, ...], output: str) -> None:
    every, left_out = exposures(cluster)
    found = [one for one in every if not namespaces or one.workload.partition("/")[0] in namespaces]
    if left_out:
        click.echo(f"headgate: {left_out} kinds of pods that rules name are left out: there are too many", err=True)
    if output == JSON:
        print_json(ExposureView(tuple(found), left_out))
        return
    page = OutputPage()
    if not found:
        page.line("No workload is open to pods that may come.")
    for direction, title in (("ingress", "Open to"), ("egress", "May open connections to")):
        rows = [(one.workload, one.peer, one.ports) for one in found if one.direction == direction]
        page.table(title, ("WORKLOAD", "PODS THAT MAY COME", "PORTS"), rows)


def ask(cluster: Cluster, level: str, port: str) -> MatrixView:
    """The matrix of a cluster. Raises WrongUsage for what is no port."""
    try:
        return matrix_view(cluster, Level(level), port)
    except PortError as error:
        raise WrongUsage(str(error)) from None


def _only(view: MatrixView, namespaces: tuple[str, ...]) -> MatrixView:
    """The blocks with an end in one of these namespaces, cut to the pairs that have one."""
    if not namespaces:
        return view
    inside = {n for n, group in enumerate(view.groups) if group.namespace in namespaces}
    if not inside:
        near = did_you_mean(namespaces[0], sorted({group.namespace for group in view.groups if group.namespace}))
        raise WrongUsage(f"no pod has an address in {', '.join(namespaces)}{near}")
    return narrowed(view, inside)


def _text(view: MatrixView, output: str) -> str:
    if output == HTML:
        from controller.status.matrix_page import matrix_page

        return matrix_page(view)
    if output == JSON:
        return json.dumps(asdict(view), indent=2) + "\n"
    return "".join(f"{line}\n" for line in connection_lines(view))


def _write(path: str | None, text: str) -> None:
    if path is None:
        click.echo(text, nl=False)
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailure(f"{path} cannot be written: {error.strerror}") from None


def pairs(view: MatrixView) -> Iterator[tuple[int, int, BlockView]]:
    """Each pair of groups that are connected, once."""
    for block in view.blocks:
        for source in block.sources:
            for destination in block.destinations:
                if source != destination or view.groups[source].pods > 1:
                    yield source, destination, block


def connection_lines(view: MatrixView) -> list[str]:
    """A line for each pair, like `shop/web[Deployment] => shop/db[Deployment] : TCP 5432`, sorted.

    These are the lines that other analyzers print. Each range of addresses outside has lines of its own.
    """
    found = []
    for source, destination, block in pairs(view):
        some = "" if block.complete else " (some)"
        for one in _names(view, source):
            found += [f"{one} => {other} : {block.ports.text}{some}" for other in _names(view, destination)]
    return sorted(found)


def _names(view: MatrixView, number: int) -> list[str]:
    group = view.groups[number]
    return group.name.split(",") if group.kind == "outside" else [group.name]


# -- for people --------------------------------------------------------------------------------------------------------


def show_matrix(view: MatrixView) -> None:
    """Print a matrix: a grid as long as it has few groups, else a line for each source and its ports."""
    page = OutputPage()
    what = f"on {view.port}" if view.port else "on any port"
    used = sorted({n for block in view.blocks for n in (*block.sources, *block.destinations)})
    if not used:
        page.line(f"Nobody reaches anybody {what}.")
        return
    if len(used) <= MAX_GRID_GROUPS:
        _show_grid(page, view, what, used)
    else:
        _show_list(page, view, what)


def _show_grid(page: OutputPage, view: MatrixView, what: str, used: list[int]) -> None:
    """Columns are numbered, for names are long. A cell has the letter of its ports; the legend follows."""
    letters: dict[str, str] = {}
    cells: dict[tuple[int, int], str] = {}
    for source, destination, block in pairs(view):
        letter = letters.setdefault(block.ports.text, _letter(len(letters)))
        cells[source, destination] = letter if block.complete else f"{letter}~"
    columns = ("#", f"FROM ({view.level})", *(str(n + 1) for n in range(len(used))))
    rows = [
        (str(n + 1), group_name(view.groups[source].name), *(_cell(view, cells, source, other) for other in used))
        for n, source in enumerate(used)
    ]
    page.table(f"Who reaches whom {what}: a row is the source, a column the destination", columns, rows, right="#")
    page.line()
    for text, letter in letters.items():
        page.line(f"{letter}  {text}")
    page.line(".  not reached" + (";  ~  some pods or ports only" if any("~" in one for one in cells.values()) else ""))


def _cell(view: MatrixView, cells: dict[tuple[int, int], str], source: int, destination: int) -> str:
    if source == destination and view.groups[source].pods < 2:
        return "-"
    return cells.get((source, destination), ".")


def _letter(number: int) -> str:
    """A, B, ... Z, AA, AB and so on."""
    name = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def _show_list(page: OutputPage, view: MatrixView, what: str) -> None:
    rows = []
    for block in view.blocks:
        rows.append((_some(view, block.sources), _some(view, block.destinations), block.ports.text + _mark(block)))
    page.table(f"Who reaches whom {what}", ("FROM", "TO", "PORTS"), sorted(rows))


def _mark(block: BlockView) -> str:
    return "" if block.complete else " (some)"


def _some(view: MatrixView, numbers: tuple[int, ...]) -> str:
    names = [group_name(view.groups[n].name) for n in numbers[:MAX_NAMES]]
    more = len(numbers) - len(names)
    return ", ".join(names) + (f" and {more:,} more" if more else "")
