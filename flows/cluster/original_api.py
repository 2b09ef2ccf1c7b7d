"""The original network policy API translated into plain Policies, also incrementally as namespaces change.

A namespace that isolates in some version becomes one policy that isolates all its pods; each object of that version
becomes a policy that only allows. `all_policies` does it from nothing, OriginalPolicyTranslation incrementally; tests
hold the two equal. Example: namespace x has the beta annotation, and a beta policy p. Translated they are
`x/isolation:beta`, which isolates for ingress, and `x/beta:p`, with the rules of p. Without the annotation only an
inactive `x/beta:p` is left, without effect.
"""

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

    `active` is its translation in a namespace that isolates by its version of the API; `inactive` is that in any other
    namespace, which isolates nothing and allows nothing, so that the status still shows the policy. Both are named by
    version and name, as in `alpha:pol1`, which no object can be called.
    """

    api: OriginalApi
    key: Key
    active: Policy
    inactive: Policy

    @property
    def kind(self) -> str:
        """Kind and group, which distinguish it from a v1 policy of the same name."""
        return ORIGINAL_KINDS[self.api]


def all_policies(
    policies: Mapping[Key, Policy], original: Iterable[OriginalPolicy], namespaces: Iterable[Namespace]
) -> Mapping[Key, Policy]:
    """All policies of a snapshot: `policies` unchanged, and the translations of the original API.

    Without any translation, `policies` itself is returned. An unchanged namespace or object gives identical values.
    """
    isolated = {namespace.name: namespace.isolation for namespace in namespaces if namespace.isolation}
    added = _translations(isolated, original)
    return MappingProxyType({**policies, **added}) if added else policies


def _translations(
    isolated: Mapping[str, frozenset[OriginalApi]], original: Iterable[OriginalPolicy]
) -> dict[Key, Policy]:
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
    """The translations that `all_policies` adds, kept for each namespace as objects change."""

    def __init__(self) -> None:
        self._isolation: dict[str, frozenset[OriginalApi]] = {}
        self._objects: dict[str, dict[tuple[str, Key], OriginalPolicy]] = {}
        self._translated: dict[str, dict[Key, Policy]] = {}

    def update(self, changed: Mapping[str, Mapping[Any, object]]) -> dict[Key, Policy | None]:
        """Apply changed objects, by kind and name, None for a deleted one. Returns the translations that changed, also
        with None."""
        affected: set[str] = set()
        for name, namespace in changed.get("Namespace", {}).items():
            isolation = namespace.isolation if isinstance(namespace, Namespace) else _NO_API
            if isolation != self._isolation.get(name, _NO_API):
                affected.add(name)
                self._isolation[name] = isolation
                if not isolation:
                    del self._isolation[name]
        for kind in ORIGINAL_KINDS.values():
            for key, one in changed.get(kind, {}).items():
                in_namespace = self._objects.setdefault(key.namespace, {})
                if isinstance(one, OriginalPolicy):
                    in_namespace[kind, key] = one
                else:
                    in_namespace.pop((kind, key), None)
                affected.add(key.namespace)
        found: dict[Key, Policy | None] = {}
        for name in affected:
            found.update(self._translate(name))
        return found

    def _translate(self, name: str) -> dict[Key, Policy | None]:
        apis = self._isolation.get(name, _NO_API)
        objects = self._objects.get(name, {})
        now = _translations({name: apis} if apis else {}, objects.values())
        before = self._translated.pop(name, {})
        if now:
            self._translated[name] = now
        if not objects:
            self._objects.pop(name, None)
        return {key: now.get(key) for key in before.keys() | now.keys() if before.get(key) != now.get(key)}


@lru_cache(1 << 14)
def isolation_policy(namespace: str, api: OriginalApi) -> Policy:
    """The policy that isolates every pod of a namespace for ingress, named `isolation:alpha` or `isolation:beta`."""
    return Policy(Key(namespace, f"isolation:{api.value}"), EVERYTHING, _INGRESS)
