"""Requests to a Kubernetes API server, with its credentials and TLS. Bodies are plain JSON values.

Credentials, TLS and the connection pool come from the official client; its models are not used. What is requested, and
what answers mean, does not belong here.
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
API_READ_SECONDS = 30.0  # for each part of an answer
RENEW_SECONDS = 10.0  # between two readings of the credentials after lost connections
MAX_POOLED_CONNECTIONS = 16
# A server that is gone is noticed after 10 + 3 * 5 seconds, one that accepts no data after 20.
SOCKET_OPTIONS = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 20_000),
]


class Api:
    """Requests to one API server. Thread-safe; call `load` first.

    `source` is a kubeconfig file, of which the current context is used, or IN_CLUSTER.
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
        except Exception as error:  # noqa: BLE001 - the library checks no types: a wrong file may raise anything
            what = printable(str(error) or type(error).__name__)[:MAX_REASON]
            if self.source == IN_CLUSTER:
                raise SourceError(f"a pod's credentials are not here ({what}): give --kubeconfig FILE") from None
            raise SourceError(f"the kubeconfig {self.source} cannot be used: {what}") from None

    def get(
        self, path: str, query: Mapping[str, str], accept: str = JSON_TYPE, timeout: float = API_READ_SECONDS
    ) -> Any:
        """GET an object. `timeout` in seconds bounds the wait for each part of the answer. Raises ApiError."""
        body = body_of(self._request("GET", path, query, {"Accept": accept}, None, timeout))
        return decode(body) if len(body) < WATCH_READ_BYTES else offload(decode, body)

    def send(
        self, method: str, path: str, body: object, kind: str = JSON_TYPE, timeout: float = API_READ_SECONDS
    ) -> None:
        """Write an object: POST, PUT, PATCH or DELETE. `timeout` as for `get`. Raises ApiError."""
        headers = {"Accept": JSON_TYPE, "Content-Type": kind}
        body_of(self._request(method, path, {}, headers, json.dumps(body).encode(), timeout))

    def watch(self, path: str, query: Mapping[str, str], timeout: float, silence: float) -> WatchStream:
        """Open a watch within `timeout` seconds; it fails after `silence` seconds without a line. Raises ApiError."""
        whole = {**query, "watch": "1", "allowWatchBookmarks": "true"}
        return WatchStream(self._request("GET", path, whole, {"Accept": JSON_TYPE}, None, timeout), silence)

    def drop_idle(self) -> None:
        """Close the idle connections of the pool: they may be dead without an error."""
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
        """The answer to a request. After 401 Unauthorized the credentials are read again, once. Raises ApiError."""
        target = f"{path}?{urlencode(query)}" if query else path
        client = self._client
        try:
            return self._try(client, method, target, headers, body, read)
        except ApiError as error:
            if error.status == 0:
                self.drop_idle()
                self._renew(client, RENEW_SECONDS)  # for the next request: certificates may have been replaced
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
        """The headers that authenticate us. The official client runs plugins and reads token files when due."""
        headers: dict[str, str] = {}
        with self._lock:
            client.update_params_for_auth(headers, [], ["BearerToken"], target, method, None)
        return {name: value.strip() for name, value in headers.items()}

    def _renew(self, old: Any, pause: float) -> bool:
        """Read the credentials again, unless they were read since `old` was, or in the last `pause` seconds.

        True when there may be new ones. Incomplete files leave the old credentials in use.
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
    """An ApiClient of the official library, imported here only: its older releases load every model."""
    from kubernetes.client import ApiClient, Configuration
    from kubernetes.config import load_incluster_config, load_kube_config

    configuration = Configuration()
    configuration.connection_pool_maxsize = MAX_POOLED_CONNECTIONS
    configuration.socket_options = SOCKET_OPTIONS
    if source == IN_CLUSTER:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        with open(os.path.expanduser(source), encoding="utf-8"):
            pass  # raises a plainer error than the library
        load_kube_config(  # type: ignore[no-untyped-call]
            config_file=os.path.expanduser(source), client_configuration=configuration, persist_config=False
        )
    return ApiClient(configuration=configuration)
