"""Measures how long `headgate run` holds DNS answers, and what a flood of forged ones does: 2,000 answers a second to
20 pods behind a real switch, from a server outside, with a policy of names. Needs root.

The delay is from the server to the pod: through the switch, the controller, a bundle for what is new, and the switch
again. Beside it stands that of pods that no rule with names selects, whose answers only the switch delays. Then the
pods connect: to what they were told, to what others were told, and to what only liars told.
"""

from __future__ import annotations

import ipaddress
import json
import multiprocessing
import os
import select
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bench import dns_traffic
from bench.dns_traffic import FORGED, HONEST, LIES, PORT, Asker, Heard
from bench.result import Result, cpu_of, quantile
from flows.pipeline.tables import ADMIN_EGRESS
from topology.host import process
from topology.host.netns import in_thread, inside
from topology.lab.lab import Lab
from topology.spec.load import check_topology

PODS, OTHERS = 20, 4
RATE = 2000  # honest answers a second
SECONDS = 10.0
FORGED_RATE = 2000  # lies a second from the server's address; two thirds of them get to the controller
WRONG_SERVER_RATE, OTHERS_RATE = 200, 200
WEB_PORT = 8443
CONNECT_SECONDS = 3.0
_SPAWN = multiprocessing.get_context("spawn")


def measure_dns(scale: float) -> list[Result]:
    """Measure for ten seconds each at the full size, for one at a tenth of it."""
    seconds = max(1.0, SECONDS * scale)
    lab = _lab()
    try:
        lab.up("userspace")
        with _process(dns_traffic.serve, lab.netns("external:dns"), HONEST), _web(lab):
            return _measure(lab, seconds)
    finally:
        lab.down()


def _measure(lab: Lab, seconds: float) -> list[Result]:
    server = lab.endpoints["external:dns"].addresses[4]
    plain = Asker(_places(lab, "y", OTHERS), server)
    asker = Asker(_places(lab, "x", PODS), server)
    for one in (asker, plain):
        _warm(one)
    reference = quantile(plain.ask(RATE, seconds).delays, 0.99)
    found, last = [], None
    for what, known in (("new addresses", False), ("known addresses", True)):
        before = _cpu(lab)
        last = asker.ask(RATE, seconds, known)
        found += _results(what, last, reference, _cpu(lab) - before)
    with _flood(lab, asker):
        time.sleep(0.5)
        before = _cpu(lab)
        last = asker.ask(RATE, seconds)
        found += _results("new addresses, beside forged answers", last, reference, _cpu(lab) - before)
    return [*found, *_opened(lab, last)]


def _warm(asker: Asker) -> None:
    """Until the server runs, and everybody knows the others' MAC addresses."""
    until = time.monotonic() + 60
    while len((heard := asker.ask(RATE // 4, 1.0)).delays) < heard.asked:
        if time.monotonic() > until:
            raise RuntimeError(f"of {heard.asked} answers {len(heard.delays)} came")


def _cpu(lab: Lab) -> Counter[str]:
    """The CPU seconds of controller and switch so far."""
    return Counter({one.role: cpu_of(one.pid) for one in process.find(lab.folder)})


def _results(what: str, heard: Heard, reference: float, spent: Counter[str]) -> list[Result]:
    name = f"DNS answer held, {RATE:,} a second, {what}"
    more: dict[str, float | str] = {
        "p50 ms": 1e3 * quantile(heard.delays, 0.5),
        "most ms": 1e3 * max(heard.delays),
        "answers": float(len(heard.delays)),
        **{f"µs CPU an answer, {role}": 1e6 * seconds / len(heard.delays) for role, seconds in spent.items()},
    }
    return [
        Result(f"{name}, p99", 1e3 * quantile(heard.delays, 0.99), "ms", bar=20.0, more=more,
               against="not held, in the same run", reference=1e3 * reference),
        Result(f"{name}, lost", float(heard.asked - len(heard.delays)), "answers", bar=0.0),
    ]  # fmt: skip


# -- what was opened ---------------------------------------------------------------------------------------------------


def _opened(lab: Lab, heard: Heard) -> list[Result]:
    """Every pod connects to what it heard last, to what its neighbour heard, and to what liars said."""
    places = _places(lab, "x", PODS)
    own = [(place, HONEST + one) for place, last in zip(places, heard.last, strict=True) for one in last]
    foreign = [(place, HONEST + one) for place, last in zip(places, heard.last[1:], strict=False) for one in last]
    lies = [(place, FORGED + kind) for place in places for kind in LIES.values()]
    flows = lab.nodes["node-1"].ofctl("dump-flows", f"table={ADMIN_EGRESS.number}").splitlines()
    block = str(ipaddress.ip_address(FORGED)).removesuffix("0")
    return [
        Result("honest addresses that the last answers gave, not open", float(len(own) - _connects(own)),
               "connections", bar=0.0, more={"tried": float(len(own))}),
        Result("opened by forged answers, or by another pod's", float(_connects(foreign) + _connects(lies)),
               "connections", bar=0.0,
               more={"tried": float(len(foreign) + len(lies)), "flows": sum(block in flow for flow in flows)}),
    ]  # fmt: skip


def _connects(wanted: Iterable[tuple[Path, int]]) -> int:
    """How many of these connections are made, all at once."""
    poll, waiting = select.poll(), {}
    for place, address in wanted:
        with inside(place):
            one = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        one.connect_ex((str(ipaddress.ip_address(address)), WEB_PORT))
        waiting[one.fileno()] = one
        poll.register(one, select.POLLOUT)
    made, until = 0, time.monotonic() + CONNECT_SECONDS
    while waiting and time.monotonic() < until:
        for descriptor, _ in poll.poll(100):
            one = waiting.pop(descriptor)
            made += not one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            poll.unregister(descriptor)
            one.close()
    for one in waiting.values():
        one.close()
    return made


# -- the lab ---------------------------------------------------------------------------------------------------------


def _lab() -> Lab:
    pods = [{"namespace": space, "name": f"p{n}", "node": "node-1"}
            for space, count in (("x", PODS), ("y", OTHERS)) for n in range(count)]  # fmt: skip
    raw = {"name": f"dns{os.getpid()}", "families": [4], "ports": [80], "nodes": [{"name": "node-1"}],
           "namespaces": [{"name": "x", "labels": {"ns": "x"}}, {"name": "y"}], "pods": pods,
           "externals": [{"name": "dns"}, {"name": "web"}]}  # fmt: skip
    lab = Lab(check_topology(raw, "bench"))
    lab.environment = {"HEADGATE_DNS_SERVER": lab.endpoints["external:dns"].addresses[4]}
    return lab


def _policy(lab: Lab) -> dict[str, Any]:
    """Pods of x reach *.example.com, and may ask the server, and the machine that has the addresses."""
    servers = [f"{lab.endpoints[f'external:{one}'].addresses[4]}/32" for one in ("dns", "web")]
    spec = {
        "tier": "Admin", "priority": 1, "subject": {"namespaces": {"matchLabels": {"ns": "x"}}},
        "egress": [
            {"action": "Accept", "to": [{"networks": servers}],
             "protocols": [{"udp": {"destinationPort": {"number": PORT}}}]},
            {"action": "Accept", "to": [{"domainNames": ["*.example.com"]}]},
            {"action": "Deny", "to": [{"networks": ["0.0.0.0/0"]}]},
        ],
    }  # fmt: skip
    return {"apiVersion": "policy.networking.k8s.io/v1beta1", "kind": "ClusterNetworkPolicy",
            "metadata": {"name": "names"}, "spec": spec}  # fmt: skip


def _places(lab: Lab, namespace: str, count: int) -> list[Path]:
    return [lab.netns(f"{namespace}/p{number}") for number in range(count)]


@contextmanager
def _process(work: Callable[..., None], *arguments: Any) -> Iterator[BaseProcess]:
    made = _SPAWN.Process(target=work, args=arguments, daemon=True)
    made.start()
    try:
        yield made
    finally:
        made.kill()
        made.join()


@contextmanager
def _web(lab: Lab) -> Iterator[None]:
    """The machine that has all addresses, honest and forged; it also lies to who asks it."""
    place = lab.netns("external:web")

    def listen() -> socket.socket:
        with inside(place):
            for block in ("44.0.0.0/8", "198.51.100.0/24"):
                subprocess.run(("ip", "route", "add", "local", block, "dev", "lo"), check=True)
            return socket.create_server(("0.0.0.0", WEB_PORT), backlog=4096)

    with in_thread(listen), _process(dns_traffic.serve, place, FORGED):
        lab.apply(json.dumps(_policy(lab)), "bench")
        yield


@contextmanager
def _flood(lab: Lab, asker: Asker) -> Iterator[None]:
    """Lies from the server's own address to ports that wait, to others, in one piece and in several; those of a server
    that is none, which the pods ask; and true ones, asked for by pods that are no subjects."""
    addresses = [lab.endpoints[f"x/p{number}"].addresses[4] for number in range(PODS)]
    victims = list(zip(addresses, asker.ports(), strict=True))
    dns, web = (lab.endpoints[f"external:{one}"].addresses[4] for one in ("dns", "web"))
    subjects, others = _places(lab, "x", PODS), _places(lab, "y", OTHERS)
    with (
        _process(dns_traffic.lie, lab.netns("external:dns"), victims, FORGED_RATE),
        _process(dns_traffic.ask_for_ever, subjects, web, WRONG_SERVER_RATE),
        _process(dns_traffic.ask_for_ever, others, dns, OTHERS_RATE),
    ):
        yield
