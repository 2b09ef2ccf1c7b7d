"""The OpenFlow application in a process of its own, so that tests can run it under either hub.

Run as `openflow_app_process.py HUB SOCKET LIMITS`. It connects to the Unix socket, reads pickled (method, arguments)
pairs from it and writes pickled events to it. LIMITS is JSON for `OpenFlowLimits` of `controller.peers.limits`; its
member `connections` is for `ConnectionLimits`.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))


def _break_next_event(app: Any) -> None:
    """Let the next state that a session reaches raise in the application's handler."""
    claims, session_up = app.claims, app.claims.session_up

    def fail(session: object) -> None:
        claims.session_up = session_up
        raise RuntimeError("broken for a test")

    claims.session_up = fail


class _TurnCounter:
    """Counts the turns that sessions have in each round of the hub, from now on; `most` is the most in a round."""

    def __init__(self) -> None:
        import threading

        from controller.openflow.receiver import Receiver

        self.most = self._turns = 0
        plain = Receiver._consume

        def consume(receiver: Receiver, buffer: bytearray) -> bool:
            self._turns += 1
            return plain(receiver, buffer)

        Receiver._consume = consume  # type: ignore[assignment, method-assign]
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        import time

        while True:
            self.most, self._turns = max(self.most, self._turns), 0
            time.sleep(0)


def main(hub: str, path: str, limits: str) -> None:
    """Serve one test until it says `close`."""
    from controller.base.hub import install

    install(hub)
    if hub == "eventlet":
        from tests.helpers.controller.descriptor_watch import say, watch

        watch(say)
    import socket
    import threading

    from controller.config.addresses import HostPort
    from controller.openflow.app import OpenFlowSetup, open_app
    from controller.peers.limits import ConnectionLimits, OpenFlowLimits

    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    channel = socket.socket(socket.AF_UNIX)
    channel.connect(path)
    requests, lock = channel.makefile("rb"), threading.Lock()

    def post(event: object) -> None:
        with lock:
            channel.sendall(pickle.dumps(event))

    given = json.loads(limits)
    connections = ConnectionLimits(**given.pop("connections", {}))
    setup = OpenFlowSetup(OpenFlowLimits(**given), connections, refused=lambda kind: logging.info("refused: %s", kind))
    app = open_app(post, [HostPort("127.0.0.1", 0), HostPort("::1", 0)], setup)
    post([tuple(address) for address in app.addresses])
    while True:
        name, arguments = pickle.load(requests)
        if name == "report":
            post([tuple(trouble) for trouble in app.claim_problems()])
        elif name == "read_of":
            post(
                sum(
                    session.messages_handled
                    for one in app.listeners
                    for session in one.sessions()
                    if session.id in arguments
                )
            )
        elif name == "count_turns":
            rounds = _TurnCounter()
            post(name)
        elif name == "most_turns":
            post(rounds.most)
        elif name == "break_next_event":
            _break_next_event(app)
            post(name)  # a switch may connect now
        else:
            getattr(app, name)(*arguments)
        if name == "close":
            # The main thread and, under the native hub, nothing else of ours.
            post([thread.name for thread in threading.enumerate()])
            break
    channel.close()
    logging.shutdown()
    sys.stdout.flush()
    if hub == "native":
        left = [
            thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon
        ]
        os._exit(1 if left else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
