"""The HTTP pages of a running controller: check a request, ask the controller, encode the answer. They change nothing.

Requests are untrusted: unknown paths, parameters, methods and bodies are refused, the Host header is only checked, and
the number of requests that each page serves at once is bounded. Connections: see `server`. The data: see
`status.model.StatusApi`.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from pydantic import TypeAdapter
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    ServiceUnavailable,
)
from werkzeug.wrappers import Request, Response

from controller.base.near_names import did_you_mean
from controller.base.threads import ended_threads, log_ended_threads
from controller.http.audit_pages import AUDIT_PARAMETERS, AUDIT_PLACES, DROPS_PARAMETERS, LAST_EVENT_ID, AuditPages
from controller.http.long_answers import StatusEncoder, encoded_list, exposition
from controller.http.requests import (
    MAX_PARAMETER,
    HttpPage,
    check_act,
    check_host,
    error_answer,
    in_place,
    json_answer,
    json_bytes,
    json_parts,
    read_number,
    read_parameters,
)
from controller.status.detail_model import (
    BadQuestion,
    ConditionsPart,
    DetailedStatusApi,
    Live,
    PodDetail,
    PolicyDetail,
    SupportView,
    UnknownObject,
)
from controller.status.model import FlowView, SwitchUnavailable, UnknownNode, WaitResult
from controller.status.verify_model import MAX_CONNECTIONS, VerifyView
from flows.explain.model import Explanation

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

MAX_WAIT = 600.0  # seconds; a client that wants to wait longer asks again
DEFAULT_WAIT = 30.0
MISSING_HEADER = "Headgate-Missing"  # header of /flows: a JSON list of switches that did not answer, and why
MAX_MISSING_BYTES = 4096  # bytes
WAIT_JSON = TypeAdapter(WaitResult)
CONDITIONS_JSON = TypeAdapter(ConditionsPart)
FLOWS_JSON = TypeAdapter(tuple[FlowView, ...])
POD_JSON = TypeAdapter(PodDetail)
POLICY_JSON = TypeAdapter(PolicyDetail)
SUPPORT_JSON = TypeAdapter(SupportView)
EXPLANATION_JSON = TypeAdapter(Explanation)
VERIFY_JSON = TypeAdapter(VerifyView)
POLICY_PATH = "/policies/"
OBJECT_KEY = "key"  # the parameter with an object's NAMESPACE/NAME, from the path


class MorePages(Protocol):
    """Pages that look after their requests themselves: those for a browser."""

    def takes(self, path: str) -> bool:
        """Whether a path is one of them."""

    def body_limit(self, method: str, path: str) -> int:
        """How many bytes the body of a request may have."""

    def answer(self, request: Request) -> Response:
        """Answer a request, whose Host header was checked. Raises HTTPException."""


class Application:
    """The WSGI application. `loopback`: the server listens on loopback only. `ui` are the pages for a browser."""

    def __init__(
        self, api: DetailedStatusApi, registry: CollectorRegistry, loopback: bool, ui: MorePages | None = None
    ) -> None:
        self._api = api
        self._ui = ui
        self._registry = registry
        self._loopback = loopback
        self._encoder = StatusEncoder()
        audit = AuditPages(lambda: api.audit)
        self._pages = {
            "/healthz": HttpPage(self._healthz, threading.BoundedSemaphore(64)),
            "/readyz": HttpPage(self._readyz, threading.BoundedSemaphore(64)),
            "/status": HttpPage(self._status, threading.BoundedSemaphore(8), parameters=("local",)),
            "/metrics": HttpPage(self._metrics, threading.BoundedSemaphore(8)),
            "/wait": HttpPage(
                self._wait, threading.BoundedSemaphore(64), ("GET", "HEAD", "POST"), ("timeout", "local")
            ),
            "/flows": HttpPage(self._flows, threading.BoundedSemaphore(4), parameters=("node", "pod", "policy")),
            "/explain": HttpPage(
                self._explain,
                threading.BoundedSemaphore(4),
                parameters=("source", "destination", "port", "version", "switches"),
            ),
            "/probe": HttpPage(
                self._probe,
                threading.BoundedSemaphore(1),
                ("POST",),
                ("source", "destination", "port", "version", "deliver"),
                acts=True,
            ),
            "/conditions": HttpPage(self._conditions, threading.BoundedSemaphore(4)),
            "/cluster": HttpPage(self._cluster, threading.BoundedSemaphore(2)),
            "/verify": HttpPage(self._verify, threading.BoundedSemaphore(1), parameters=("node", "count", "seed")),
            "/support": HttpPage(self._support, threading.BoundedSemaphore(2)),
            "/audit": HttpPage(audit.audit, threading.BoundedSemaphore(AUDIT_PLACES), ("GET",), AUDIT_PARAMETERS),
            "/drops": HttpPage(audit.drops, threading.BoundedSemaphore(2), parameters=DROPS_PARAMETERS),
        }
        # Pages of one object: its NAMESPACE/NAME follows in the path.
        self._objects = {
            "/pods/": HttpPage(self._pod, threading.BoundedSemaphore(4)),
            POLICY_PATH: HttpPage(self._policy, threading.BoundedSemaphore(4)),
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        """Answer one request (PEP 3333)."""
        request = Request(environ)
        try:
            response = self._answer(request)
        except HTTPException as error:
            response = error_answer(error)
        except Exception:
            # The client gets no internals; the log has them.
            log.exception("request for %s failed", request.path)
            response = json_answer({"error": "internal error; see the controller's log"}, 500)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response(environ, start_response)

    def body_limit(self, method: str, path: str) -> int:
        """How many bytes the body of a request may have: 0 but for the one that the page for a browser sends."""
        return self._ui.body_limit(method, path) if self._ui is not None else 0

    def _answer(self, request: Request) -> Response:
        check_host(request.environ.get("HTTP_HOST", ""), self._loopback)
        if self._ui is not None and self._ui.takes(request.path):
            return self._ui.answer(request)
        if request.environ.get("HTTP_TRANSFER_ENCODING") or (request.content_length or 0) > 0:
            raise RequestEntityTooLarge("requests must not have a body")
        page, named = self._pages.get(request.path), dict[str, str]()
        for start, one in self._objects.items():
            if request.path.startswith(start):
                page, named = one, {OBJECT_KEY: _object(request.path.removeprefix(start), start == POLICY_PATH)}
        if page is None:
            paths = [*self._pages, *(f"{start}NAMESPACE/NAME" for start in self._objects)]
            raise NotFound(f"no such page; the pages are {', '.join(paths)}")
        if request.method not in page.methods:
            raise MethodNotAllowed(page.methods, f"{request.path} takes {', '.join(page.methods)}")
        if page.acts:
            check_act(request, self._loopback)
        parameters = read_parameters(request, page.parameters)
        if "after" in page.parameters and (last := request.headers.get("Last-Event-ID")):
            parameters[LAST_EVENT_ID] = last
        return in_place(page.slots, lambda: page.handler(parameters | named))

    def _healthz(self, _: Mapping[str, str]) -> Response:
        log_ended_threads()
        missed = ended_threads()
        found = {"status": "failed", "gone": list(missed)} if missed else {"status": "ok"}
        return json_answer(found, 503 if missed else 200)

    def _readyz(self, _: Mapping[str, str]) -> Response:
        missing = self._api.ready()
        return json_answer({"ready": not missing, "waiting_for": missing}, 503 if missing else 200)

    def _status(self, parameters: Mapping[str, str]) -> Response:
        return json_parts([*self._encoder.encode(self._api.status(_is_local(parameters))), b"\n"])

    def _metrics(self, _: Mapping[str, str]) -> Response:
        encode, content_type = choose_encoder("")
        return Response(exposition(self._registry, encode), content_type=content_type)

    def _wait(self, parameters: Mapping[str, str]) -> Response:
        found = self._api.wait(_timeout(parameters.get("timeout")), _is_local(parameters))
        return json_bytes(WAIT_JSON.dump_json(found))

    def _conditions(self, _: Mapping[str, str]) -> Response:
        return json_bytes(CONDITIONS_JSON.dump_json(self._api.conditions()))

    def _flows(self, parameters: Mapping[str, str]) -> Response:
        pod, policy = _named(parameters, "pod"), _named(parameters, "policy")
        self._check_known(pod, policy)
        try:
            flows, missing = self._api.flows(parameters.get("node"))
        except UnknownNode as error:
            raise NotFound(str(error)) from None
        except SwitchUnavailable as error:
            raise ServiceUnavailable(str(error)) from None
        wanted = (
            flow for flow in flows if (pod is None or pod in flow.pods) and (policy is None or policy in flow.policies)
        )
        response = json_parts(_cut_short_on_errors(encoded_list(FLOWS_JSON, wanted)))
        if missing:
            response.headers[MISSING_HEADER] = json.dumps(_shortened(missing))
        return response

    def _pod(self, parameters: Mapping[str, str]) -> Response:
        try:
            return json_bytes(POD_JSON.dump_json(self._api.pod(parameters[OBJECT_KEY])))
        except UnknownObject as error:
            raise NotFound(str(error)) from None

    def _policy(self, parameters: Mapping[str, str]) -> Response:
        try:
            return json_bytes(POLICY_JSON.dump_json(self._api.policy(parameters[OBJECT_KEY])))
        except UnknownObject as error:
            raise NotFound(str(error)) from None

    def _explain(self, parameters: Mapping[str, str]) -> Response:
        return self._explained(parameters, _flag(parameters, "switches", "1"), Live.NO)

    def _probe(self, parameters: Mapping[str, str]) -> Response:
        return self._explained(parameters, True, Live.DELIVER if _flag(parameters, "deliver", "0") else Live.PROBE)

    def _explained(self, parameters: Mapping[str, str], switches: bool, live: Live) -> Response:
        source, destination = parameters.get("source"), parameters.get("destination")
        version = parameters.get("version")
        if not source or not destination or version not in (None, "4", "6"):
            raise BadRequest("give source and destination, and version 4 or 6 or none")
        family = int(version) if version else None
        try:
            found = self._api.explain(source, destination, parameters.get("port", ""), family, switches, live)
        except BadQuestion as error:
            raise BadRequest(str(error)) from None
        except SwitchUnavailable as error:
            raise ServiceUnavailable(str(error)) from None
        return json_bytes(EXPLANATION_JSON.dump_json(found))

    def _cluster(self, _: Mapping[str, str]) -> Response:
        return json_bytes(self._api.cluster())

    def _verify(self, parameters: Mapping[str, str]) -> Response:
        count, seed = (read_number(parameters, name, default) for name, default in (("count", 500), ("seed", 0)))
        try:
            found = self._api.verify(parameters.get("node"), min(count, MAX_CONNECTIONS), seed)
        except BadQuestion as error:
            raise NotFound(str(error)) from None
        except SwitchUnavailable as error:
            raise ServiceUnavailable(str(error)) from None
        return json_bytes(VERIFY_JSON.dump_json(found))

    def _support(self, _: Mapping[str, str]) -> Response:
        return json_bytes(SUPPORT_JSON.dump_json(self._api.support()))

    def _check_known(self, pod: str | None, policy: str | None) -> None:
        if pod is None and policy is None:
            return
        status = self._api.status()
        if pod is not None and all(pod != one.key for one in status.pods):
            near = did_you_mean(pod, (one.key for one in status.pods))
            raise NotFound(f"no switch has a port of pod {pod}{near or '; `headgate status --pods` lists all pods'}")
        if policy is not None and all(policy != one.key for one in status.policies):
            near = did_you_mean(policy, (one.key for one in status.policies))
            known = near or "; `headgate status --policies` lists all policies"
            raise NotFound(f"there is no policy {policy}{known}")


def _flag(parameters: Mapping[str, str], name: str, default: str) -> bool:
    text = parameters.get(name, default)
    if text not in ("0", "1"):
        raise BadRequest(f"{name} is 0 or 1")
    return text == "1"


def _cut_short_on_errors(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The same parts and a line break. An error ends the connection in the middle: the list has no end, so nobody takes
    it for the whole."""
    try:
        yield from parts
    except SwitchUnavailable as error:
        log.warning("an answer to /flows was cut short: %s", error)
        raise
    except Exception:
        log.exception("an answer to /flows was cut short")
        raise
    yield b"\n"


def _shortened(lines: tuple[str, ...]) -> list[str]:
    """The first lines, as many as fit into MAX_MISSING_BYTES as ASCII JSON, and how many more there are."""
    kept: list[str] = []
    room = MAX_MISSING_BYTES
    for line in lines:
        room -= len(json.dumps(line)) + 2
        if room < 0:
            return [*kept, f"and {len(lines) - len(kept)} more"]
        kept.append(line)
    return kept


def _object(text: str, cluster_wide: bool) -> str:
    """Check the NAMESPACE/NAME at the end of a path, or the name alone of a ClusterNetworkPolicy."""
    if not _is_name(text, cluster_wide):
        raise NotFound(f"the path of an object ends in {'[NAMESPACE/]NAME' if cluster_wide else 'NAMESPACE/NAME'}")
    if len(text) > MAX_PARAMETER:
        raise BadRequest("the name is too long")
    return text


def _timeout(text: str | None) -> float:
    if text is None:
        return DEFAULT_WAIT
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise BadRequest(f"timeout is a number of seconds from 0 to {MAX_WAIT:.0f}")
    return min(seconds, MAX_WAIT)


def _is_local(parameters: Mapping[str, str]) -> bool:
    """Whether only this replica is asked for its part: what replicas ask of each other."""
    if (text := parameters.get("local", "0")) not in ("0", "1"):
        raise BadRequest("local is 0 or 1")
    return text == "1"


def _named(parameters: Mapping[str, str], name: str) -> str | None:
    """The NAMESPACE/NAME of a pod, or that or the name alone of a policy; None where none is asked for."""
    value, cluster_wide = parameters.get(name), name == "policy"
    if value is not None and not _is_name(value, cluster_wide):
        raise BadRequest(f"{name} must be {'[NAMESPACE/]NAME' if cluster_wide else 'NAMESPACE/NAME'}")
    return value


def _is_name(text: str, cluster_wide: bool) -> bool:
    parts = text.split("/")
    return all(parts) and len(parts) in ((1, 2) if cluster_wide else (2,))
