"""The original network policy API restated: what its policies come to as plain ones, kept as namespaces change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from flows.cluster.model import (
    EVERYTHING,
    NETWORK_POLICY,
    Direction,
    Key,
    Namespace,
    OriginalApi,
    Policy,
)

ALPHA_API = "net.alpha.kubernetes.io/v1alpha1"
BETA_API = "extensions/v1beta1"
ALPHA_ANNOTATION = "net.alpha.kubernetes.io/network-isolation"
BETA_ANNOTATION = "net.beta.kubernetes.io/network-policy"
ORIGINAL_KINDS = MappingProxyType(
    {OriginalApi.ALPHA: f"{NETWORK_POLICY}.net.alpha.kubernetes.io", OriginalApi.BETA: f"{NETWORK_POLICY}.extensions"}
)
_INGRESS = frozenset({Direction.INGRESS})
_NO_API: frozenset[OriginalApi] = frozenset()


@dataclass(frozen=True, slots=True)
class OriginalPolicy:
    """A policy of the original API. `key` is its own name.

    `active` is what it comes to in a namespace that isolates in its form, `inactive` in any other: it isolates nothing
    and its rules do not count, but it is still there to be seen. Their name says the form, `alpha:pol1`, which no
    object's name can be.
    """

    api: OriginalApi
    key: Key
    active: Policy
    inactive: Policy

    @property
    def kind(self) -> str:
        """Kind and group, which tell it from a v1 policy of the same name."""
        return ORIGINAL_KINDS[self.api]


def all_policies(
    policies: Mapping[Key, Policy], original: Iterable[OriginalPolicy], namespaces: Iterable[Namespace]
) -> Mapping[Key, Policy]:
    """Every policy of a snapshot as a plain one: `policies` as they are, and what the original API adds.

    Where it adds nothing, `policies` itself comes back. An unchanged namespace or object gives the very same values.
    """
    isolated = {namespace.name: namespace.isolation for namespace in namespaces if namespace.isolation}
    added = _added(isolated, original)
    return MappingProxyType({**policies, **added}) if added else policies


def _added(isolated: Mapping[str, frozenset[OriginalApi]], original: Iterable[OriginalPolicy]) -> dict[Key, Policy]:
    added: dict[Key, Policy] = {}
    for name, apis in isolated.items():
        for api in apis:
            policy = isolation_policy(name, api)
            added[policy.key] = policy
    for one in original:
        policy = one.active if one.api in isolated.get(one.key.namespace, ()) else one.inactive
        added[policy.key] = policy
    return added


class OriginalPolicyTranslation:
    """What `all_policies` adds, kept namespace by namespace as objects change."""

    def __init__(self) -> None:
        self._isolation: dict[str, frozenset[OriginalApi]] = {}
        self._objects: dict[str, dict[tuple[str, Key], OriginalPolicy]] = {}
        self._added: dict[str, dict[Key, Policy]] = {}

    def update(self, changed: Mapping[str, Mapping[Any, object]]) -> dict[Key, Policy | None]:
        """Objects that changed, by kind and name, None where one is gone. Returns the policies that differ likewise."""
        concerned: set[str] = set()
        for name, namespace in changed.get("Namespace", {}).items():
            isolation = namespace.isolation if isinstance(namespace, Namespace) else _NO_API
            if isolation != self._isolation.get(name, _NO_API):
                concerned.add(name)
                self._isolation[name] = isolation
                if not isolation:
                    del self._isolation[name]
        for kind in ORIGINAL_KINDS.values():
            for key, one in changed.get(kind, {}).items():
                there = self._objects.setdefault(key.namespace, {})
                if isinstance(one, OriginalPolicy):
                    there[kind, key] = one
                else:
                    there.pop((kind, key), None)
                concerned.add(key.namespace)
        found: dict[Key, Policy | None] = {}
        for name in concerned:
            found.update(self._renew(name))
        return found

    def _renew(self, name: str) -> dict[Key, Policy | None]:
        apis = self._isolation.get(name, _NO_API)
        objects = self._objects.get(name, {})
        now = _added({name: apis} if apis else {}, objects.values())
        before = self._added.pop(name, {})
        if now:
            self._added[name] = now
        if not objects:
            self._objects.pop(name, None)
        return {key: now.get(key) for key in before.keys() | now.keys() if before.get(key) != now.get(key)}


@lru_cache(1 << 14)
def isolation_policy(namespace: str, api: OriginalApi) -> Policy:
    """What isolates every pod of a namespace for ingress. It is called `isolation:alpha` or `isolation:beta`."""
    return Policy(Key(namespace, f"isolation:{api.value}"), EVERYTHING, _INGRESS)
