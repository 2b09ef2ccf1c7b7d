"""The commands of the CNI: ADD, DEL, CHECK, GC and STATUS (specification 1.1, section "CNI operations").

What they do to one attachment happens under its lock. The order of the steps is what makes a command that was killed
between any two of them harmless: the record comes first and goes last; the port, through which packets pass, comes last
and goes first; an address is released only when neither port nor interface has it.
"""

from __future__ import annotations

from contextlib import contextmanager

from node import ipam, pod_interface, ports, records
from node.cni_request import Attachment, Configuration, Pod, Request, is_port_name
from node.cni_result import make_result, read_previous
from node.errors import (
    CHECK_FAILED,
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    NOT_AVAILABLE,
    TRY_AGAIN,
    CniError,
    NodeError,
)
from node.facts import REVISION_FILE, BridgeFacts, read_facts
from node.health_process import has_ended
from node.links import random_mac
from node.ovsdb import Ovsdb, OvsdbError
from node.quick import TYPE_CHECKING
from node.steps import step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

_LOCK_SECONDS = 30.0  # beyond the time that ADD waits for the policy


def add(request: Request, pod: Pod) -> dict[str, Any]:
    """Attach a container. Returns the result when the pod's policy is in force; otherwise everything is undone."""
    configuration, attachment = request.configuration, request.attachment
    if configuration.previous is not None:
        raise CniError(INVALID_CONFIGURATION, "prevResult: this plugin must be the first of its list")
    with (
        _locked(request) as record,
        pod_interface.open_namespace(request.namespace) as namespace,
        Ovsdb(configuration.ovsdb) as ovsdb,
    ):
        facts = _usable_facts(configuration, ovsdb)
        complete = record.contents.get("complete") is True
        if not complete:
            _undo(ovsdb, attachment.port, request.environment, record)  # what a killed command has left
        if pod_interface.has_interface(namespace, attachment.ifname):
            raise CniError(INVALID_ENVIRONMENT, f"CNI_IFNAME: the container has {attachment.ifname} already")
        if complete:
            _undo(ovsdb, attachment.port, request.environment, record)  # its namespace is another now
        try:
            return _attach(request, pod, record, namespace, ovsdb, facts)
        except (NodeError, OSError) as error:
            raise _undone(error, request, record) from error


def _attach(
    request: Request, pod: Pod, record: records.Record, namespace: int, ovsdb: Ovsdb, facts: BridgeFacts
) -> dict[str, Any]:
    """The steps of ADD."""
    configuration, attachment = request.configuration, request.attachment
    section = ipam.make_section(configuration, facts.pod_cidrs)
    ipam.find_plugin(section, request.environment)  # before there is anything that it would have to release
    contents = {"container": attachment.container, "ifname": attachment.ifname, "pod": str(pod), "ipam": section}
    step()
    record.write(contents)
    step()
    addresses = ipam.allocate(section, attachment, request.environment, record.file, facts.pod_cidrs)
    step()
    mac = random_mac()
    pod_interface.make_pair(attachment, namespace, facts.mtu, mac)
    step()
    pod_interface.configure(attachment, namespace, addresses, facts.userspace)
    step()
    ports.add_port(ovsdb, facts, attachment.port, ports.make_external_ids(attachment, pod, mac, addresses))
    step()
    ports.wait_until_installed(ovsdb, attachment.port, pod, configuration.timeout)
    step()
    record.write({**contents, "complete": True})
    step()
    return make_result(configuration.version, attachment, request.namespace, mac, facts.mtu, addresses)


def _undone(error: Exception, request: Request, record: records.Record) -> CniError:
    """Undo a failed ADD, and return its error; what could not be undone is left to DEL, and said."""
    own = error if isinstance(error, CniError) else CniError(TRY_AGAIN, str(error))
    try:
        with Ovsdb(request.configuration.ovsdb) as ovsdb:
            _undo(ovsdb, request.attachment.port, request.environment, record)
    except (NodeError, OSError) as second:
        return CniError(own.code, str(own), f"{own.details}; DEL has to undo the rest: {second}".lstrip("; "))
    return own


def delete(request: Request) -> None:
    """Detach a container; everything may be gone already. Raises CniError if something must be tried again."""
    port = request.attachment.port
    with _locked(request) as record:
        step()
        try:
            with Ovsdb(request.configuration.ovsdb) as ovsdb:
                _undo(ovsdb, port, request.environment, record)
        except OvsdbError as error:
            pod_interface.remove_pair(port)  # the address stays allocated as long as the OVSDB may have the port
            raise CniError(TRY_AGAIN, str(error)) from None


def _undo(ovsdb: Ovsdb, port: str, environment: Mapping[str, str], record: records.Record) -> None:
    """Remove port, interface, addresses and record of an attachment, as far as they are there."""
    ports.remove_port(ovsdb, port)
    step()
    pod_interface.remove_pair(port)
    step()
    if record.contents:
        owner, section = _recorded(record, port)
        ipam.run("DEL", section, owner, environment, record.file)
        step()
        record.clear()
        step()


def _recorded(record: records.Record, port: str) -> tuple[Attachment, dict[str, Any]]:
    """Whose record this is, and what the IPAM plugin was given. Raises NodeError for what is no record of ours."""
    contents = record.contents
    owner = Attachment(str(contents.get("container")), str(contents.get("ifname")))
    section = contents.get("ipam")
    if owner.port != port or not isinstance(section, dict) or not isinstance(section.get("ipam"), dict):
        raise NodeError(f"the record of {port} cannot be read; delete it when its addresses are released")
    return owner, section


def check(request: Request) -> None:
    """Raise CniError unless the attachment is as ADD left it and its policy is in force."""
    configuration, attachment = request.configuration, request.attachment
    mac, there = read_previous(configuration, attachment)
    with (
        _locked(request) as record,
        pod_interface.open_namespace(request.namespace) as namespace,
        Ovsdb(configuration.ovsdb) as ovsdb,
    ):
        facts = _usable_facts(configuration, ovsdb)
        if record.contents.get("complete") is not True:
            raise CniError(CHECK_FAILED, "there is no record of this attachment: it was never made, or not to its end")
        addresses = [ipam.Address(one, cidr) for one in there for cidr in facts.pod_cidrs if one in cidr]
        if not addresses or len(addresses) != len(there):
            raise CniError(CHECK_FAILED, "an address of the container is in no pod CIDR of this node")
        _check_port(ovsdb, attachment, mac, addresses)
        pod_interface.check(attachment, namespace, addresses, mac)
        owner, section = _recorded(record, attachment.port)
        ipam.run("CHECK", section, owner, request.environment, record.file)


def _check_port(ovsdb: Ovsdb, attachment: Attachment, mac: str, addresses: list[ipam.Address]) -> None:
    port = ports.find_port(ovsdb, attachment.port)
    if port is None or port.attachment != attachment:
        raise CniError(CHECK_FAILED, f"the bridge has no port {attachment.port} of this container")
    ids = port.external_ids
    named = Pod(ids.get("pod-namespace", ""), ids.get("pod-name", ""), ids.get("iface-id-ver", ""))
    wanted = ports.make_external_ids(attachment, named, mac, addresses)
    wrong = sorted(key for key, value in wanted.items() if ids.get(key) != value)
    if wrong:
        raise CniError(CHECK_FAILED, f"external_ids of the port {attachment.port} were changed: {', '.join(wrong)}")
    if ids.get(ports.INSTALLED) != "true":
        raise CniError(CHECK_FAILED, f"the policy of the port {attachment.port} is not in force")


def collect_garbage(configuration: Configuration, environment: Mapping[str, str]) -> None:
    """Remove every attachment that the runtime does not name as valid, by what is left of it: a record, a port or an
    interface. One that a command is at work on is left to it. Raises CniError after all if one could not be removed."""
    if configuration.valid is None:
        raise CniError(INVALID_CONFIGURATION, "cni.dev/valid-attachments: GC needs the list of valid attachments")
    valid = {Attachment(*pair).port for pair in configuration.valid}
    failed: list[str] = []
    with Ovsdb(configuration.ovsdb) as ovsdb:
        left = {port.name for port in ports.list_ports(ovsdb, {})}
        left.update(records.names(configuration.run_dir), filter(is_port_name, pod_interface.list_pairs()))
        for port in sorted(left - valid):
            try:
                with records.locked(configuration.run_dir, port, 0) as record:
                    _undo(ovsdb, port, environment, record)
            except records.BusyError:
                continue
            except (NodeError, OSError) as error:
                failed.append(f"{port}: {error}")
    if failed:
        raise CniError(TRY_AGAIN, f"{len(failed)} attachments could not be removed", "; ".join(failed)[:4000])


def status(configuration: Configuration, environment: Mapping[str, str]) -> None:
    """Raise CniError (not available) unless ADD can be served now."""
    try:
        with Ovsdb(configuration.ovsdb) as ovsdb:
            facts = read_facts(ovsdb, configuration.bridge)
        missing = facts.missing() or _set_up_node(configuration, facts)
        ipam.find_plugin(ipam.make_section(configuration, facts.pod_cidrs), environment)
    except NodeError as error:
        missing = str(error)
    if missing:
        raise CniError(NOT_AVAILABLE, missing)


@contextmanager
def _locked(request: Request) -> Iterator[records.Record]:
    configuration = request.configuration
    with records.locked(
        configuration.run_dir, request.attachment.port, configuration.timeout + _LOCK_SECONDS
    ) as record:
        yield record


def _usable_facts(configuration: Configuration, ovsdb: Ovsdb) -> BridgeFacts:
    """What the controller wrote for this node. Raises CniError (try again) where that is not enough for a pod."""
    try:
        facts = read_facts(ovsdb, configuration.bridge)
    except NodeError as error:
        raise CniError(TRY_AGAIN, str(error)) from None
    if facts.missing():
        raise CniError(TRY_AGAIN, facts.missing())
    missing = _set_up_node(configuration, facts)
    if missing:
        raise CniError(TRY_AGAIN, missing)
    return facts


def _set_up_node(configuration: Configuration, facts: BridgeFacts) -> str:
    """Have headgate-node apply what the controller wrote where that has changed. Returns what is missing, "" if
    nothing is."""
    if not configuration.state_dir:
        return ""
    try:
        with open(f"{configuration.run_dir}/{REVISION_FILE}", encoding="utf-8") as file:
            if file.read(1000) == facts.revision != "" and not has_ended(configuration.run_dir):
                return ""
    except (OSError, ValueError):
        pass  # not applied since the last boot
    from node import apply  # only now: it costs more than all the rest of the plugin

    return "; ".join(apply.ensure(configuration.state_dir))
