"""The line of a field in a manifest, from its path, like `spec.ingress[0].from[1]`.

The document is read once more, as far as its first document goes, and only where there is something to report.
"""

from __future__ import annotations

import re
from itertools import islice

import yaml

_STEP = re.compile(r"\[(\d+)\]|\[([^\]]*)\]|([^.\[]+)")
MAX_EVENTS = 2_000_000  # of one document: the author of a file decides how long it is


def line_of(text: str, first: int, path: str) -> int:
    """The line of the field, counted from 1 in the whole file; that of its nearest ancestor where it is not there.

    `text` is the whole file, `first` the line on which the document begins.
    """
    wanted = [number or name or plain for number, name, plain in _STEP.findall(path)]
    rest = text.split("\n", first - 1)[-1] if first > 1 else text
    best, depth = first, 0
    stack: list[tuple[bool, str, int]] = []  # of open collections: is it a list, the present key, items so far
    try:
        for event in islice(yaml.parse(rest, yaml.CSafeLoader), MAX_EVENTS):
            if isinstance(event, (yaml.DocumentEndEvent, yaml.StreamEndEvent)):
                break
            if isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
                stack.pop()
                _next(stack)
                continue
            if not isinstance(event, yaml.NodeEvent):
                continue
            line = first + (event.start_mark.line if event.start_mark else 0)
            if stack and not stack[-1][0] and not stack[-1][1] and isinstance(event, yaml.ScalarEvent):
                stack[-1] = (False, event.value or "''", stack[-1][2])  # a key
                found = _matching(stack, wanted)
                if found > depth:
                    best, depth = line, found
                continue
            found = _matching(stack, wanted)
            if found > depth:
                best, depth = line, found
            if isinstance(event, yaml.CollectionStartEvent):
                stack.append((isinstance(event, yaml.SequenceStartEvent), "", 0))
            else:
                _next(stack)
    except yaml.YAMLError:
        pass  # what could be read is enough for a line
    return best


def _next(stack: list[tuple[bool, str, int]]) -> None:
    """The value of the innermost collection's present place has ended."""
    if stack:
        is_list, _, count = stack[-1]
        stack[-1] = (is_list, "", count + 1)


def _matching(stack: list[tuple[bool, str, int]], wanted: list[str]) -> int:
    """How many steps of the wanted path the present place has; 0 unless the place is on the path."""
    if len(stack) > len(wanted):
        return 0
    for (is_list, key, count), step in zip(stack, wanted, strict=False):
        if (str(count) if is_list else key) != step:
            return 0
    return len(stack)
