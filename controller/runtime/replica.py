"""This controller as one of several replicas: its Lease, and what is shown of it in /metrics. Wiring, no decisions."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

from controller.base.errors import StartError
from controller.base.version import version
from controller.config.addresses import format_address, is_loopback, is_tls
from controller.config.schema import RunConfig
from controller.metrics.registry import Metrics
from controller.openflow.app import HeadgateApp
from controller.ovsdb.service import Ovsdb
from controller.reconcile.events import Event
from controller.reconcile.ownership import Member
from controller.reconcile.reconciler import Reconciler
from controller.replicas.lease_client import LeaseClient
from controller.replicas.leases import MemberLease
from controller.replicas.member import ReplicaMember
from controller.runtime.locked_reconciler import LockedReconciler
from controller.sources.source import SourceError
from controller.sources.store import Store

_WILDCARDS = ("0.0.0.0", "::")
REREAD_SECONDS = 10.0  # for one attempt to read all objects anew


def make_member(
    config: RunConfig,
    post: Callable[[Event], None],
    reconciler: LockedReconciler,
    ovsdb: Ovsdb,
    openflow: HeadgateApp,
    store: Store,
) -> ReplicaMember | None:
    """This controller's place among the replicas; None where there can be no others. Raises StartError."""
    options = config.replica_options
    if options is None or config.kubeconfig is None:
        return None
    leases = LeaseClient(config.kubeconfig, options.lease)
    try:
        leases.load()
    except SourceError as error:
        raise StartError(str(error)) from error
    here = _address_towards(leases.server)
    listener = openflow.addresses[0]
    host = here if listener.host in _WILDCARDS else listener.host
    http = config.http_address
    own = MemberLease(
        Member(options.name, uuid.uuid4().hex),
        options.lease,
        http=str(http._replace(host=here) if http.host in _WILDCARDS else http) if http.port else "",
        openflow=format_address("ssl" if is_tls(config.openflow_listen) else "tcp", host, listener.port),
        build=version(),
    )
    return ReplicaMember(
        leases,
        own,
        options.renew,
        post=post,
        ready=lambda: reconciler.is_started,
        catch_up=partial(_catch_up, store, reconciler),
        set_others=ovsdb.set_replicas,
    )


def _catch_up(store: Store, reconciler: LockedReconciler, done: Callable[[], None]) -> None:
    """Have all sources read again in a thread of its own, and call `done` once the reconciler has their objects."""

    def read() -> None:
        while True:
            try:
                generation = store.reread(REREAD_SECONDS)
                break
            except TimeoutError:
                continue  # the API server is away again
        while reconciler.generation < generation:
            reconciler.wait_for_batch(1.0)
        done()

    threading.Thread(target=read, name="catch-up", daemon=True).start()


def _address_towards(server: str) -> str:
    """This machine's address on the way to the API server, by which others are likely to reach it too."""
    parts = urlsplit(server)
    host = parts.hostname or "127.0.0.1"
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(where)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1" if is_loopback(host) else socket.gethostname()


def set_replica_gauges(metrics: Metrics, member: ReplicaMember, reconciler: LockedReconciler) -> None:
    """Set the gauges of the replicas, as this one knows them."""
    if member.alone:
        metrics.replicas(0, 0, 0, 0.0)
    else:
        view = member.view
        alive = sum(one.age < one.lease.seconds for one in member.members())
        age = time.monotonic() - member.renewed if member.renewed is not None else 0.0
        metrics.replicas(len(view.members) if view else 0, alive, view.epoch if view else 0, age)

    def look(found: Reconciler, _: float) -> tuple[int, int, int]:
        refused, found.roles.refused = found.roles.refused, 0
        return len(found.roles.wanted), found.roles.taking_over, refused

    metrics.roles(*reconciler.read(look, 5.0))
