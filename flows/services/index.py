"""The ports of all Services with their frontends and backends, kept as Services and slices change.

A change costs the endpoints of the Services that it touches: one slice changes, and only its Service is merged again.
Which of the backends a node uses is decided in `choice`, for each node; `reference` computes the same from nothing.

Example. Service `shop/web` has the cluster IP 10.96.0.5 and two slices. `put_slice` with a new endpoint in one of them
marks `shop/web`; `take_changes` merges its two slices and returns `{shop/web}`, whose `ports` now have that endpoint.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator

from flows.cluster.model import EndpointSlice, Key, Service
from flows.services.frontends import Claim, Frontend, claims_of
from flows.services.served import ServedPort, serve


class ServiceIndex:
    """`problems` has, by Service, what the operator must know: frontends of stronger claims, endpoints left out."""

    def __init__(self) -> None:
        self.problems: dict[Key, tuple[str, ...]] = {}
        self._services: dict[Key, Service] = {}
        self._slices: dict[Key, dict[Key, EndpointSlice]] = {}  # by the key of the Service, then by their own
        self._service_of: dict[Key, Key] = {}  # of slices
        self._claims: dict[Frontend, list[Claim]] = {}  # sorted; the first has the frontend
        self._ports: dict[Key, tuple[ServedPort, ...]] = {}
        self._stale: set[Key] = set()

    def __iter__(self) -> Iterator[Key]:
        """The Services that have ports, as of the last `take_changes`."""
        return iter(self._ports)

    def ports(self, key: Key) -> tuple[ServedPort, ...]:
        """The ports of a Service as of the last `take_changes`; none for one without translation."""
        return self._ports.get(key, ())

    def put_service(self, key: Key, service: Service | None) -> None:
        """A Service is new or has changed, or is gone (None)."""
        before = dict(_claims(self._services.get(key)))
        after = dict(_claims(service))
        if service is None:
            self._services.pop(key, None)
        else:
            self._services[key] = service
        for frontend, claim in before.items():
            if after.get(frontend) != claim:
                self._release(frontend, claim)
        for frontend, claim in after.items():
            if before.get(frontend) != claim:
                self._claim(frontend, claim)
        self._stale.add(key)

    def put_slice(self, key: Key, found: EndpointSlice | None) -> None:
        """A slice is new or has changed, or is gone (None)."""
        before = self._service_of.pop(key, None)
        if before is not None:
            slices = self._slices[before]
            del slices[key]
            if not slices:
                del self._slices[before]
            self._stale.add(before)
        if found is None or not found.service or not found.proxied:
            return
        service = Key(key.namespace, found.service)
        self._service_of[key] = service
        self._slices.setdefault(service, {})[key] = found
        self._stale.add(service)

    def take_changes(self) -> set[Key]:
        """The Services whose ports differ since the last call."""
        changed = set()
        for key in self._stale:
            try:
                ports = self._serve(key)
            except Exception as error:  # noqa: BLE001 - it concerns this Service and no other
                ports = ()
                reason = f"its ports cannot be worked out, so it has none: {type(error).__name__}: {error}"
                self.problems[key] = (reason,)
            if ports == self._ports.get(key, ()):
                continue
            changed.add(key)
            if ports:
                self._ports[key] = ports
            else:
                del self._ports[key]
        self._stale.clear()
        return changed

    # -- frontends ---------------------------------------------------------------------------------------------------

    def _claim(self, frontend: Frontend, claim: Claim) -> None:
        claims = self._claims.setdefault(frontend, [])
        insort(claims, claim)
        self._stale.update(one.service for one in claims[:2])

    def _release(self, frontend: Frontend, claim: Claim) -> None:
        claims = self._claims[frontend]
        claims.remove(claim)
        if claims:
            self._stale.add(claims[0].service)
        else:
            del self._claims[frontend]

    # -- ports -------------------------------------------------------------------------------------------------------

    def _serve(self, key: Key) -> tuple[ServedPort, ...]:
        service = self._services.get(key)
        if service is None or not service.proxied or not service.cluster_ips:
            self.problems.pop(key, None)
            return ()
        problems: list[str] = []
        ports = tuple(serve(service, self._slices.get(key, {}).values(), self._owner, problems))
        if problems:
            self.problems[key] = tuple(problems)
        else:
            self.problems.pop(key, None)
        return ports

    def _owner(self, frontend: Frontend) -> Claim:
        return self._claims[frontend][0]


def _claims(service: Service | None) -> Iterable[tuple[Frontend, Claim]]:
    """What a Service claims: of one frontend its strongest claim only, as an external address may repeat another."""
    if service is None or not service.proxied:
        return ()
    found: dict[Frontend, Claim] = {}
    for frontend, claim in claims_of(service):
        found[frontend] = min(claim, found.get(frontend, claim))
    return found.items()
