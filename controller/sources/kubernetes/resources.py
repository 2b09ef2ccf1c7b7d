"""The resources that Headgate reads from a Kubernetes API, and the parsing of lists and watch events. No requests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from controller.base.printable import printable
from controller.reconcile.problem import Problem
from controller.sources.kubernetes.stream import ApiError
from controller.sources.unit import SourceUnit
from flows.cluster.model import CLUSTER_NETWORK_POLICY, Key
from flows.cluster.original_api import ALPHA_API
from flows.parse.admin_network_policy import ADMIN_POLICY, BASELINE_POLICY, V1ALPHA1
from flows.parse.cluster_network_policy import V1ALPHA2, V1BETA1
from flows.parse.endpoint_slice import SERVICE_NAME_LABEL
from flows.parse.objects import PARSERS_WITH_SERVICES, ParseError, parse_object


class Resource(NamedTuple):
    """One kind of object. `optional`: a server without it is no problem. `older` is the same kind in the version that
    is read where the server does not have this one."""

    group: str  # the beginning of its path
    plural: str
    version: str
    kind: str
    optional: bool = False
    older: Resource | None = None
    namespace: str = ""  # only objects of this one are read, and
    selector: tuple[str, str] = ("", "")  # of these only some: a parameter of lists and watches, and its value

    @property
    def path(self) -> str:
        """The path of the objects of all namespaces, or of the one that is read."""
        return f"{self.group}/namespaces/{self.namespace}/{self.plural}" if self.namespace else self.all_path

    @property
    def all_path(self) -> str:
        """The path of the objects of all namespaces."""
        return f"{self.group}/{self.plural}"

    @property
    def query(self) -> dict[str, str]:
        """The parameters that lists and watches have."""
        parameter, value = self.selector
        return {parameter: value} if parameter else {}

    def object_path(self, name: str) -> str:
        """The path of one object; `name` is `namespace/name`, or `name` for objects without a namespace."""
        namespace, slash, last = name.rpartition("/")
        return f"{self.group}/namespaces/{namespace}/{self.plural}/{last}" if slash else f"{self.all_path}/{last}"


POLICY_RESOURCE = Resource("/apis/networking.k8s.io/v1", "networkpolicies", "networking.k8s.io/v1", "NetworkPolicy")
ORIGINAL_POLICY_RESOURCE = Resource(f"/apis/{ALPHA_API}", "networkpolicys", ALPHA_API, "NetworkPolicy", optional=True)
CLUSTER_POLICY_RESOURCE = Resource(
    f"/apis/{V1BETA1}", "clusternetworkpolicies", V1BETA1, CLUSTER_NETWORK_POLICY, optional=True,
    older=Resource(f"/apis/{V1ALPHA2}", "clusternetworkpolicies", V1ALPHA2, CLUSTER_NETWORK_POLICY, optional=True),
)  # fmt: skip
ADMIN_POLICY_RESOURCE = Resource(f"/apis/{V1ALPHA1}", "adminnetworkpolicies", V1ALPHA1, ADMIN_POLICY, optional=True)
BASELINE_POLICY_RESOURCE = Resource(
    f"/apis/{V1ALPHA1}", "baselineadminnetworkpolicies", V1ALPHA1, BASELINE_POLICY, optional=True
)
CLUSTER_POLICY_RESOURCES = (CLUSTER_POLICY_RESOURCE, ADMIN_POLICY_RESOURCE, BASELINE_POLICY_RESOURCE)
RESOURCES = (
    Resource("/api/v1", "namespaces", "v1", "Namespace"),
    Resource("/api/v1", "nodes", "v1", "Node"),
    Resource("/api/v1", "pods", "v1", "Pod"),
    POLICY_RESOURCE,
    ORIGINAL_POLICY_RESOURCE,
    *CLUSTER_POLICY_RESOURCES,
)
# Read only where the switches translate Services.
SERVICE_RESOURCES = (
    Resource("/api/v1", "services", "v1", "Service"),
    Resource("/apis/discovery.k8s.io/v1", "endpointslices", "discovery.k8s.io/v1", "EndpointSlice"),
    # Served since Kubernetes 1.33; before, the operator says the range.
    Resource("/apis/networking.k8s.io/v1", "servicecidrs", "networking.k8s.io/v1", "ServiceCIDR", optional=True),
)


def resources_of_service(service: Key) -> tuple[Resource, ...]:
    """What is read of the DNS Service where no other Service is read."""
    namespace, name = service
    selectors = (("fieldSelector", f"metadata.name={name}"), ("labelSelector", f"{SERVICE_NAME_LABEL}={name}"))
    return tuple(
        one._replace(namespace=namespace, selector=selector, optional=True)
        for one, selector in zip(SERVICE_RESOURCES, selectors, strict=False)
    )


class Version(NamedTuple):
    """Version of an object: its resourceVersion, which grows with every change in the cluster, and its UID."""

    number: int
    uid: str


class ObjectChange(NamedTuple):
    """A new or changed object, or a deleted one with `unit` None. `name` is `namespace/name` or `name`."""

    name: str
    version: Version
    unit: SourceUnit | None


class Bookmark(NamedTuple):
    """A watch event that says that every change up to resourceVersion `number` was sent."""

    number: int


class ListPage(NamedTuple):
    """One page of a list: the list's resourceVersion, its items as JSON, the `continue` token, "" on the last page."""

    number: int
    items: list[Any]
    token: str


def list_page(body: Any) -> ListPage:
    """Parse the answer to a list request. Raises ApiError."""
    metadata = _object(_object(body, "list").get("metadata"), "metadata")
    items = body.get("items") or []
    if not isinstance(items, list):
        raise ApiError(0, "the server sent no list where one is due")
    return ListPage(number_of(metadata), items, str(metadata.get("continue") or ""))


def read_versions(page: ListPage) -> dict[str, Version]:
    """The versions of all objects, by name. Raises ApiError."""
    return dict(map(identify, page.items))


def read_items(resource: Resource, server: str, page: ListPage, before: Mapping[str, Version]) -> list[ObjectChange]:
    """The objects whose version differs from `before`; the others are not parsed. Raises ApiError."""
    changes = []
    for item in page.items:
        name, version = identify(item)
        if before.get(name) != version:
            # Items of a list have no apiVersion and kind of their own.
            whole = {"apiVersion": resource.version, "kind": resource.kind, **item}
            changes.append(ObjectChange(name, version, read_unit(resource, server, name, whole)))
    return changes


def read_events(resource: Resource, server: str, lines: Iterable[bytes]) -> list[ObjectChange | Bookmark]:
    """Parse lines of a watch. Raises ApiError for a malformed line, and for an ERROR event with its status code."""
    found: list[ObjectChange | Bookmark] = []
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            raise ApiError(0, "the watch sent what is not JSON") from None
        event = _object(event, "event")
        kind, body = event.get("type"), _object(event.get("object"), "object")
        if kind == "ERROR":
            code, message = body.get("code"), str(body.get("message") or body.get("reason") or "the watch failed")
            raise ApiError(code if isinstance(code, int) else 0, printable(message))
        if kind == "BOOKMARK":
            found.append(Bookmark(number_of(_object(body.get("metadata"), "bookmark"))))
        elif kind in ("ADDED", "MODIFIED", "DELETED"):
            name, version = identify(body)
            unit = None if kind == "DELETED" else read_unit(resource, server, name, body)
            found.append(ObjectChange(name, version, unit))
    return found


def read_unit(resource: Resource, server: str, name: str, body: object) -> SourceUnit:
    """Parse one object; its problems are in the unit."""
    where = server + resource.object_path(name)
    try:
        found = parse_object(body, PARSERS_WITH_SERVICES)
    except ParseError as error:
        return SourceUnit((), tuple(Problem(where, error.key, one.field, one.reason) for one in error.errors))
    if found is None:
        return SourceUnit()
    return SourceUnit((found,), tuple(Problem(where, str(found), one.field, one.reason) for one in found.errors))


def identify(body: object) -> tuple[str, Version]:
    """Name and version of an object. Raises ApiError when it has none."""
    metadata = _object(_object(body, "object").get("metadata"), "metadata")
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or not name:
        raise ApiError(0, "the server sent an object without a name")
    whole = f"{namespace}/{name}" if namespace else name
    return printable(whole), Version(number_of(metadata), str(metadata.get("uid") or ""))


def number_of(metadata: Mapping[str, Any]) -> int:
    """The resourceVersion: API servers that keep objects in etcd give a decimal number that grows. Raises ApiError."""
    text = str(metadata.get("resourceVersion") or "")
    if not text.isdecimal():
        raise ApiError(0, f"the server sent the resourceVersion {printable(text)[:40]!r}, which is no number")
    return int(text)


def _object(body: object, what: str) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise ApiError(0, f"the server sent no {what} where one is due")
    return body
