"""Loads topology files: YAML into checked values, errors that name the field. The default topology is beside it."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from topology.errors import TopologyError
from topology.spec import strict
from topology.spec.model import Topology

DEFAULT_TOPOLOGY = Path(__file__).parent / "default.yaml"


def load_topology(path: Path | None = None, name: str | None = None) -> Topology:
    """Read the topology at `path`, or the default one; `name` replaces the lab's name. Raises TopologyError."""
    chosen = path or DEFAULT_TOPOLOGY
    try:
        text = chosen.read_text(encoding="utf-8")
    except OSError as error:
        raise TopologyError(f"{chosen}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TopologyError(f"{chosen}: is not UTF-8 text") from error
    return parse_topology(text, str(chosen), name)


def parse_topology(text: str, origin: str, name: str | None = None) -> Topology:
    """Check a topology's YAML text. `origin` is the prefix of every error."""
    try:
        data = strict.load_yaml(text)
    except yaml.YAMLError as error:
        raise TopologyError(f"{origin}: not YAML: {strict.yaml_problem(error)}") from error
    return check_topology(data, origin, name)


def check_topology(data: object, origin: str, name: str | None = None) -> Topology:
    """Check a topology given as plain data (what YAML yields). Raises TopologyError with all problems."""
    if not isinstance(data, dict):
        raise TopologyError(f"{origin}: a topology is a mapping with `nodes` and `pods`")
    if name is not None:
        data = {**data, "name": name}
    try:
        return Topology.model_validate(data)
    except ValidationError as error:
        raise TopologyError("\n".join(f"{origin}: {line}" for line in validation_problems(error))) from error


def validation_problems(error: ValidationError) -> list[str]:
    """One line for each problem, with the path of its field: `pods[2].ports[0].port: …`."""
    lines = []
    for problem in error.errors():
        where = ""
        for step in problem["loc"]:
            where += f"[{step}]" if isinstance(step, int) else f".{step}" if where else str(step)
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            text = "no such key"
        lines.append(f"{where}: {text}" if where else text)
    return lines
