"""The command `headgate check`."""

from __future__ import annotations

import click

from controller.cli.check.collect import Checked, check
from controller.cli.check.formats import FORMATS
from controller.cli.errors import EXIT_FAILED, EXIT_OK, WrongUsage
from controller.sources.offline import OfflineError, read_manifest_texts
from flows.lint.codes import CODES, Severity

NEVER = "never"
FAIL_ON = {"error": Severity.ERROR, "warning": Severity.WARNING, "note": Severity.NOTE}


def _print_codes(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    for one in CODES.values():
        click.echo(f"{one.number} {one.severity.name.lower():<8} {one.name}\n    {one.hint}")
    ctx.exit()


@click.command("check")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Choice(list(FORMATS)),
    default="text",
    show_default=True,
    help="For people, for programs, for code hosts, or for CI.",
)
@click.option(
    "--beside",
    metavar="PATH",
    multiple=True,
    help="Objects that are there too, like those that kubectl prints; they are not checked themselves.",
)
@click.option(
    "--fail-on",
    type=click.Choice([*FAIL_ON, NEVER]),
    default="warning",
    show_default=True,
    help="The least grave finding for which the exit code is 1.",
)
@click.option(
    "--codes", is_flag=True, is_eager=True, expose_value=False, callback=_print_codes, help="List all findings."
)
def check_command(paths: tuple[str, ...], output: str, beside: tuple[str, ...], fail_on: str) -> None:
    """Check policies before they are applied: what selects nothing, what nobody reads, what never takes effect.

    PATH is a file, a folder with its subfolders, or - for standard input. Pods come from the manifests too: of a
    workload its template counts. What is only in the cluster is given with --beside.

    A comment in the manifest silences a finding: `# headgate: ignore HG101` on its line or the one before, or
    `# headgate: ignore-file HG101` anywhere in the file.

    Documents of kind ReachabilityTest hold assertions, which are decided for all pods, ports and addresses.

    Exit codes: 0 nothing found; 1 found; 2 wrong usage, or nothing to read.

    \b
    Examples:
      headgate check deploy/
      headgate check policy.yaml --beside cluster.yaml
      headgate check deploy/ -o sarif >headgate.sarif
      kubectl get ns,po -A -o yaml | headgate check deploy/ --beside -
    """
    try:
        found = check(read_manifest_texts(paths), read_manifest_texts(beside))
    except OfflineError as error:
        raise WrongUsage(str(error)) from None
    click.echo(FORMATS[output](found))
    click.get_current_context().exit(EXIT_FAILED if _fails(found, fail_on) else EXIT_OK)


def _fails(found: Checked, fail_on: str) -> bool:
    least = FAIL_ON.get(fail_on)
    return least is not None and any(one.finding.code.severity >= least for one in found.findings)
