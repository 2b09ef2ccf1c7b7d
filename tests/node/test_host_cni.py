"""Which CNI configuration a container runtime takes: the first by name, and whether it leads to our plugin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from node import host_cni
from node.host_settings import Settings

OURS = {"cniVersion": "1.0.0", "name": "headgate", "plugins": [{"type": "headgate"}, {"type": "portmap"}]}


def hidden_by(folder: Path, name: str, content: str) -> str:
    (folder / host_cni.NAME).write_text(json.dumps(OURS))
    (folder / name).write_text(content)
    return host_cni.hidden(Settings(cni_conf_dir=str(folder)))


@pytest.mark.parametrize(
    "other",
    [
        {"type": "bridge", "bridge": "headgate"},
        {"name": "no-headgate", "plugins": [{"type": "bridge", "ipam": {"type": "headgate"}}]},
        {"name": "headgate-old", "plugins": [{"type": "ptp"}], "comment": "headgate"},
        {"name": "headgate", "type": "headgate-old"},
        {"type": "multus", "delegates": [{"type": "flannel"}], "defaultNetworks": ["headgate"]},
        {"type": "multus", "clusterNetwork": "/etc/cni/net.d/10-flannel.conflist", "logFile": "/var/log/headgate.log"},
        {"type": "multus", "clusterNetwork": ["headgate"], "plugins": "headgate", "delegates": {"type": 1}},
        ["headgate"],
        "headgate",
    ],
)
def test_a_word_somewhere_in_it_does_not_make_a_configuration_ours(tmp_path: Path, other: object) -> None:
    assert "takes" in hidden_by(tmp_path, "00-other.conf", json.dumps(other))


@pytest.mark.parametrize("text", ["", "headgate", '{"type": "headgate"', '{"type": "headgate"}\xff', "[" * 100_000])
def test_what_cannot_be_read_is_not_ours(tmp_path: Path, text: str) -> None:
    assert "takes" in hidden_by(tmp_path, "00-other.conf", text)


@pytest.mark.parametrize(
    "other",
    [
        {"type": "headgate", "name": "headgate"},
        OURS,
        {"type": "multus", "delegates": [OURS]},
        {"type": "multus", "delegates": [{"type": "headgate"}]},
        {"plugins": [{"type": "multus", "delegates": [OURS]}]},
        {"type": "multus", "clusterNetwork": "headgate"},
        {"type": "multus", "clusterNetwork": "10-headgate"},
        {"type": "multus-shim", "clusterNetwork": "/host/etc/cni/net.d/10-headgate.conflist"},
    ],
)
def test_one_that_calls_the_plugin_is_as_good(tmp_path: Path, other: object) -> None:
    assert hidden_by(tmp_path, "00-other.conf", json.dumps(other)) == ""


def test_only_the_first_by_name_counts(tmp_path: Path) -> None:
    assert hidden_by(tmp_path, "99-other.conflist", "{}") == ""
    assert hidden_by(tmp_path, "00-other.conf.bak", "{}") == ""
