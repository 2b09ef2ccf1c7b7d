"""Loads YAML and rejects duplicate keys, of which PyYAML would silently use the last."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.CSafeLoader):
    """PyYAML's safe loader, with an error for duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping. Raises a MarkedYAMLError, with the line, where a key is given twice."""
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is in one object twice", key.start_mark
                )
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """The one document of a text. Raises yaml.YAMLError."""
    return yaml.load(text, _Loader)


def load_yaml_all(text: str) -> list[Any]:
    """Every document of a text. Raises yaml.YAMLError."""
    return list(yaml.load_all(text, _Loader))


def yaml_problem(error: yaml.YAMLError) -> str:
    """The problem in one line, with the place: `line 3: the key 'name' is in one object twice`."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    reason = getattr(error, "problem", None) or getattr(error, "context", None) or " ".join(str(error).split())
    return f"line {mark.line + 1}: {reason}" if mark else str(reason)
