"""`headgate completion`: shell completion, with the names of nodes, pods, policies and namespaces from
the running controller.

Completion shows no errors and does not wait: without a quick answer from the controller there are no names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class

from controller.base.printable import printable
from controller.cli.names import Namespaced, PolicyName
from controller.cli.which_controller import QUICK_SECONDS, server_for_completion

if TYPE_CHECKING:
    from controller.status.model import StatusView

VARIABLE = "_HEADGATE_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
MAX_COMPLETIONS = 1000  # with more, a shell only asks whether to show them all


def _nodes(view: StatusView) -> Iterable[str]:
    return (one.node for one in view.switches)


def _pods(view: StatusView) -> Iterable[str]:
    return (one.key for one in view.pods)


def _policies(view: StatusView) -> Iterable[str]:
    return (one.key for one in view.policies)


def _namespaces(view: StatusView) -> Iterable[str]:
    keys = (*_pods(view), *_policies(view))
    return (key.partition("/")[0] for key in keys if "/" in key)


NAMES: Mapping[str, Callable[[StatusView], Iterable[str]]] = {
    "node": _nodes,
    "pod": _pods,
    "policy": _policies,
    "namespace": _namespaces,
    "source": _pods,
    "destination": _pods,
}


class CompletedName(click.types.StringParamType):
    """A parameter type that completes names of nodes, pods, policies or namespaces of the controller."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that begin with `incomplete`. Never raises, and waits QUICK_SECONDS at most."""
        from controller.cli.client import ControllerClient

        try:
            view = ControllerClient(server_for_completion(ctx), QUICK_SECONDS).status()
            names = sorted({printable(name) for name in NAMES[self.kind](view) if name.startswith(incomplete)})
        except Exception:  # noqa: BLE001  # an error would be printed into the line that is being typed
            return []
        return [CompletionItem(name) for name in names[:MAX_COMPLETIONS] if name]


def with_names(command: click.Command) -> click.Command:
    """Give the parameters of a command that are named like one of NAMES completion of names."""
    for parameter in command.params:
        if parameter.name in NAMES and type(parameter.type) in (click.types.StringParamType, Namespaced, PolicyName):
            parameter.type = CompletedName(parameter.name)
    return command


@click.command(short_help="Print a shell script that completes headgate's commands.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print a shell script that completes headgate's commands, options and names.

    Names of nodes, pods, policies and namespaces come from the running controller, those of a lab from the lab.

    \b
    For this shell only:
      source <(headgate completion bash)            also with zsh
      headgate completion fish | source
    \b
    For all new shells:
      headgate completion bash >/etc/bash_completion.d/headgate
      headgate completion zsh >"${fpath[1]}/_headgate"
      headgate completion fish >~/.config/fish/completions/headgate.fish
    """
    from controller.cli import headgate

    found = get_completion_class(shell)
    if found is None:
        raise click.BadParameter(f"there is no completion for {shell}")
    made = found(headgate, {}, "headgate", VARIABLE)
    # Not source(): that runs bash to check its version, and fails where bash is not installed.
    click.echo(made.source_template % made.source_vars())
