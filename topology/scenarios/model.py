"""A scenario as values, loaded from the YAML files of this folder, and its expectation for a probe.

An expectation is a list of statements, each `allow` or `deny` with `from`, `to`, `ports` and `families`; a field that
is left out matches everything. Without a matching statement a probe is allowed; otherwise the last one that matches
decides. A pod always reaches itself, and a node its own pods.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from topology.errors import TopologyError
from topology.probe.matrix import LabProbe
from topology.spec import strict
from topology.spec.load import check_topology, validation_problems
from topology.spec.model import Family, LabPortEntry, Topology

FOLDER = Path(__file__).parent


def _as_list(value: object) -> object:
    return [value] if isinstance(value, (str, int)) else value


Patterns = Annotated[tuple[str, ...], BeforeValidator(_as_list)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class ProbePattern(_Value):
    """The probes that a statement matches. `sources` and `destinations` are names with the wildcards `*` and `?`."""

    sources: Patterns = Field(default=("*",), alias="from")
    destinations: Patterns = Field(default=("*",), alias="to")
    ports: Annotated[tuple[LabPortEntry, ...] | None, BeforeValidator(_as_list)] = None
    protocols: Annotated[tuple[str, ...] | None, BeforeValidator(_as_list)] = None
    families: Annotated[tuple[Family, ...] | None, BeforeValidator(_as_list)] = None

    def matches(self, probe: LabProbe) -> bool:
        """Whether the statement matches this probe."""
        return (
            any(fnmatchcase(probe.source, pattern) for pattern in self.sources)
            and any(fnmatchcase(probe.destination, pattern) for pattern in self.destinations)
            and (self.ports is None or any((port.protocol, port.port) == probe[2:4] for port in self.ports))
            and (self.protocols is None or probe.protocol in self.protocols)
            and (self.families is None or probe.family in self.families)
        )


class Statement(_Value):
    """One line of an expectation: exactly one of `allow` and `deny`."""

    allow: ProbePattern | None = None
    deny: ProbePattern | None = None

    @model_validator(mode="after")
    def _one(self) -> Statement:
        if (self.allow is None) == (self.deny is None):
            raise ValueError("give either allow or deny")
        return self


class ScenarioStep(_Value):
    """The objects that a step applies and deletes, its description (`say`), and the expectation afterwards."""

    say: str
    apply: tuple[dict[str, Any], ...] = ()
    delete: tuple[dict[str, Any], ...] = ()
    expect: tuple[Statement, ...] = ()


class Scenario(_Value):
    """A scenario. In a file, `topology` is a topology or the name of one in the folder `topologies`."""

    name: str
    title: str
    about: str
    topology: Topology
    nodes: bool = False
    icmp: bool = False
    steps: tuple[ScenarioStep, ...] = Field(min_length=1)

    @cached_property
    def _node_of(self) -> dict[str, str]:
        return {pod.key: f"node:{pod.node}" for pod in self.topology.pods}

    def allowed(self, step: ScenarioStep, probe: LabProbe) -> bool:
        """Whether the probe is expected to be allowed after this step."""
        if probe.source == probe.destination or self._node_of.get(probe.destination) == probe.source:
            return True
        verdict = True
        for statement in step.expect:
            which = statement.allow or statement.deny
            if which is not None and which.matches(probe):
                verdict = statement.allow is not None
        return verdict


def scenario_names(folder: Path = FOLDER) -> list[str]:
    """The names of all scenarios, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_scenario(name: str, folder: Path = FOLDER) -> Scenario:
    """Load a scenario by name. Raises TopologyError that names file and field."""
    path = folder / f"{name}.yaml"
    data = _read(path)
    topology = data.get("topology")
    if isinstance(topology, str):
        shared = folder / "topologies" / f"{topology}.yaml"
        data["topology"] = check_topology(_read(shared), str(shared))
    elif topology is not None:
        data["topology"] = check_topology(topology, f"{path}: topology")
    try:
        return Scenario.model_validate({"name": name, **data})
    except ValidationError as error:
        raise TopologyError("\n".join(f"{path}: {line}" for line in validation_problems(error))) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        data = strict.load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TopologyError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise TopologyError(f"{path}: not YAML: {strict.yaml_problem(error)}") from error
    if not isinstance(data, dict):
        raise TopologyError(f"{path}: must be a mapping")
    return data


def unused_statements(scenario: Scenario, probes: Sequence[LabProbe]) -> list[str]:
    """Statements that match none of the probes, as with a misspelt endpoint; one line for each."""
    found = []
    for step in scenario.steps:
        for number, statement in enumerate(step.expect):
            which = statement.allow or statement.deny
            if which is not None and not any(which.matches(probe) for probe in probes):
                found.append(f"{scenario.name}, step {step.say!r}: statement {number} matches no probe")
    return found
