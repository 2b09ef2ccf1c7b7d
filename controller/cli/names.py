"""The argument NAMESPACE/NAME, and texts for lists of names and for counts."""

from __future__ import annotations

from collections.abc import Sequence

import click

MAX_NAMES_SHOWN = 8  # of a list of names in tables; -o json has all of them


class Namespaced(click.ParamType[str]):
    """NAMESPACE/NAME, as kubectl prints it with -A."""

    name = "NAMESPACE/NAME"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text unchanged. Fails unless it has both parts."""
        if value.count("/") != 1 or value.startswith("/") or value.endswith("/"):
            self.fail(f"{value!r} is not of the form NAMESPACE/NAME", param, ctx)
        return value


class PolicyName(Namespaced):
    """The same, or the name alone of a ClusterNetworkPolicy."""

    name = "[NAMESPACE/]NAME"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text unchanged. Fails unless it is one of the two."""
        return value if value and "/" not in value else super().convert(value, param, ctx)


def first_names(names: Sequence[str], shown: int = MAX_NAMES_SHOWN, total: int | None = None) -> str:
    """The first `shown` names, and the number of the others."""
    total = len(names) if total is None else total
    first = ", ".join(names[:shown])
    return f"{first} and {total - shown:,} more" if total > shown else first


WHOLE_FAMILIES = {
    "0.0.0.0-255.255.255.255": "outside (IPv4)",
    "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff": "outside (IPv6)",
}


def group_name(name: str) -> str:
    """The name of a group of the matrix for people: all addresses of a family that no pod and no node has are
    `outside`."""
    return WHOLE_FAMILIES.get(name, name)


def count_text(value: int | None) -> str:
    """A count as text, "-" if unknown."""
    return "-" if value is None else str(value)
