"""What every HTTP page shares: checks of an untrusted request, places, and answers as JSON."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, MisdirectedRequest, ServiceUnavailable
from werkzeug.wrappers import Request, Response

from controller.config.addresses import AddressError, is_loopback, parse_host_port

MAX_PARAMETER = 600  # characters; a namespace and a pod name have at most 63 and 253
ACT_HEADER = "Headgate-Act"  # header of requests that have something done
MAX_DIGITS = 10  # of a number in a question


class HttpPage(NamedTuple):
    """One path: its handler, how many requests it serves at once, its methods and query parameters. `acts`: it does
    something, so that `check_act` decides who may ask."""

    handler: Callable[[Mapping[str, str]], Response]
    slots: threading.BoundedSemaphore
    methods: tuple[str, ...] = ("GET", "HEAD")
    parameters: tuple[str, ...] = ()
    acts: bool = False


def check_act(request: Request, loopback: bool) -> None:
    """Let only programs of this machine ask for what does something: on loopback, and with a header that no page of
    another site can have a browser send. Raises Forbidden."""
    if not loopback:
        raise Forbidden(f"{request.path} is answered only where --http listens on a loopback address")
    if not request.headers.get(ACT_HEADER):
        raise Forbidden(f"{request.path} needs the header {ACT_HEADER}, with any value")


def check_host(host: str, loopback: bool) -> None:
    """On loopback, accept only this machine's names: a web page could otherwise reach us by DNS rebinding."""
    if not loopback or not host:
        return
    try:
        name = parse_host_port(host, "127.0.0.1:8080", default_port=80).host
    except AddressError:
        raise BadRequest("the Host header is not HOST[:PORT]") from None
    if not is_loopback(name):
        raise MisdirectedRequest("use the address that Headgate listens on, like 127.0.0.1")


def read_parameters(request: Request, known: tuple[str, ...]) -> dict[str, str]:
    """The query parameters of a request. Raises BadRequest for those that are not `known`, given twice or too long."""
    parameters: dict[str, str] = {}
    for name, values in request.args.lists():
        if name not in known:
            raise BadRequest(f"unknown parameter; {request.path} takes {', '.join(known) or 'none'}")
        if len(values) > 1:
            raise BadRequest(f"the parameter {name} is given twice")
        if len(values[0]) > MAX_PARAMETER:
            raise BadRequest(f"the parameter {name} is too long")
        if values[0]:
            parameters[name] = values[0]
    return parameters


def read_number(parameters: Mapping[str, str], name: str, default: int) -> int:
    """A parameter that is a number. Raises BadRequest."""
    text = parameters.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS):
        raise BadRequest(f"{name} is a number of at most {MAX_DIGITS} digits")
    return int(text)


def in_place(slots: threading.BoundedSemaphore, answer: Callable[[], Response], retry_after: int = 1) -> Response:
    """An answer that holds one of these places until it is sent, so that as many are in memory at once. Raises
    ServiceUnavailable where all are taken."""
    if not slots.acquire(blocking=False):
        raise ServiceUnavailable("too many requests of this kind at once; try again", retry_after=retry_after)
    held = [slots.release]

    def release() -> None:
        """Once, however often a response is closed."""
        if held:
            held.pop()()

    try:
        response = answer()
    except BaseException:
        release()
        raise
    response.call_on_close(release)
    return response


def error_answer(error: HTTPException) -> Response:
    """The answer to a request that is refused."""
    response = json_answer({"error": error.description or error.name}, error.code or 500)
    for name, value in error.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value
    return response


def json_answer(value: object, status: int = 200) -> Response:
    """A value as JSON."""
    return json_bytes(json.dumps(value).encode(), status)


def json_bytes(body: bytes, status: int = 200) -> Response:
    """JSON that is encoded already."""
    return Response(body + b"\n", status, content_type="application/json")


def json_parts(parts: Iterable[bytes]) -> Response:
    """JSON that is encoded in parts: all of them, or as they are made, which then cannot end in an error but by ending
    the connection."""
    return Response(parts, content_type="application/json")
