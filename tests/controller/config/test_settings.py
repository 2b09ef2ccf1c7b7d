"""Options from flags, environment, file and defaults: which one overrides, and that unknown ones are reported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from controller.config.load import OTHER_VARIABLES, SettingsError, load_config, options, unknown_variables
from controller.config.schema import OPTION_GROUPS, RunConfig
from flows.bridge.network import FLAT_NETWORK, NetworkOptions
from flows.bridge.routing import NetworkMode
from flows.cluster.net import parse_network

ENOUGH = {"manifests": "/m", "ovsdb": ("unix:/s",)}


def error(flags: Mapping[str, object], environment: dict[str, str], file: Path | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_config(flags, environment, file)
    message = str(caught.value)
    assert "\n" not in message
    return message


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_those_of_the_contract() -> None:
    config = load_config(ENOUGH, {}, None)
    assert config.manifests == Path("/m")
    assert config.openflow_listen == "tcp:0.0.0.0:6653"
    assert config.http == "127.0.0.1:8080"
    assert config.bridge == ("br-int",)
    assert (config.hub, config.log_level, config.log_format) == ("eventlet", "info", "human")
    assert config.ovsdb_listen is None and config.ovsdb_listen_address is None
    assert (config.openflow_address.port, config.http_address.port) == (6653, 8080)


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = written(tmp_path, "manifests: /file\nhttp: 127.0.0.1:1\nhub: native\novsdb: unix:/file\nlog_level: debug\n")
    environment = {"HEADGATE_HTTP": "127.0.0.1:2", "HEADGATE_HUB": "eventlet", "HEADGATE_LOG_LEVEL": ""}
    config = load_config({"http": "127.0.0.1:3"}, environment, file)
    assert (config.http, config.hub, config.log_level, config.log_format) == (
        "127.0.0.1:3",
        "eventlet",
        "debug",
        "human",
    )
    assert config.manifests == Path("/file")


def test_a_stronger_list_replaces_a_weaker_one(tmp_path: Path) -> None:
    file = written(tmp_path, "manifests: /m\novsdb: [unix:/a, unix:/b]\nbridge: [br-a, br-b, br-a]\n")
    assert load_config({}, {}, file).ovsdb == ("unix:/a", "unix:/b")
    assert load_config({}, {}, file).bridge == ("br-a", "br-b")
    assert load_config({}, {"HEADGATE_OVSDB": "unix:/c, tcp:192.0.2.1 unix:/d"}, file).ovsdb == (
        "unix:/c", "tcp:192.0.2.1:6640", "unix:/d",
    )  # fmt: skip


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "manifests: /m\novsdb_listen: tcp:[::]:6640\n")
    config = load_config({}, {"HEADGATE_CONFIG": str(file)}, None)
    assert config.ovsdb_listen_address == ("::", 6640)


def test_an_empty_file_is_no_file(tmp_path: Path) -> None:
    assert load_config(ENOUGH, {}, written(tmp_path, "# nothing\n")).hub == "eventlet"


def test_an_api_server_is_a_source_too_and_in_a_pod_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"kubeconfig": "/k", "ovsdb": ("unix:/s",)}
    assert load_config(given, {}, None).kubeconfig == "/k"
    assert load_config({**ENOUGH, **given}, {}, None).manifests == Path("/m")
    token = tmp_path / "token"
    monkeypatch.setattr("controller.config.load.SERVICE_ACCOUNT_TOKEN", token)
    pod = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    switch = {"ovsdb": ("unix:/s",)}
    assert "nothing to enforce" in error(switch, pod)
    token.write_text("abc", encoding="utf-8")
    assert load_config(switch, pod, None).kubeconfig == "in-cluster"
    assert load_config(ENOUGH, pod, None).kubeconfig is None
    assert "nothing to enforce" in error(switch, {})


def test_what_is_missing_is_said_with_the_flag_that_helps() -> None:
    assert "--manifests DIR or --kubeconfig FILE" in error({}, {})
    assert "--ovsdb REMOTE" in error({"manifests": "/m"}, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("manifest: /m\n", ":1: unknown key 'manifest', did you mean manifests?"),
        ("\nopenflow-listen: tcp:0.0.0.0:1\n", ":2: unknown key 'openflow-listen', did you mean openflow_listen?"),
        ("hub: native\nhub: eventlet\n", ":2: hub is given twice"),
        ("hub: greenlet\n", ":1: hub: 'greenlet' is not one of 'eventlet' or 'native'"),
        ("http: 8080\n", ":1: http: 8080 is not text"),
        ("bridge: []\n", ":1: bridge: at least one is needed"),
        ("bridge: [a/b]\n", "is no bridge name"),
        ("bridge: [a-name-of-16-chr]\n", "is no bridge name"),
        ("ovsdb: [unix:/a, 7]\n", ":1: ovsdb: 7 is not text"),
        ("ovsdb: {a: b}\n", "is not a list"),
        ("- a\n", "a mapping of options is expected"),
        ("a: [\n", "not valid YAML"),
        ("a: !!python/object:os.system {}\n", "not valid YAML"),
        ("a: 2001-99-99\n", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    file = written(tmp_path, text)
    message = error({}, {}, file)
    assert message.startswith(str(file))
    assert expected in message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "No such file" in error({}, {}, tmp_path / "absent.yaml")
    assert "directory" in error({}, {}, tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in error({}, {}, binary)
    assert "larger than 1 MiB" in error({}, {}, written(tmp_path, "#" * (1 << 21)))


def test_a_wrong_value_is_named_by_where_it_stood() -> None:
    assert error(ENOUGH, {"HEADGATE_HTTP": "8080"}).startswith("HEADGATE_HTTP: ")
    assert error({**ENOUGH, "openflow_listen": "ptcp:6653"}, {}).startswith("--openflow-listen: ")
    assert error({**ENOUGH, "bridge": ("",)}, {}).startswith("--bridge: ")


def test_an_unknown_variable_is_warned_of_with_the_nearest_name() -> None:
    environment = {"HEADGATE_OVSBD": "unix:/s", "HEADGATE_HTTP": "127.0.0.1:2"}
    assert load_config(ENOUGH, environment, None).http == "127.0.0.1:2"
    (line,) = unknown_variables(environment)
    assert line == (
        "the environment variable HEADGATE_OVSBD is unknown and has no effect, did you mean HEADGATE_OVSDB?"
    )


def test_variables_of_clients_of_the_lab_and_of_kubernetes_services_are_not_ours() -> None:
    environment = {
        **dict.fromkeys(OTHER_VARIABLES - {"HEADGATE_CONFIG"}, "x"),
        "HEADGATE_SERVICE_HOST": "10.0.0.1", "HEADGATE_SERVICE_PORT": "80", "HEADGATE_SERVICE_PORT_METRICS": "80",
        "HEADGATE_PORT": "tcp://10.0.0.1:80", "HEADGATE_PORT_80_TCP_ADDR": "10.0.0.1",
        "HEADGATE_METRICS_PORT_80_TCP": "tcp://10.0.0.1:80",
        "HEADGATE_LAB": "x", "HEADGATE_LAB_FOLDER": "/run/x",
    }  # fmt: skip
    assert load_config(ENOUGH, environment, None) == load_config(ENOUGH, {}, None)
    assert unknown_variables(environment) == []


def test_every_option_has_a_name_a_group_and_a_description() -> None:
    assert {option.name for option in options()} == set(RunConfig.model_fields)
    for option in options():
        assert option.help.endswith(".") and option.group in OPTION_GROUPS and option.metavar
        assert option.variable == "HEADGATE_" + option.name.upper()


def test_the_network_is_flat_unless_said_otherwise() -> None:
    assert load_config(ENOUGH, {}, None).network_options == FLAT_NETWORK


def test_the_options_of_the_network_are_read() -> None:
    given = {"service_cidr": "10.96.0.1/12,fd00:10:96::/112", "pod_cidr": "10.244.0.0/16", "mtu": "8950"}
    given["node_cidr"] = "192.0.2.1/24"
    variables = {f"HEADGATE_{name.upper()}": value for name, value in given.items()}
    found = load_config({**ENOUGH, "network": "overlay", "encap": "vxlan", "node_ports": "1-00099"}, variables, None)
    assert found.network_options == NetworkOptions(
        NetworkMode.OVERLAY,
        "vxlan",
        (parse_network("10.244.0.0/16"),),
        (parse_network("10.96.0.0/12"), parse_network("fd00:10:96::/112")),
        8950,
        (1, 99),
        node_cidrs=(parse_network("192.0.2.0/24"),),
    )


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"network": "bridged"}, "'flat', 'routed' or 'overlay'"),
        ({"encap": "vxlan"}, "--encap has no effect with --network flat"),
        ({"mtu": "1400"}, "--mtu has no effect with --network flat"),
        ({"node_cidr": ("192.0.2.0/24",)}, "--node-cidr has no effect with --network flat"),
        ({"service_cidr": ("10.96.0.0/12",)}, "--service-cidr has no effect with --network flat"),
        ({"network": "routed", "encap": "geneve"}, "--encap has no effect with --network routed"),
        ({"network": "overlay", "encap": "gre"}, "'geneve' or 'vxlan'"),
        ({"network": "overlay", "mtu": "1279"}, "1280"),
        ({"network": "overlay", "mtu": "x"}, "--mtu: 'x'"),
        ({"network": "overlay", "bridge": ("a", "b")}, "give one --bridge"),
        ({"network": "overlay", "service_cidr": ("10.96.0.0",)}, "no range in CIDR form; write it like 10.96.0.0/12"),
        ({"network": "overlay", "pod_cidr": ("0.0.0.0/0",)}, "wider than /8"),
        ({"network": "overlay", "node_ports": "30000"}, "no range of ports; write it like 30000-32767"),
        ({"network": "overlay", "node_ports": "2-1"}, "the first port is greater than the last"),
        ({"network": "overlay", "node_ports": "0-70000"}, "no range of ports"),
    ],
)
def test_a_wrong_option_of_the_network_says_what_to_write(given: dict[str, object], hint: str) -> None:
    assert hint in error({**ENOUGH, **given}, {})
