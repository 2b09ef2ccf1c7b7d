"""Reads the options of `headgate run` and merges them: flags override the environment, which overrides the file, which
overrides defaults.

What an option means and which values it takes: see `schema`. Here each value keeps its origin, so that an error names
the file and line, the variable or the flag.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from controller.config.schema import ENV_PREFIX, IN_CLUSTER, RunConfig

CONFIG_VARIABLE = f"{ENV_PREFIX}CONFIG"
# Variables with our prefix that the client commands read.
LAB_PREFIX = f"{ENV_PREFIX}LAB"  # the variables of the lab, some of which mark the processes that it starts
OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, f"{ENV_PREFIX}SERVER"})
_LAB = re.compile(rf"{ENV_PREFIX}LAB(_\w+)?\Z")  # the variables of the lab
# The kubelet sets these in containers for a Service whose name starts with "headgate" (HEADGATE_SERVICE_HOST, ...).
_SERVICE_LINK = re.compile(
    rf"{ENV_PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)\Z"
)
MAX_FILE_BYTES = 1 << 20
SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class SettingsError(Exception):
    """An option is invalid. The message is one line for the operator."""


class Option(NamedTuple):
    """One field of RunConfig, for flags, help and docs/config.md. `default` is text, empty for none."""

    name: str
    flag: str
    variable: str
    metavar: str
    group: str
    help: str
    default: str
    repeatable: bool
    choices: tuple[str, ...]


class GivenValue(NamedTuple):
    """An unchecked value and its origin: a flag, a variable, or file, line and key."""

    value: object
    origin: str


def options() -> tuple[Option, ...]:
    """All options, in the order of the schema."""
    return tuple(_describe(name, field) for name, field in RunConfig.model_fields.items())


def _describe(name: str, field: FieldInfo) -> Option:
    extra: dict[str, Any] = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    annotation: Any = field.annotation
    default = field.default
    return Option(
        name=name,
        flag="--" + name.replace("_", "-"),
        variable=ENV_PREFIX + name.upper(),
        metavar=str(extra["metavar"]),
        group=str(extra["group"]),
        help=field.description or "",
        default=" ".join(default) if isinstance(default, tuple) else "" if default is None else str(default),
        repeatable=get_origin(annotation) is tuple,
        choices=tuple(get_args(annotation)) if get_origin(annotation) is Literal else (),
    )


def load_config(flags: Mapping[str, object], environment: Mapping[str, str], file: Path | None) -> RunConfig:
    """Merge all sources into a RunConfig.

    `flags` are those given on the command line, `file` is the path of `--config` (or HEADGATE_CONFIG names it). A list
    replaces the list that it overrides. Raises SettingsError.
    """
    given = from_environment(environment)
    file = file or (Path(environment[CONFIG_VARIABLE]) if environment.get(CONFIG_VARIABLE) else None)
    merged = from_file(file) if file else {}
    merged.update(given)
    merged.update({name: GivenValue(value, "--" + name.replace("_", "-")) for name, value in flags.items()})
    if not merged.keys() & {"manifests", "kubeconfig"} and _is_in_cluster(environment):
        merged["kubeconfig"] = GivenValue(IN_CLUSTER, "this pod's service account")
    try:
        return RunConfig.model_validate({name: one.value for name, one in merged.items()})
    except ValidationError as error:
        raise SettingsError(_explain(error, merged)) from None


def _is_in_cluster(environment: Mapping[str, str]) -> bool:
    """Whether this process runs in a pod that has credentials for the API server."""
    return bool(environment.get("KUBERNETES_SERVICE_HOST")) and SERVICE_ACCOUNT_TOKEN.is_file()


def from_environment(environment: Mapping[str, str]) -> dict[str, GivenValue]:
    """The options that HEADGATE_ variables set. Empty and unknown variables are ignored."""
    known = {option.variable: option for option in options()}
    given: dict[str, GivenValue] = {}
    for variable, text in sorted(environment.items()):
        option = known.get(variable)
        if option is not None and text.strip():
            value: object = tuple(text.replace(",", " ").split()) if option.repeatable else text.strip()
            given[option.name] = GivenValue(value, variable)
    return given


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Warnings on HEADGATE_ variables that nothing reads, a line each with the most similar name.

    Not an error, unlike an unknown key in the file: other programs also set variables.
    """
    known = [*(option.variable for option in options()), *OTHER_VARIABLES]
    lines = []
    for variable in sorted(environment):
        if not variable.startswith(ENV_PREFIX) or variable in known or variable.startswith(LAB_PREFIX):
            continue
        if not _SERVICE_LINK.match(variable) and not _LAB.match(variable):
            lines.append(f"the environment variable {variable} is unknown and has no effect{_nearest(variable, known)}")
    return lines


def from_file(path: Path) -> dict[str, GivenValue]:
    """The options that a YAML file sets. Raises SettingsError with file and line."""
    known = {option.name: option for option in options()}
    given: dict[str, GivenValue] = {}
    for key, line, value in _read_mapping(path):
        option = known.get(key)
        if option is None:
            raise SettingsError(
                f"{path}:{line}: unknown key {key!r}{_nearest(key, known)}; `headgate run --help` lists all"
            )
        if key in given:
            raise SettingsError(f"{path}:{line}: {key} is given twice; keep one of them")
        if value is None:
            continue
        if option.repeatable and isinstance(value, str):
            value = (value,)
        given[key] = GivenValue(value, f"{path}:{line}: {key}")
    return given


def _read_mapping(path: Path) -> Iterable[tuple[str, int, object]]:
    text = _read_text(path)
    try:
        loader = yaml.SafeLoader(text)
        build = loader.construct_object
        node = loader.get_single_node()
        if node is None:
            return []
        if not isinstance(node, yaml.MappingNode):
            raise SettingsError(f"{path}: a mapping of options is expected, like `manifests: /etc/headgate/manifests`")
        return [
            (str(build(key, deep=True)), key.start_mark.line + 1, build(value, deep=True)) for key, value in node.value
        ]
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise SettingsError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None


def _read_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(
            f"cannot read the configuration file {path}: {error.strerror}; give another with --config FILE"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"the configuration file {path} is not UTF-8 text") from None
    if len(text) > MAX_FILE_BYTES:
        raise SettingsError(f"the configuration file {path} is larger than 1 MiB; is it the right one?")
    return text


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {close[0]}?" if close else ""


def _explain(error: ValidationError, given: Mapping[str, GivenValue]) -> str:
    """The first error that pydantic found, in one line that begins with the value's origin."""
    first = error.errors(include_url=False, include_context=True)[0]
    reason = _reason(dict(first))
    if not first["loc"]:
        return reason
    name = str(first["loc"][0])
    return f"{given[name].origin}: {reason}" if name in given else f"{name}: {reason}"


def _reason(found: dict[str, Any]) -> str:
    context: dict[str, Any] = found.get("ctx") or {}
    kind = found["type"]
    if kind == "value_error":
        return str(context.get("error", found["msg"]))
    if kind == "literal_error":
        return f"{found['input']!r} is not one of {context['expected']}"
    if kind == "too_short":
        return "at least one is needed"
    if kind in {"tuple_type", "string_type", "path_type"}:
        wanted = {"tuple_type": "a list", "string_type": "text", "path_type": "a path"}[kind]
        return f"{found['input']!r} is not {wanted}"
    return f"{found['input']!r}: {found['msg']}"
