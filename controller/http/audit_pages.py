"""`/audit` and `/drops`: events as JSON, as JSON lines without end, and as server-sent events for EventSource.

A stream is one answer of at most FOLLOW_SECONDS. EventSource connects again by itself and names the last event that it
has (Last-Event-ID); other clients give `after`. So no stream holds its place for ever, and none loses an event that is
still kept. Requests are checked as in `pages`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response

from controller.http.requests import MAX_DIGITS, in_place, json_bytes, read_number
from controller.status.audit_model import AuditAnswer, AuditApi, AuditEvent, DropsAnswer

FOLLOW_SECONDS = 50.0  # less than what the server grants one response
KEEP_ALIVE_SECONDS = (
    5.0  # after which a stream without events gets an empty line, so that a client that left is noticed
)
MAX_FOLLOWERS = 16
AUDIT_PLACES = MAX_FOLLOWERS + 4  # of requests; those that do not follow have 4
MAX_EVENTS = 10_000  # in one answer
DEFAULT_EVENTS = 1_000
LAST_EVENT_ID = "last_event_id"  # the header, as a parameter
AUDIT_PARAMETERS = ("after", "limit", "pod", "verdict", "since", "follow")
DROPS_PARAMETERS = ("pod", "since", "limit")
_EVENT = TypeAdapter(AuditEvent)
_ANSWER = TypeAdapter(AuditAnswer)
_DROPS = TypeAdapter(DropsAnswer)
_MIME = {"lines": "application/x-ndjson", "sse": "text/event-stream"}
Chosen = Callable[[AuditEvent], bool]


class AuditPages:
    """The handlers. `api` is asked for when a request comes."""

    def __init__(self, api: Callable[[], AuditApi]) -> None:
        self._api = api
        self._followers = threading.BoundedSemaphore(MAX_FOLLOWERS)

    def audit(self, parameters: Mapping[str, str]) -> Response:
        """Events after a number, or as they come."""
        last = parameters.get(LAST_EVENT_ID, "")
        after = int(last) if _is_number(last) else read_number(parameters, "after", 0)
        most = min(read_number(parameters, "limit", DEFAULT_EVENTS), MAX_EVENTS)
        chosen = _chosen(parameters)
        form = parameters.get("follow")
        if form is not None:
            return self._follow(form, after, most, chosen)
        answer = self._api().audit(after, MAX_EVENTS if _is_filtered(parameters) else most)
        kept = tuple([event for event in answer.events if chosen(event)][-most:]) if most else ()
        fields = {name: getattr(answer, name) for name in ("next", "lost", "audited", "unreported", "problems")}
        return json_bytes(_ANSWER.dump_json(AuditAnswer(kept, **fields)))

    def drops(self, parameters: Mapping[str, str]) -> Response:
        """All kinds of drops, up to now."""
        return self._drops(parameters, count_now=True)

    def known_drops(self, parameters: Mapping[str, str]) -> Response:
        """The same as counted last: for who asks again and again."""
        return self._drops(parameters, count_now=False)

    def _drops(self, parameters: Mapping[str, str], *, count_now: bool) -> Response:
        most = min(read_number(parameters, "limit", DEFAULT_EVENTS), MAX_EVENTS)
        found, chosen = self._api().drops(parameters.get("pod"), most, count_now), _chosen(parameters)
        events = tuple(event for event in found.events if chosen(event))
        return json_bytes(_DROPS.dump_json(DropsAnswer(found.totals, found.foreign, events, found.problems)))

    def _follow(self, form: str, after: int, most: int, chosen: Chosen) -> Response:
        if form not in _MIME:
            raise BadRequest(f"follow is {' or '.join(_MIME)}")
        return in_place(
            self._followers,
            lambda: Response(self._stream(form == "sse", after, most, chosen), content_type=_MIME[form]),
        )

    def _stream(self, sse: bool, after: int, most: int, chosen: Chosen) -> Iterator[bytes]:
        yield b"retry: 500\n\n" if sse else b"\n"
        end = time.monotonic() + FOLLOW_SECONDS
        while (left := end - time.monotonic()) > 0:
            answer = self._api().audit(after, most, min(left, KEEP_ALIVE_SECONDS))
            after = answer.next - 1
            parts = [_as_sse(one) if sse else _EVENT.dump_json(one) + b"\n" for one in answer.events if chosen(one)]
            yield b"".join(parts) or (b":\n\n" if sse else b"\n")


def _as_sse(event: AuditEvent) -> bytes:
    return b"id: %d\ndata: %s\n\n" % (event.number, _EVENT.dump_json(event))


def _is_filtered(parameters: Mapping[str, str]) -> bool:
    return any(name in parameters for name in ("pod", "verdict", "since"))


def _chosen(parameters: Mapping[str, str]) -> Chosen:
    """What a request wants: of one pod, of some verdicts, of the last seconds."""
    pod, verdicts = parameters.get("pod"), parameters.get("verdict")
    wanted = frozenset(verdicts.split(",")) if verdicts else None
    since = ""
    if "since" in parameters:
        ago = timedelta(seconds=min(read_number(parameters, "since", 0), 10**9))
        since = (datetime.now(UTC) - ago).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return lambda event: (
        (pod is None or pod in event.ends) and (wanted is None or event.verdict in wanted) and event.time >= since
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
