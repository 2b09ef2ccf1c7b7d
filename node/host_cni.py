"""The CNI configuration list of a node. Its file says to the kubelet that the node's network is ready."""

from __future__ import annotations

import json
import os
from pathlib import Path

from node import files
from node.errors import NodeError
from node.host_programs import search_path
from node.host_settings import Settings, write_text

NAME = "10-headgate.conflist"
NETWORK = "headgate"
PLUGIN, IPAM, HOST_PORTS = "headgate", "host-local", "portmap"
# For runtimes that do not know `cniVersions` (before specification 1.1), and those that do.
BASE_VERSION, NEWER = "1.0.0", "1.1.0"
_ENDINGS = (".conf", ".conflist", ".json")  # of what runtimes read (libcni)
_SOURCE = "install the standard CNI plugins (package containernetworking-plugins), copied or linked there"


def missing(settings: Settings) -> str:
    """Which plugin is absent and what to do, "" if all are there."""
    for name in (PLUGIN, IPAM, HOST_PORTS):
        path = Path(settings.cni_bin_dir) / name
        if not os.access(path, os.X_OK):
            mend = "run deploy/node.sh --cni again" if name == PLUGIN else _SOURCE
            return f"there is no CNI plugin {path}: {mend}"
    return ""


def hidden(settings: Settings) -> str:
    """Which other configuration the runtime takes instead of the list and what to do, "" if it takes the list.

    One that calls this plugin, or hands pods on to it as that of Multus does, is as good.
    """
    folder = Path(settings.cni_conf_dir)
    try:
        first = min(one for one in os.listdir(folder) if one.endswith(_ENDINGS))
        if first == NAME or _leads_here((folder / first).read_bytes()):
            return ""
    except (OSError, ValueError):  # there is none
        return ""
    return (
        f"the container runtime takes {folder / first}, the first by name there, instead of {NAME}: "
        "remove it, then run `headgate-node apply`"
    )


def _leads_here(text: bytes) -> bool:
    """Whether a configuration, or one that it delegates to, is of this plugin.

    `plugins` are those of a list (CNI specification 1.1, section 1); `delegates`, or by name `clusterNetwork`, is what
    Multus calls for the network of all pods (docs/configuration.md there).
    """
    try:
        left = [json.loads(text)]
    except (ValueError, RecursionError):
        return False
    while left:
        one = left.pop()
        if not isinstance(one, dict):
            continue
        if one.get("type") == PLUGIN or _is_ours(one.get("clusterNetwork")):
            return True
        for key in ("plugins", "delegates"):
            found = one.get(key)
            left += found if isinstance(found, list) else []
    return False


def _is_ours(network: object) -> bool:
    """Whether a network is the list, by its name or by that of its file, with or without folder and ending."""
    return isinstance(network, str) and (network == NETWORK or Path(network).name in (NAME, Path(NAME).stem))


def path_of(settings: Settings) -> Path:
    """Where the list stands."""
    return Path(settings.cni_conf_dir) / NAME


def write(settings: Settings, state: Path) -> None:
    """Write the list unless it stands so. Raises NodeError."""
    text = json.dumps(configuration(settings, state), indent=2) + "\n"
    path = path_of(settings)
    try:
        if path.read_text(encoding="utf-8") == text:
            return
    except (OSError, ValueError):
        pass
    write_text(path, text)


def remove(settings: Settings) -> None:
    """Remove the list: the kubelet reports the node's network as not ready. Raises NodeError."""
    try:
        files.remove_file(path_of(settings))
    except OSError as error:
        raise NodeError(f"{path_of(settings)} cannot be removed: {error.strerror}") from None


def configuration(settings: Settings, state: Path) -> dict[str, object]:
    """The list (CNI specification 1.1, section 1). Its versions are those of every plugin in it."""
    host_ports = Path(settings.cni_bin_dir) / HOST_PORTS
    newer = NEWER in _versions(host_ports)
    plugin = {
        "type": PLUGIN,
        "bridge": settings.bridge,
        "ovsdb": settings.ovsdb,
        "runDir": settings.run_dir,
        "stateDir": str(state),
        "ipam": {"type": IPAM},
    }
    return {
        "cniVersion": BASE_VERSION,
        "cniVersions": [BASE_VERSION, NEWER] if newer else [BASE_VERSION],
        "name": NETWORK,
        "plugins": [plugin, {"type": HOST_PORTS, "capabilities": {"portMappings": True}, "snat": True}],
    }


def _versions(plugin: Path) -> list[str]:
    """The versions that a plugin says it knows, by the command VERSION. Raises NodeError."""
    import subprocess

    try:
        done = subprocess.run(
            [str(plugin)], input=json.dumps({"cniVersion": BASE_VERSION}), capture_output=True, text=True, timeout=10,
            check=False, env={**os.environ, "PATH": search_path(), "CNI_COMMAND": "VERSION"},
        )  # fmt: skip
        said = json.loads(done.stdout)
        versions = said["supportedVersions"]
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as error:
        raise NodeError(f"the CNI plugin {plugin} does not say its versions: {error!r}") from None
    if BASE_VERSION not in versions:
        raise NodeError(f"the CNI plugin {plugin} does not know version {BASE_VERSION}: install a newer one")
    return [version for version in versions if isinstance(version, str)]
