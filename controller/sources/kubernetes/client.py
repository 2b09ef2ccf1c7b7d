"""Talking to a Kubernetes API server: credentials, TLS and requests, with raw JSON.

Credentials, TLS and the connection pool are the official client's; its models are not used. What is asked for and what
becomes of the answers is not decided here.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import HTTPError

from controller.base.hub import offload
from controller.base.printable import printable
from controller.config.schema import IN_CLUSTER
from controller.sources.kubernetes.stream import (
    MAX_REASON,
    UNAUTHORIZED,
    WATCH_READ_BYTES,
    ApiError,
    WatchStream,
    body_of,
    connection_error,
    decode,
    error_of_response,
)
from controller.sources.source import SourceError

JSON_TYPE = "application/json"
API_CONNECT_SECONDS = 5.0
API_READ_SECONDS = 30.0  # between two parts of an answer
RENEW_SECONDS = 10.0  # credentials are not read again more often because of lost connections
MAX_POOLED_CONNECTIONS = 16
# A peer that has vanished is noticed after 10 + 3 * 5 seconds, one that takes nothing after 20.
SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
]


class Api:
    """Requests to one API server. Thread-safe; `load` comes first.

    `source` is a kubeconfig file, whose current context counts, or IN_CLUSTER.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._lock = threading.Lock()
        self._client: Any = None
        self._loaded_at = 0.0

    @property
    def server(self) -> str:
        """The server's URL."""
        return str(self._client.configuration.host).rstrip("/") if self._client else self.source

    def load(self) -> None:
        """Read the credentials. Raises SourceError with what is wrong and what to do."""
        self._loaded_at = time.monotonic()
        try:
            self._client = _client(self.source)
        except Exception as error:  # noqa: BLE001 - the library checks no types: anything can come of a wrong file
            what = printable(str(error) or type(error).__name__)[:MAX_REASON]
            if self.source == IN_CLUSTER:
                raise SourceError(f"a pod's credentials are not here ({what}): give --kubeconfig FILE") from None
            raise SourceError(f"the kubeconfig {self.source} cannot be used: {what}") from None

    def get(
        self, path: str, query: Mapping[str, str], accept: str = JSON_TYPE, timeout: float = API_READ_SECONDS
    ) -> Any:
        """The object that a GET answers. `timeout` in seconds bounds each wait for a part of it. Raises ApiError."""
        body = body_of(self._request("GET", path, query, {"Accept": accept}, None, timeout))
        return decode(body) if len(body) < WATCH_READ_BYTES else offload(decode, body)

    def send(self, method: str, path: str, body: object, kind: str = JSON_TYPE) -> None:
        """Write an object. Raises ApiError."""
        headers = {"Accept": JSON_TYPE, "Content-Type": kind}
        body_of(self._request(method, path, {}, headers, json.dumps(body).encode(), API_READ_SECONDS))

    def watch(self, path: str, query: Mapping[str, str], timeout: float, silence: float) -> WatchStream:
        """Open a watch, within `timeout` seconds; silence of more than `silence` seconds ends it. Raises ApiError."""
        whole = {**query, "watch": "1", "allowWatchBookmarks": "true"}
        return WatchStream(self._request("GET", path, whole, {"Accept": JSON_TYPE}, None, timeout), silence)

    def drop_idle(self) -> None:
        """Close the connections that wait to be used again: they may be dead without knowing."""
        self._client.rest_client.pool_manager.clear()

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes | None,
        read: float,
    ) -> urllib3.BaseHTTPResponse:
        """The answer, when it is a good one. When a token is no longer taken, it is read again, once."""
        target = f"{path}?{urlencode(query)}" if query else path
        client = self._client
        try:
            return self._try(client, method, target, headers, body, read)
        except ApiError as error:
            if error.status == 0:
                self.drop_idle()
                self._renew(client, RENEW_SECONDS)  # for the next try: certificates may have been exchanged
                raise
            if error.status != UNAUTHORIZED or not self._renew(client, 0.0):
                raise
        return self._try(self._client, method, target, headers, body, read)

    def _try(
        self, client: Any, method: str, target: str, headers: Mapping[str, str], body: bytes | None, read: float
    ) -> urllib3.BaseHTTPResponse:
        server = str(client.configuration.host).rstrip("/")
        try:
            response: urllib3.BaseHTTPResponse = client.rest_client.pool_manager.request(
                method,
                server + target,
                headers={**headers, **self._credentials(client, target, method), "User-Agent": "headgate"},
                body=body,
                preload_content=False,
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(connect=min(API_CONNECT_SECONDS, read), read=read),
            )
        except (HTTPError, OSError, ValueError) as error:
            raise ApiError(0, connection_error(error)) from None
        if response.status >= 300:
            raise error_of_response(response)
        return response

    def _credentials(self, client: Any, target: str, method: str) -> dict[str, str]:
        """Headers that say who we are; for them the official client runs plugins and reads token files when due."""
        headers: dict[str, str] = {}
        with self._lock:
            client.update_params_for_auth(headers, [], ["BearerToken"], target, method, None)
        return {name: value.strip() for name, value in headers.items()}

    def _renew(self, old: Any, pause: float) -> bool:
        """Read the credentials again, if that was not done since `old`, nor in the last `pause` seconds.

        True when there may be new ones. Should they be half written, the old ones stay.
        """
        with self._lock:
            if self._client is not old:
                return True
            if pause and time.monotonic() - self._loaded_at < pause:
                return False
            try:
                self.load()
            except SourceError:
                return False
            return True


def _client(source: str) -> Any:
    """An ApiClient of the official library, which only who needs it imports: its older releases load every model."""
    from kubernetes.client import ApiClient, Configuration
    from kubernetes.config import load_incluster_config, load_kube_config

    configuration = Configuration()
    configuration.connection_pool_maxsize = MAX_POOLED_CONNECTIONS
    configuration.socket_options = SOCKET_OPTIONS
    if source == IN_CLUSTER:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        with open(os.path.expanduser(source), encoding="utf-8"):
            pass  # for a plainer error than the library's
        load_kube_config(  # type: ignore[no-untyped-call]
            config_file=os.path.expanduser(source), client_configuration=configuration, persist_config=False
        )
    return ApiClient(configuration=configuration)
