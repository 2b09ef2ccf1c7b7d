"""The controller's part of a support bundle: versions, settings, bridges as read from OVSDB, the last log lines.

It has no secrets: only the names of files, only those values of external_ids that Headgate reads or writes, and no text
that looks like a secret.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from importlib import metadata

from controller.base.log_ring import RING
from controller.base.secrets import LEFT_OUT, without_secrets
from controller.base.version import version
from controller.config.schema import RunConfig
from controller.status.detail_model import BridgeRecord, InterfaceRecord, SupportView
from flows.bridge.state import BridgeState

LIBRARIES = ("os-ken", "ovs", "eventlet", "kubernetes", "pydantic", "prometheus-client", "structlog", "werkzeug")
READ_EXTERNAL_IDS = frozenset(
    {"iface-id", "iface-id-ver", "pod-namespace", "pod-name", "attached-mac", "ip_addresses", "ip-address"}
)
OWN_ID_PREFIX = "headgate-"


def support_view(bridges: Iterable[BridgeState], config: RunConfig) -> SupportView:
    """The whole part; `bridges` as read from OVSDB."""
    ordered = sorted(bridges, key=lambda bridge: (bridge.ovsdb, bridge.name))
    return SupportView(_versions(), _settings(config), tuple(map(_bridge, ordered)), RING.lines())


def _versions() -> dict[str, str]:
    found = {"headgate": version(), "python": platform.python_version(), "system": platform.platform()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _settings(config: RunConfig) -> dict[str, str]:
    """The options of `headgate run`: addresses, names of files and so on."""
    found = config.model_dump()
    return {name: without_secrets(_text(value)) for name, value in found.items() if value not in (None, ())}


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _bridge(bridge: BridgeState) -> BridgeRecord:
    return BridgeRecord(
        ovsdb=bridge.ovsdb,
        name=bridge.name,
        dpid=f"{bridge.dpid:016x}" if bridge.dpid else "",
        hostname=bridge.hostname,
        system_id=bridge.system_id,
        datapath_type=bridge.datapath_type,
        ovs_version=bridge.ovs_version,
        interfaces=tuple(
            InterfaceRecord(i.name, i.ofport, i.mac_in_use, _without_foreign_values(i.external_ids))
            for i in bridge.interfaces
        ),
    )


def _without_foreign_values(external_ids: Mapping[str, str]) -> dict[str, str]:
    """The external_ids; values that Headgate neither reads nor writes are left out."""
    return {
        key: without_secrets(value) if key in READ_EXTERNAL_IDS or key.startswith(OWN_ID_PREFIX) else LEFT_OUT
        for key, value in sorted(external_ids.items())
    }
