"""Writes the pages of docs/ that are generated from the code; with --check names those that are stale.

A page is a path and a function that returns its whole text. The text depends only on the code: not on the terminal,
the environment or the date. Descriptions belong to the declarations in the code; only headings and introductions are
here.

    python scripts/docs.py [--check]
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import click
from debugging_page import debugging
from help_topics import help_topics
from json_forms import FORMS, forms_page, schema_text

from controller.cli import headgate
from controller.config import load
from controller.config.schema import OPTION_GROUPS
from controller.metrics import series
from controller.peers.limits import ConnectionLimits, OpenFlowLimits, OvsdbLimits, declared_limits
from flows.pipeline.page import pipeline_markdown

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
WIDTH = 100
NOTE = "<!-- Generated from the code by `make docs`. Changes made here are lost. -->\n\n"


def cli() -> str:
    """The help of every command, as a terminal of WIDTH columns shows it."""
    parts = ["# Command line\n"]
    for path, text in _commands(headgate, "headgate", None):
        parts.append(f"{'#' * (path.count(' ') + 2)} {path}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


def _commands(command: click.Command, path: str, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    """Each command's full name and help, parents before children."""
    # Not make_context: that would parse, and parsing `run` starts to set up its process.
    layout = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, parent, info_name=path.rsplit(" ", 1)[-1], **layout)
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _commands(child, f"{path} {name}", context)


def config() -> str:
    """Every option of `headgate run`: as a flag, an environment variable and a key of the YAML file."""
    rules = (
        "A flag overrides its environment variable, which overrides the file (`--config`), which overrides the "
        "default. Lists are replaced, not joined; in the environment their items are separated by commas or spaces. "
        "Unknown keys of the file are errors; unknown variables cause a warning.\n"
    )
    parts = ["# Settings of `headgate run`\n", rules]
    for group in OPTION_GROUPS:
        rows = [_option_row(option) for option in load.options() if option.group == group]
        parts.append(f"## {group}\n\n{_table(('Key', 'Flag', 'Variable', 'Default', 'Meaning'), rows)}")
    return "\n".join(parts)


def _option_row(option: load.Option) -> tuple[str, ...]:
    takes = "|".join(option.choices) or option.metavar
    flag = f"`{option.flag} {takes}`" + (", repeatable" if option.repeatable else "")
    default = f"`{option.default}`" if option.default else "none"
    return f"`{option.name}`", flag, f"`{option.variable}`", default, option.help


def metric_names() -> str:
    """Every series of /metrics."""
    rows = [
        (f"`{one.exposed}`", one.kind.__name__.lower(), ", ".join(f"`{label}`" for label in one.labels), one.help)
        for one in series.DECLARED_SERIES
    ]
    rows += [(f"`{name}`", kind, "", meaning) for name, kind, meaning in series.PROCESS_SERIES]
    return f"# Metrics\n\nServed on `/metrics`.\n\n{_table(('Name', 'Kind', 'Labels', 'Meaning'), rows)}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar inside a cell would end it."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def limits() -> str:
    """Every limit of connection peers, by channel."""
    words = (
        "What a switch, or another machine that connects to a listener, may cost Headgate. The limits fit switches of "
        "1,200,000 flows and bridges of 10,000 ports, and cannot be set. Exceeding one is logged, "
        "counted in `headgate_peers_refused_total`, and shown by `headgate status`; "
        "[ADR 13](adr/0013-limits-of-peers.md) explains them.\n\n"
        "For what a pod may take of its node, also two hostile pods together, and for limits of conntrack zones by "
        "version of Open vSwitch, see [security.md](security.md#what-one-pod-may-take-of-its-node).\n"
    )
    parts = ["# Limits of connection peers\n", words]
    for title, kind in (
        ("Connections at a listener", ConnectionLimits),
        ("An OpenFlow peer", OpenFlowLimits),
        ("An OVSDB peer", OvsdbLimits),
    ):
        rows = [f"| `{one.name}` | {one.value:,} {one.unit} | {one.meaning} |" for one in declared_limits(kind)]
        parts.append("\n".join([f"## {title}\n", "| limit | value | meaning |", "|---|---|---|", *rows, ""]))
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    "pipeline.md": pipeline_markdown,
    "cli.md": cli,
    "config.md": config,
    "metrics.md": metric_names,
    "limits.md": limits,
    "debugging.md": debugging,
    "../controller/cli/help_topics.json": help_topics,
    "schemas/README.md": forms_page,
    **{f"schemas/{name}.json": partial(schema_text, name) for name in FORMS},
}


def stale(path: Path, text: str) -> str:
    """The difference between a page and its generated text, as a unified diff; empty when they are equal."""
    have = path.read_text(encoding="utf-8") if path.exists() else ""
    name = str(path.resolve().relative_to(ROOT))
    difference = difflib.unified_diff(
        have.splitlines(), text.splitlines(), name, f"{name} (from the code)", lineterm=""
    )
    return "\n".join(difference)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages; with --check write nothing and return 1 when one is stale."""
    parser = argparse.ArgumentParser(description=inspect.cleandoc(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="say which pages are stale, and write nothing")
    check = parser.parse_args(arguments).check
    differences = []
    for name, render in PAGES.items():
        path, text = DOCS / name, (NOTE if name.endswith(".md") else "") + render()
        difference = stale(path, text)
        if difference and check:
            differences.append(difference)
        elif difference:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.resolve().relative_to(ROOT)}")
    if differences:
        print("\n".join(differences))
        print(f"\n{len(differences)} stale of {len(PAGES)} generated pages: run `make docs` and commit the result")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
