"""The requests of the page: its files to everybody, what it asks to those who have the token, where there is one.

A token is needed where the server does not listen on loopback alone. It travels in a header that no other site can
make a browser send, so that neither a forged link nor DNS rebinding reads anything. There is no CORS. The one POST
changes nothing: it carries a text to plan with, and must come from the page itself.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter
from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
    ServiceUnavailable,
    Unauthorized,
    UnsupportedMediaType,
)
from werkzeug.wrappers import Request, Response

from controller.http.audit_pages import AUDIT_PARAMETERS, AUDIT_PLACES, DROPS_PARAMETERS, AuditPages
from controller.http.requests import HttpPage, in_place, json_bytes, read_number, read_parameters
from controller.http.ui.events import event_stream
from controller.http.ui.files import INDEX, file_answer, read_files
from controller.status.detail_model import BadQuestion, UnknownObject
from controller.status.model import SwitchUnavailable, UnknownNode
from controller.status.page_model import (
    Choice,
    FoundObject,
    PageApi,
    PageFlows,
    PageNode,
    PagePlan,
    PagePod,
    PagePolicy,
    PageState,
)
from flows.explain.model import Explanation

ROOT = "/ui"
API = "/ui/api/"
PLAN = f"{API}plan"
MAX_PLAN_BYTES = 256 << 10  # of a what-if; a folder of policies is for `headgate plan`
MAX_STREAMS = 16
MOVED = 308  # permanent, and keeps the method
SCHEME = "Bearer "
_JSON = {
    kind: TypeAdapter(kind)
    for kind in (PageState, PagePod, PagePolicy, PageNode, PageFlows, PagePlan, Explanation, tuple[FoundObject, ...])
}
_MATRIX = TypeAdapter(dict[str, Any])
_CHOICE = ("namespace", "label", "node", "text")


class UiPages:
    """Answers below `/ui`. `loopback`: the server listens on loopback only. `token` is what readers must know."""

    def __init__(self, api: PageApi, loopback: bool, token: str | None) -> None:
        self._api = api
        self._token = token
        self._off = not loopback and token is None
        self._files = read_files()
        self._streams = threading.BoundedSemaphore(MAX_STREAMS)
        audit = AuditPages(lambda: api.audit)
        matrix = ("by", "port", *_CHOICE)
        self._pages = {
            "state": _page(self._state, 8),
            "matrix": _page(self._matrix, 2, *matrix),
            "matrix.html": _page(self._matrix_file, 1, *matrix),
            "explain": _page(self._explain, 4, "source", "destination", "port", "version"),
            "pod": _page(self._pod, 4, "key"),
            "policy": _page(self._policy, 4, "key"),
            "node": _page(self._node, 4, "name"),
            "flows": _page(self._flows, 2, "node", "table", "text"),
            "find": _page(self._find, 2, "text"),
            "audit": _page(audit.audit, AUDIT_PLACES, *AUDIT_PARAMETERS),
            "drops": _page(audit.known_drops, 2, *DROPS_PARAMETERS),
        }
        self._plans = threading.BoundedSemaphore(1)

    def takes(self, path: str) -> bool:
        """Whether a path is one of these pages."""
        return path == ROOT or path.startswith(f"{ROOT}/")

    def body_limit(self, method: str, path: str) -> int:
        """How many bytes the body of a request may have: 0 for almost all."""
        return MAX_PLAN_BYTES if (method, path) == ("POST", PLAN) else 0

    def answer(self, request: Request) -> Response:
        """Answer a request, whose Host header was checked. Raises HTTPException."""
        if self._off:
            raise Forbidden(
                "the page needs a token, for HTTP is reachable from other machines: see --ui-token-file in docs/page.md"
            )
        _check_site(request)
        if request.path == PLAN:
            return self._plan(request)
        if request.environ.get("HTTP_TRANSFER_ENCODING") or (request.content_length or 0) > 0:
            raise RequestEntityTooLarge("requests must not have a body")
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(("GET", "HEAD"), f"{request.path} takes GET, HEAD")
        if not request.path.startswith(API):
            return self._file(request)
        self._check_token(request)
        name = request.path.removeprefix(API)
        if name == "events":
            return self._events(request)
        page = self._pages.get(name)
        if page is None:
            raise NotFound("the page asks no such question")
        parameters = read_parameters(request, page.parameters)
        return in_place(page.slots, lambda: _refusing(page.handler, parameters))

    def _file(self, request: Request) -> Response:
        read_parameters(request, ())
        if request.path == ROOT:
            return Response(status=MOVED, headers={"Location": f"{ROOT}/"})  # relative: whatever name we are called by
        found = self._files.get(request.path.removeprefix(f"{ROOT}/") or INDEX)
        if found is None:
            raise NotFound("the page has no such file")
        return file_answer(*found)

    def _check_token(self, request: Request) -> None:
        if self._token is None:
            return
        given = request.headers.get("Authorization", "")
        right = hmac.compare_digest(given.removeprefix(SCHEME).encode(), self._token.encode())
        if not (right and given.startswith(SCHEME)):
            raise Unauthorized("give the token of --ui-token-file")

    # -- questions ---------------------------------------------------------------------------------------------------

    def _state(self, _: Mapping[str, str]) -> Response:
        return _answered(PageState, self._api.state())

    def _matrix(self, parameters: Mapping[str, str]) -> Response:
        return json_bytes(_MATRIX.dump_json(self._api.matrix(*_matrix_question(parameters))))

    def _matrix_file(self, parameters: Mapping[str, str]) -> Response:
        text = self._api.matrix_file(*_matrix_question(parameters))
        headers = {"Content-Disposition": 'attachment; filename="matrix.html"', "Content-Security-Policy": "sandbox"}
        return Response(text, content_type="text/html; charset=utf-8", headers=headers)

    def _explain(self, parameters: Mapping[str, str]) -> Response:
        version = parameters.get("version", "")
        if version not in ("", "4", "6"):
            raise BadRequest("version is 4 or 6")
        source, destination = parameters.get("source", ""), parameters.get("destination", "")
        if not source or not destination:
            raise BadRequest("give source and destination")
        family = int(version) if version else None
        return _answered(Explanation, self._api.explain(source, destination, parameters.get("port", ""), family))

    def _pod(self, parameters: Mapping[str, str]) -> Response:
        return _answered(PagePod, self._api.pod(parameters.get("key", "")))

    def _policy(self, parameters: Mapping[str, str]) -> Response:
        return _answered(PagePolicy, self._api.policy(parameters.get("key", "")))

    def _node(self, parameters: Mapping[str, str]) -> Response:
        return _answered(PageNode, self._api.node(parameters.get("name", "")))

    def _flows(self, parameters: Mapping[str, str]) -> Response:
        names = (parameters.get(name, "") for name in ("node", "table", "text"))
        return _answered(PageFlows, self._api.flows(*names))

    def _find(self, parameters: Mapping[str, str]) -> Response:
        return _answered(tuple[FoundObject, ...], self._api.find(parameters.get("text", "")))

    def _plan(self, request: Request) -> Response:
        if request.method != "POST":
            raise MethodNotAllowed(("POST",), f"{PLAN} takes POST")
        read_parameters(request, ())
        if request.mimetype != "application/json":
            raise UnsupportedMediaType("send application/json")
        length = request.content_length or 0
        if request.environ.get("HTTP_TRANSFER_ENCODING") or length > MAX_PLAN_BYTES:
            raise RequestEntityTooLarge(f"a text has at most {MAX_PLAN_BYTES >> 10} KiB here")
        self._check_token(request)
        try:
            texts = request.get_json(silent=True)
        except RecursionError:
            texts = None
        if not isinstance(texts, dict) or not all(isinstance(texts.get(one, ""), str) for one in ("apply", "delete")):
            raise BadRequest("send an object with the texts apply and delete")
        asked = {one: texts.get(one, "") for one in ("apply", "delete")}
        return in_place(self._plans, lambda: _refusing(self._planned, asked))

    def _planned(self, texts: Mapping[str, str]) -> Response:
        return _answered(PagePlan, self._api.plan(texts["apply"], texts["delete"]))

    def _events(self, request: Request) -> Response:
        parameters = read_parameters(request, ("after", "node", "rates"))
        after = read_number(parameters, "after", 0)
        node = parameters.get("node", "") if parameters.get("rates") == "1" else None

        def stream() -> Response:
            return Response(event_stream(self._api, after, node), content_type="text/event-stream")

        return in_place(self._streams, stream, retry_after=5)


def _page(handler: Callable[[Mapping[str, str]], Response], places: int, *parameters: str) -> HttpPage:
    return HttpPage(handler, threading.BoundedSemaphore(places), parameters=parameters)


def _check_site(request: Request) -> None:
    """Refuse what another site made the browser ask. A link to the page from elsewhere may be followed."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is None:
        # Older browsers, and pages without TLS from elsewhere. A proxy may have changed the Host, so this comes second.
        origin = request.headers.get("Origin")
        allowed = origin is None or origin.partition("://")[2] == request.headers.get("Host", "")
    else:
        navigates = request.headers.get("Sec-Fetch-Mode") == "navigate" and request.method in ("GET", "HEAD")
        allowed = site in ("none", "same-origin") or (navigates and not request.path.startswith(API))
    if not allowed:
        raise Forbidden("another site may not ask this")


def _matrix_question(parameters: Mapping[str, str]) -> tuple[str, str, Choice]:
    return (
        parameters.get("by", "workload"),
        parameters.get("port", ""),
        Choice(*(parameters.get(name, "") for name in _CHOICE)),
    )


def _refusing(handler: Callable[[Mapping[str, str]], Response], parameters: Mapping[str, str]) -> Response:
    try:
        return handler(parameters)
    except BadQuestion as error:
        raise BadRequest(str(error)) from None
    except (UnknownObject, UnknownNode) as error:
        raise NotFound(str(error)) from None
    except SwitchUnavailable as error:
        raise ServiceUnavailable(str(error)) from None


def _answered(kind: Any, value: object) -> Response:
    return json_bytes(_JSON[kind].dump_json(value))
