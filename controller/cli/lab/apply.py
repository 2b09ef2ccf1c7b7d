"""`headgate lab apply` and `headgate lab delete`: change the objects of a lab, all given manifests or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from controller.cli.errors import EXIT_FAILED, CommandFailure
from controller.cli.lab.which_lab import CommandFunction, LabChoice, lab_errors_as_failures

if TYPE_CHECKING:
    from topology.lab.changes import LabChange
    from topology.lab.lab import Lab


def _manifest_options(function: CommandFunction) -> CommandFunction:
    """The options of both apply and delete."""
    for option in (
        click.option(
            "-f",
            "--file",
            "files",
            multiple=True,
            required=True,
            metavar="FILE",
            help="A YAML or JSON file, - for standard input; repeatable.",
            type=click.Path(allow_dash=True),
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0),
            default=30.0,
            show_default=True,
            metavar="SECONDS",
            help="How long to wait until the change is realized.",
        ),
        click.option("--no-wait", is_flag=True, help="Return as soon as the manifests are written."),
        click.option("--dry-run", is_flag=True, help="Only print what would be done."),
    ):
        function = option(function)
    return function


@click.command(short_help="Create or change objects from manifests.")
@_manifest_options
@click.pass_obj
def apply(where: LabChoice, files: tuple[str, ...], timeout: float, no_wait: bool, dry_run: bool) -> None:
    """Create or change the objects of manifests, and wait until the change is realized.

    Files may have several documents, of Namespaces, Pods, Nodes and NetworkPolicies. All files are checked before
    anything is written: each problem is printed with file and line, and nothing is changed.

    An object of the same kind and name is replaced. Labels and annotations of a running pod can be changed. A new pod
    is created, with its network, on the node spec.nodeName, or on the node with the fewest pods.

    \b
    Examples:
      headgate lab apply -f policy.yaml --dry-run
      kubectl get networkpolicy -A -o yaml | headgate lab apply -f -
    """
    from controller.cli.lab.manifests import raise_problems, read_files
    from topology.lab.changes import ManifestError, to_apply

    with lab_errors_as_failures():
        lab = where.load()
        found = read_files(files, whole=True)
        for line in found.ignored:
            click.echo(f"headgate: {line}", err=True)
        if not found.given:
            raise CommandFailure("the files contain no object to apply; nothing was changed")
        try:
            steps = to_apply(lab, found.given)
        except ManifestError as error:
            raise_problems(error.problems)
        else:
            _carry_out(lab, steps, dry_run, None if no_wait else timeout)


@click.command(short_help="Delete the objects of manifests.")
@_manifest_options
@click.option("--ignore-not-found", is_flag=True, help="A missing object is no error.")
@click.pass_obj
def delete(
    where: LabChoice, files: tuple[str, ...], timeout: float, no_wait: bool, dry_run: bool, ignore_not_found: bool
) -> None:
    """Delete the objects of manifests, by kind, namespace and name, and wait until the change is realized.

    A pod is deleted with its network, a namespace with everything in it. The exit code is 1 if an object did not exist;
    the others are deleted nevertheless.
    """
    from controller.cli.lab.manifests import raise_problems, read_files
    from topology.lab.changes import VERB_NOT_FOUND, ManifestError, to_delete

    with lab_errors_as_failures():
        lab = where.load()
        found = read_files(files, whole=False)
        try:
            steps = to_delete(lab, found.given)
        except ManifestError as error:
            raise_problems(error.problems)
            return
        missing = [step for step in steps if step.verb == VERB_NOT_FOUND]
        _carry_out(lab, [step for step in steps if step.verb != VERB_NOT_FOUND], dry_run, None if no_wait else timeout)
    for step in missing if not ignore_not_found else ():
        click.echo(f"headgate: {step}", err=True)
    if (missing or not found.given) and not ignore_not_found:
        click.get_current_context().exit(EXIT_FAILED)


def _carry_out(lab: Lab, steps: list[LabChange], dry_run: bool, wait: float | None) -> None:
    from topology.lab.changes import carry_out

    for step in steps:
        if not dry_run:
            carry_out(lab, [step])
        click.echo(f"{step} (dry run)" if dry_run else str(step))
    if not dry_run and wait is not None and lab.current().controller:
        lab.wait(wait)
