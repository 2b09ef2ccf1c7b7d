"""The HTTP pages of a running controller: what is asked, checked and answered. It only reads; nothing can be changed
through it.

Requests are untrusted: unknown paths, parameters, methods and bodies are refused, the Host header decides nothing but
refusal, and each costly page has a bound on how many are served at once. The listening itself stands in `http_server`,
the data in `views`.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from pydantic import TypeAdapter
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    MethodNotAllowed,
    MisdirectedRequest,
    NotFound,
    RequestEntityTooLarge,
    ServiceUnavailable,
)
from werkzeug.wrappers import Request, Response

from controller.base.threads import ended_threads, log_ended_threads
from controller.config.addresses import AddressError, is_loopback, parse_host_port
from controller.http.long_answers import ListEncoder, StatusEncoder, exposition
from controller.status.detail_model import DetailedStatusApi, PodDetail, PolicyDetail, SupportView, UnknownObject
from controller.status.model import FlowView, SwitchUnavailable, UnknownNode, WaitResult

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = logging.getLogger(__name__)

MAX_WAIT = 600.0  # seconds; a client that wants to wait longer asks again
DEFAULT_WAIT = 30.0
MAX_PARAMETER = 600  # characters; a namespace and a pod name have at most 63 and 253
MISSING_HEADER = "Headgate-Missing"  # of /flows: a JSON list of the switches that gave no flows, and why
MAX_MISSING_BYTES = 4096  # bytes
WAIT_JSON = TypeAdapter(WaitResult)
FLOWS_JSON = TypeAdapter(list[FlowView])
POD_JSON = TypeAdapter(PodDetail)
POLICY_JSON = TypeAdapter(PolicyDetail)
SUPPORT_JSON = TypeAdapter(SupportView)
OBJECT_KEY = "key"  # the parameter that a handler gets an object's NAMESPACE/NAME as


class Endpoint(NamedTuple):
    """One path: its handler, methods, the parameters it knows, and how many requests may be in it at once."""

    handler: Callable[[Mapping[str, str]], Response]
    slots: threading.BoundedSemaphore
    methods: tuple[str, ...] = ("GET", "HEAD")
    parameters: tuple[str, ...] = ()


class Application:
    """The WSGI application over `views` and a metrics registry.

    `loopback`: it listens where only this machine gets in.
    """

    def __init__(self, views: DetailedStatusApi, registry: CollectorRegistry, loopback: bool) -> None:
        self._views = views
        self._registry = registry
        self._loopback = loopback
        self._encoder = StatusEncoder()
        self._pages = {
            "/healthz": Endpoint(self._healthz, threading.BoundedSemaphore(64)),
            "/readyz": Endpoint(self._readyz, threading.BoundedSemaphore(64)),
            "/status": Endpoint(self._status, threading.BoundedSemaphore(8)),
            "/metrics": Endpoint(self._metrics, threading.BoundedSemaphore(8)),
            "/wait": Endpoint(self._wait, threading.BoundedSemaphore(64), ("GET", "HEAD", "POST"), ("timeout",)),
            "/flows": Endpoint(self._flows, threading.BoundedSemaphore(4), parameters=("node", "pod", "policy")),
            "/support": Endpoint(self._support, threading.BoundedSemaphore(2)),
        }
        # Pages of one object: what follows is its NAMESPACE/NAME.
        self._objects = {
            "/pods/": Endpoint(self._pod, threading.BoundedSemaphore(4)),
            "/policies/": Endpoint(self._policy, threading.BoundedSemaphore(4)),
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        """Answer one request (PEP 3333)."""
        request = Request(environ)
        try:
            response = self._answer(request)
        except HTTPException as error:
            response = _error(error)
        except Exception:
            # The boundary to the network: whatever goes wrong inside is logged here and not told to the outside.
            log.exception("request for %s failed", request.path)
            response = _json({"error": "internal error; the controller's log says more"}, 500)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        _check_host(request.environ.get("HTTP_HOST", ""), self._loopback)
        if request.environ.get("HTTP_TRANSFER_ENCODING") or (request.content_length or 0) > 0:
            raise RequestEntityTooLarge("no request here has a body")
        page, named = self._pages.get(request.path), dict[str, str]()
        for start, one in self._objects.items():
            if request.path.startswith(start):
                page, named = one, {OBJECT_KEY: _object(request.path.removeprefix(start))}
        if page is None:
            there = [*self._pages, *(f"{start}NAMESPACE/NAME" for start in self._objects)]
            raise NotFound(f"there is no such page; there are {', '.join(there)}")
        if request.method not in page.methods:
            raise MethodNotAllowed(page.methods, f"{request.path} takes {', '.join(page.methods)}")
        parameters = _parameters(request, page.parameters)
        with _slot(page.slots):
            return page.handler(parameters | named)

    def _healthz(self, _: Mapping[str, str]) -> Response:
        log_ended_threads()
        missed = ended_threads()
        return _json({"status": "failed", "gone": list(missed)} if missed else {"status": "ok"}, 503 if missed else 200)

    def _readyz(self, _: Mapping[str, str]) -> Response:
        missing = self._views.ready()
        return _json({"ready": not missing, "waiting_for": missing}, 503 if missing else 200)

    def _status(self, _: Mapping[str, str]) -> Response:
        return _raw(self._encoder.encode(self._views.status()))

    def _metrics(self, _: Mapping[str, str]) -> Response:
        encode, content_type = choose_encoder("")
        return Response(exposition(self._registry, encode), content_type=content_type)

    def _wait(self, parameters: Mapping[str, str]) -> Response:
        return _raw(WAIT_JSON.dump_json(self._views.wait(_timeout(parameters.get("timeout")))))

    def _flows(self, parameters: Mapping[str, str]) -> Response:
        pod, policy = (_namespaced(parameters, name) for name in ("pod", "policy"))
        self._check_known(pod, policy)
        try:
            flows, missing = self._views.flows(parameters.get("node"))
        except UnknownNode as error:
            raise NotFound(str(error)) from None
        except SwitchUnavailable as error:
            raise ServiceUnavailable(str(error)) from None
        wanted = [
            flow for flow in flows if (pod is None or pod in flow.pods) and (policy is None or policy in flow.policies)
        ]
        response = _raw(ListEncoder[FlowView](FLOWS_JSON).encode(wanted))
        if missing:
            response.headers[MISSING_HEADER] = json.dumps(_shortened(missing))
        return response

    def _pod(self, parameters: Mapping[str, str]) -> Response:
        try:
            return _raw(POD_JSON.dump_json(self._views.pod(parameters[OBJECT_KEY])))
        except UnknownObject as error:
            raise NotFound(str(error)) from None

    def _policy(self, parameters: Mapping[str, str]) -> Response:
        try:
            return _raw(POLICY_JSON.dump_json(self._views.policy(parameters[OBJECT_KEY])))
        except UnknownObject as error:
            raise NotFound(str(error)) from None

    def _support(self, _: Mapping[str, str]) -> Response:
        return _raw(SUPPORT_JSON.dump_json(self._views.support()))

    def _check_known(self, pod: str | None, policy: str | None) -> None:
        if pod is None and policy is None:
            return
        status = self._views.status()
        if pod is not None and all(pod != one.key for one in status.pods):
            raise NotFound(f"no switch has a port of a pod {pod}; `headgate status` lists those there are")
        if policy is not None and all(policy != one.key for one in status.policies):
            raise NotFound(f"there is no policy {policy}; `headgate status` lists those there are")


def _check_host(host: str, loopback: bool) -> None:
    """On loopback only names of this machine are taken, so that no web page can reach us through a name of its own."""
    if not loopback or not host:
        return
    try:
        name = parse_host_port(host, "127.0.0.1:8080", default_port=80).host
    except AddressError:
        raise BadRequest("the Host header is no host") from None
    if not is_loopback(name):
        raise MisdirectedRequest("ask by the address that Headgate listens on, like 127.0.0.1")


def _parameters(request: Request, known: tuple[str, ...]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for name, values in request.args.lists():
        if name not in known:
            raise BadRequest(f"unknown parameter; {request.path} takes {', '.join(known) or 'none'}")
        if len(values) > 1:
            raise BadRequest(f"the parameter {name} stands twice")
        if len(values[0]) > MAX_PARAMETER:
            raise BadRequest(f"the parameter {name} is too long")
        if values[0]:
            parameters[name] = values[0]
    return parameters


def _shortened(lines: tuple[str, ...]) -> list[str]:
    """As many lines as a header may hold, which is ASCII in JSON, and how many there are more."""
    kept: list[str] = []
    room = MAX_MISSING_BYTES
    for line in lines:
        room -= len(json.dumps(line)) + 2
        if room < 0:
            return [*kept, f"and {len(lines) - len(kept)} more"]
        kept.append(line)
    return kept


def _object(text: str) -> str:
    """The NAMESPACE/NAME that ends a path."""
    if text.count("/") != 1 or text.startswith("/") or text.endswith("/"):
        raise NotFound("an object's page ends in NAMESPACE/NAME")
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


def _namespaced(parameters: Mapping[str, str], name: str) -> str | None:
    value = parameters.get(name)
    if value is None:
        return None
    namespace, slash, rest = value.partition("/")
    if not (namespace and slash and rest) or "/" in rest:
        raise BadRequest(f"{name} is written NAMESPACE/NAME")
    return value


@contextmanager
def _slot(slots: threading.BoundedSemaphore) -> Iterator[None]:
    if not slots.acquire(blocking=False):
        raise ServiceUnavailable("too many such requests at once; ask again", retry_after=1)
    try:
        yield
    finally:
        slots.release()


def _error(error: HTTPException) -> Response:
    response = _json({"error": error.description or error.name}, error.code or 500)
    for name, value in error.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value
    return response


def _json(value: object, status: int = 200) -> Response:
    return _raw(json.dumps(value).encode(), status)


def _raw(body: bytes, status: int = 200) -> Response:
    return Response(body + b"\n", status, content_type="application/json")
