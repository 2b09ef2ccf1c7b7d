"""Where a command takes its cluster from: a running controller, or manifests or an API server, read once (offline)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from controller.cli.errors import WrongUsage
from controller.cli.which_controller import complete_controlled_lab, server_url
from controller.sources.offline import OfflineCluster, OfflineError, offline_api, offline_manifests
from flows.cluster.net import Net, parse_network

MAX_PROBLEMS_SHOWN = 20


def cluster_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options --manifests, --kubeconfig, --pod-cidr, --server and --lab.

    It gets two first arguments: the URL of the controller to ask, "" when offline, and the OfflineCluster, None
    when a controller is asked. Problems and notes of an offline cluster go to standard error.
    """

    @click.option(
        "--manifests",
        metavar="PATH",
        multiple=True,
        help="Offline: take the cluster from this folder (with its subfolders) or file, or from standard input (-), "
        "as `kubectl get ... -o yaml` writes it. May be given several times.",
    )
    @click.option("--kubeconfig", metavar="FILE", help="Offline: take the cluster from this API server, read once.")
    @click.option(
        "--pod-cidr",
        metavar="CIDR",
        multiple=True,
        help="With --manifests: the range that pods without an address get one from.  [default: 10.244.0.0/14]",
    )
    @click.option("--server", metavar="URL", help="The running controller to ask; also before the subcommand.")
    @click.option(
        "--lab", metavar="NAME", shell_complete=complete_controlled_lab, help="Ask the controller of this lab."
    )
    @click.pass_context
    @functools.wraps(function)
    def with_cluster(
        ctx: click.Context,
        /,
        *,
        manifests: tuple[str, ...],
        kubeconfig: str | None,
        pod_cidr: tuple[str, ...],
        server: str | None,
        lab: str | None,
        **more: Any,
    ) -> None:
        if sum((bool(manifests), kubeconfig is not None, bool(server or lab))) > 1:
            raise click.UsageError("give one of --manifests, --kubeconfig, and --server or --lab")
        if pod_cidr and not manifests:
            raise click.UsageError("--pod-cidr goes with --manifests")
        offline = _read(manifests, kubeconfig, pod_cidr)
        url = "" if offline else server_url(ctx, server, lab)
        ctx.invoke(function, url, offline, **more)

    return with_cluster


def _read(manifests: tuple[str, ...], kubeconfig: str | None, pod_cidr: tuple[str, ...]) -> OfflineCluster | None:
    try:
        if manifests:
            found = offline_manifests(manifests, [_range(text) for text in pod_cidr])
        elif kubeconfig is not None:
            found = offline_api(kubeconfig)
        else:
            return None
    except OfflineError as error:
        raise WrongUsage(str(error)) from None
    show_offline_notes(found)
    return found


def show_offline_notes(found: OfflineCluster) -> None:
    """Print the problems and notes of an offline cluster to standard error."""
    for problem in found.problems[:MAX_PROBLEMS_SHOWN]:
        place = ", ".join(filter(None, (problem.where, problem.key, problem.field)))
        click.echo(f"headgate: {place}: {problem.reason}", err=True)
    if len(found.problems) > MAX_PROBLEMS_SHOWN:
        click.echo(f"headgate: and {len(found.problems) - MAX_PROBLEMS_SHOWN} more problems", err=True)
    for note in found.notes:
        click.echo(f"headgate: {note}", err=True)


def _range(text: str) -> Net:
    try:
        return parse_network(text)
    except ValueError:
        raise WrongUsage(f"--pod-cidr {text!r} is not a range in CIDR form, like 10.244.0.0/16") from None
