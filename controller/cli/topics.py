"""`headgate help TOPIC`: what a word or a rule means, where one sits and has no pages at hand.

Topics are those of docs/ (help_topics.json is made of them by scripts/docs.py), the pipeline's tables, the codes of
`headgate check`, and the commands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources

import click
from click.shell_completion import CompletionItem

from controller.cli.output import DIM, TITLE, OutputPage

FILE = "help_topics.json"
MAX_NAMING = 5  # topics that have a word in their text


class _TopicName(click.ParamType[str]):
    """A word of a topic; the shell completes topics."""

    name = "TOPIC"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The topics that begin with what is typed."""
        return [CompletionItem(name) for name in all_topics() if name.startswith(incomplete)]


@click.command("help")
@click.argument("topic", nargs=-1, type=_TopicName())
@click.pass_context
def help_command(ctx: click.Context, topic: tuple[str, ...]) -> None:
    """Say what TOPIC means: a word of the glossary, how policy is read, a table of the pipeline, a code of
    `headgate check`, or a command. Without TOPIC list all topics.

    \b
    Examples:
      headgate help isolated
      headgate help "contested addresses"
      headgate help egress_default
      headgate help HG110
    """
    page = OutputPage()
    if not topic:
        _list(page)
        return
    wanted = " ".join(topic)
    lines = _text(wanted)
    if lines is None:
        lines = _command_help(ctx, wanted)
    if lines is None:
        raise click.UsageError(
            f"there is no topic {wanted!r}{_near(wanted) or _naming(wanted)}; `headgate help` lists all"
        )
    for number, (line, style) in enumerate(lines):
        if number and not line:
            page.line()
        else:
            page.line(line, style)


@lru_cache(1)
def page_topics() -> Mapping[str, Mapping[str, str]]:
    """The topics of the pages, by name: each has `title`, `text` and `page`."""
    text = resources.files("controller.cli").joinpath(FILE).read_text(encoding="utf-8")
    return {one["name"]: one for one in json.loads(text)}


def all_topics() -> list[str]:
    """The names of all topics, the commands last."""
    from controller.cli import COMMANDS
    from flows.lint.codes import CODES
    from flows.pipeline.tables import TABLES

    return [*page_topics(), *(table.name for table in TABLES), *CODES, *COMMANDS]


def _text(wanted: str) -> list[tuple[str, str]] | None:
    """The lines of a topic that is no command, each with its style. A word may be a term and a table."""
    from flows.lint.codes import CODES
    from flows.pipeline.tables import TABLES_BY_NAME

    lines: list[tuple[str, str]] = []
    found = page_topics().get("-".join(wanted.lower().replace("_", " ").split()))
    if found is not None:
        lines += [(found["title"], TITLE), *((line, "") for line in found["text"].splitlines())]
        lines += [("", ""), (f"from {found['page']}", DIM)]
    if (code := CODES.get(wanted.upper())) is not None:
        lines += [(f"{code.number}: {code.name} ({code.severity.name.lower()})", TITLE), (code.hint, "")]
    if (table := TABLES_BY_NAME.get(wanted)) is not None:
        onward = ", ".join(table.leads_to) or "nowhere: packets leave here"
        lines += [("", "")] if lines else []
        lines += [(f"table {table.number}, {table.name}", TITLE), (table.does, "")]
        lines += [(f"What nothing matches: {table.miss}", ""), (f"Leads to: {onward}", "")]
    return lines or None


def _command_help(ctx: click.Context, wanted: str) -> list[tuple[str, str]] | None:
    """The help of a command, as it prints it itself."""
    from controller.cli import headgate

    command = headgate.get_command(ctx, wanted)
    if command is None:
        return None
    inner = click.Context(command, ctx.parent, info_name=wanted)
    return [(line, "") for line in command.get_help(inner).splitlines()]


def _near(wanted: str) -> str:
    import difflib

    found = difflib.get_close_matches(wanted.lower(), all_topics(), 1, 0.7)
    return f"; did you mean {found[0]}?" if found else ""


def _naming(wanted: str) -> str:
    """The topics that have the word in their text, the first few."""
    word = re.compile(rf"\b{re.escape(wanted)}", re.IGNORECASE)
    found = [name for name, one in page_topics().items() if word.search(one["title"]) or word.search(one["text"])]
    return f"; it is in the topics {', '.join(found[:MAX_NAMING])}" if found else ""


def _list(page: OutputPage) -> None:
    from controller.cli import COMMANDS
    from flows.lint.codes import CODES
    from flows.pipeline.tables import TABLES

    groups: dict[str, list[str]] = {}
    for name, one in page_topics().items():
        title = "Words" if one["page"].endswith("glossary.md") else f"From {one['page']}"
        groups.setdefault(title, []).append(name)
    groups["Tables of the pipeline"] = [table.name for table in TABLES]
    groups["Codes of headgate check"] = list(CODES)
    groups["Commands"] = list(COMMANDS)
    for title, names in groups.items():
        page.line(title, TITLE)
        page.line(f"  {', '.join(names)}")
