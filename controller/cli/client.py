"""HTTP client of a running controller: its answers as values of `controller.status`, its failures as CommandFailure."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import TypeVar
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from pydantic import TypeAdapter, ValidationError

from controller.cli.errors import CommandFailure, Unreachable, WrongUsage
from controller.status.audit_model import AuditAnswer, AuditEvent, DropsAnswer
from controller.status.cluster_model import CLUSTER_VALUES, ClusterValues
from controller.status.detail_model import PodDetail, PolicyDetail, SupportView
from controller.status.model import FlowsAnswer, FlowView, StatusView, WaitResult
from controller.status.verify_model import VerifyView
from flows.explain.model import Explanation

T = TypeVar("T")
CONTROLLER_ANSWER_SECONDS = 30.0
VERIFY_ANSWER_SECONDS = 90.0  # for dumps of some switches, decoding them, and the comparison
FOLLOW_SILENCE_SECONDS = 20.0  # a stream without events has an empty line every 5 s
CLUSTER_SECONDS = 120.0  # for an answer that has every pod
ACT_HEADER = "Headgate-Act"  # see `controller.http.requests.check_act`
EXAMPLE = "http://127.0.0.1:8080"
_STATUS = TypeAdapter(StatusView)
_WAIT = TypeAdapter(WaitResult)
_FLOWS = TypeAdapter(list[FlowView])
_POD = TypeAdapter(PodDetail)
_POLICY = TypeAdapter(PolicyDetail)
_SUPPORT = TypeAdapter(SupportView)
_EXPLANATION = TypeAdapter(Explanation)
_VERIFY = TypeAdapter(VerifyView)
_AUDIT = TypeAdapter(AuditAnswer)
_DROPS = TypeAdapter(DropsAnswer)
_EVENT = TypeAdapter(AuditEvent)


class Busy(CommandFailure):
    """The controller answers 503: it cannot give this answer now."""


_ERRORS = {http.client.SERVICE_UNAVAILABLE: Busy, http.client.BAD_REQUEST: WrongUsage}


class ControllerClient:
    """A controller by its URL, with `patience` seconds to answer. Every request opens a connection of its own."""

    def __init__(self, url: str, patience: float = CONTROLLER_ANSWER_SECONDS) -> None:
        self._patience = patience
        self.url = url.rstrip("/")
        self._parts = _split(url)
        self._headers: Mapping[str, str] = {}  # of the last answer

    def status(self) -> StatusView:
        """GET /status. Raises CommandFailure."""
        return self._call(_STATUS, "GET", "/status", {})

    def flows(self, **selected: str | None) -> FlowsAnswer:
        """GET /flows of a node, pod or policy. Raises CommandFailure."""
        flows = self._call(_FLOWS, "GET", "/flows", {name: value for name, value in selected.items() if value})
        return FlowsAnswer(flows, _lines(self._headers.get("Headgate-Missing", "")))

    def pod(self, key: str) -> PodDetail:
        """GET /pods/NAMESPACE/NAME. Raises CommandFailure."""
        return self._call(_POD, "GET", f"/pods/{quote(key)}", {})

    def policy(self, key: str) -> PolicyDetail:
        """GET /policies/NAMESPACE/NAME. Raises CommandFailure."""
        return self._call(_POLICY, "GET", f"/policies/{quote(key)}", {})

    def explain(self, **question: str | None) -> Explanation:
        """GET /explain: source, destination, port and version. Raises CommandFailure."""
        return self._call(_EXPLANATION, "GET", "/explain", {name: value for name, value in question.items() if value})

    def probe(self, **question: str | None) -> Explanation:
        """POST /probe: source, destination, port, version and deliver. Raises CommandFailure."""
        parameters = {name: value for name, value in question.items() if value}
        return self._call(_EXPLANATION, "POST", "/probe", parameters)

    def cluster(self) -> ClusterValues:
        """GET /cluster: the effective cluster. Raises CommandFailure."""
        return self._call(CLUSTER_VALUES, "GET", "/cluster", {}, CLUSTER_SECONDS)

    def verify(self, **question: str | None) -> VerifyView:
        """GET /verify: node, count and seed. Raises CommandFailure."""
        parameters = {name: value for name, value in question.items() if value}
        return self._call(_VERIFY, "GET", "/verify", parameters, VERIFY_ANSWER_SECONDS)

    def audit(self, **question: str | None) -> AuditAnswer:
        """GET /audit: after, limit, pod, verdict and since. Raises CommandFailure."""
        return self._call(_AUDIT, "GET", "/audit", {name: value for name, value in question.items() if value})

    def drops(self, **question: str | None) -> DropsAnswer:
        """GET /drops: pod and since. Raises CommandFailure."""
        return self._call(_DROPS, "GET", "/drops", {name: value for name, value in question.items() if value})

    def follow_audit(self, after: int, **question: str | None) -> Iterator[AuditEvent]:
        """GET /audit with `follow`, again and again: events as they come. Raises CommandFailure."""
        parameters = {name: value for name, value in question.items() if value}
        while True:
            for line in self._lines("/audit", parameters | {"follow": "lines", "after": str(after)}):
                if line.strip():
                    event = _EVENT.validate_json(line)
                    after = event.number
                    yield event

    def _lines(self, path: str, parameters: Mapping[str, str]) -> Iterator[bytes]:
        """The lines of one long answer."""
        connection = self._connect(FOLLOW_SILENCE_SECONDS)
        try:
            connection.request("GET", f"{self._parts.path.rstrip('/')}{path}?{urlencode(parameters)}")
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                error = _ERRORS.get(answer.status, CommandFailure)
                raise error(_reason(answer.read()) or f"{self.url}{path} answers {answer.status}")
            while line := answer.readline():
                yield line
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"the controller at {self.url} does not answer any more: {error}") from None
        finally:
            connection.close()

    def support(self) -> SupportView:
        """GET /support. Raises CommandFailure."""
        return self._call(_SUPPORT, "GET", "/support", {})

    def wait(self, seconds: float) -> WaitResult:
        """POST /wait: block until everything is realized, or for `seconds`. Raises CommandFailure."""
        return self._call(_WAIT, "POST", "/wait", {"timeout": f"{seconds:.3f}"}, seconds + CONTROLLER_ANSWER_SECONDS)

    def _call(
        self,
        shape: TypeAdapter[T],
        method: str,
        path: str,
        parameters: Mapping[str, str],
        seconds: float | None = None,
    ) -> T:
        code, body = self._request(method, path, parameters, self._patience if seconds is None else seconds)
        if code != http.client.OK:
            error = _ERRORS.get(code, CommandFailure)
            raise error(
                _reason(body) or f"{self.url}{path} answers {code}; is it the HTTP address of a Headgate controller?"
            )
        try:
            return shape.validate_json(body)
        except ValidationError:
            raise CommandFailure(
                f"{self.url}{path} does not answer as this version of Headgate does; is it the HTTP address of "
                f"`headgate run`?"
            ) from None

    def _connect(self, seconds: float) -> http.client.HTTPConnection:
        secure = self._parts.scheme == "https"
        connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        return connect(self._parts.hostname or "", self._parts.port, timeout=seconds)

    def _request(self, method: str, path: str, parameters: Mapping[str, str], seconds: float) -> tuple[int, bytes]:
        connection = self._connect(seconds)
        query = f"?{urlencode(parameters)}" if parameters else ""
        try:
            headers = {ACT_HEADER: "1"} if method == "POST" else {}
            connection.request(method, f"{self._parts.path.rstrip('/')}{path}{query}", headers=headers)
            answer = connection.getresponse()
            self._headers = dict(answer.headers.items())
            return answer.status, answer.read()
        except TimeoutError:
            raise Unreachable(
                f"{self.url} gave no answer within {seconds:.0f} s; is it overloaded or stopped?"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unreachable(
                f"cannot reach the controller at {self.url} ({reason}); is `headgate run` running there? "
                f"Choose another controller with --server URL or --lab NAME"
            ) from None
        finally:
            connection.close()


def _split(url: str) -> SplitResult:
    wrong = f"--server {url!r} is not of the form http://HOST:PORT, like {EXAMPLE}"
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0 and url.isprintable()
    except ValueError:
        raise WrongUsage(wrong) from None
    if not valid or parts.query or parts.fragment or parts.username is not None or " " in url:
        raise WrongUsage(wrong)
    return parts


def _lines(header: str) -> tuple[str, ...]:
    """Parse a header that is a JSON list of texts; empty for anything else."""
    try:
        found = json.loads(header) if header else []
    except ValueError:
        return ()
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _reason(body: bytes) -> str:
    """The `error` of a JSON answer, "" if it has none."""
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    return str(answer.get("error", "")) if isinstance(answer, dict) else ""
