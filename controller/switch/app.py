"""The os-ken application: switches come and go, the core's commands reach their sessions, events go back.

os-ken's own handler does the handshake; here stands only who is connected. Bytes are `session`'s and `requests`'s
business. `OSKEN_HUB_TYPE` must be set before this module is imported (see `controller.hub`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from os_ken.base.app_manager import AppManager, OSKenApp
from os_ken.controller import ofp_event
from os_ken.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.controller.ofp_handler import OFPHandler
from os_ken.lib.dpid import dpid_to_str
from os_ken.ofproto import ofproto_v1_4

from controller.endpoints import HostPort
from controller.reconcile.events import BundleFailed, Changes, DumpFlows, Event, SwitchDown, SwitchUp
from controller.switch.limits import Limits
from controller.switch.listener import Listener
from controller.switch.session import Session
from controller.tls.credentials import Credentials

_LOG = logging.getLogger(__name__)
_CLOSE_SECONDS = 1.5
_INCOMPATIBLE = "OpenFlow 1.4 is needed; set protocols=OpenFlow14 on the bridge"


class Handshake(OFPHandler):  # type: ignore[misc]
    """os-ken's handshake and echo replies, without os-ken's listener, and with an error that says what to do."""

    def start(self) -> None:
        """Handle events; whoever accepts connections is HeadgateApp's."""
        OSKenApp.start(self)

    def _hello_failed(self, datapath: Session, error_desc: str) -> None:
        _LOG.warning("refused the switch at %s: %s (%s)", datapath.peer, _INCOMPATIBLE, error_desc)
        refusal = datapath.ofproto_parser.OFPErrorMsg(
            datapath=datapath,
            type_=ofproto_v1_4.OFPET_HELLO_FAILED,
            code=ofproto_v1_4.OFPHFC_INCOMPATIBLE,
            data=_INCOMPATIBLE.encode(),
        )
        datapath.send_msg(refusal, close_socket=True)


class HeadgateApp(OSKenApp):  # type: ignore[misc]
    """All OpenFlow sessions of the controller. Make it with `open_app`.

    `post` takes events from many threads. The commands may be called from any thread and never wait for a switch.
    """

    OFP_VERSIONS: ClassVar[list[int]] = [ofproto_v1_4.OFP_VERSION]
    LOGGER_NAME = __name__

    def __init__(
        self, post: Callable[[Event], None], listen: Sequence[HostPort], limits: Limits, tls: Credentials | None
    ) -> None:
        super().__init__()
        self._post = post
        self._closed = False
        self._lock = threading.Lock()
        self._up: dict[int, Session] = {}
        self._listeners: list[Listener] = []
        try:
            for where in listen:
                self._listeners.append(Listener(where, post, limits, tls))
        except BaseException:
            self._close_listeners()
            raise

    @property
    def addresses(self) -> tuple[HostPort, ...]:
        """Where switches can connect to, with the ports that were really bound."""
        return tuple(listener.address for listener in self._listeners)

    def connected(self) -> dict[int, int]:
        """The switches that are up: dpid to session."""
        with self._lock:
            return {dpid: session.number for dpid, session in self._up.items()}

    def start(self) -> None:
        """Accept switches."""
        super().start()
        for listener in self._listeners:
            listener.start()

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])  # type: ignore[untyped-decorator]
    def state_changed(self, event: ofp_event.EventOFPStateChange) -> None:
        """A session finished its handshake, or ended."""
        session: Session = event.datapath
        if event.state == MAIN_DISPATCHER:
            self._came_up(session)
        else:
            self._went_down(session)

    def _came_up(self, session: Session) -> None:
        with self._lock:
            old = self._up.get(session.id)
            self._up[session.id] = session
        if old is not None:
            old.end("the switch connected again")
            self._post(SwitchDown(session.id, old.number))
        _LOG.info("switch %s connected from %s, session %d", dpid_to_str(session.id), session.peer, session.number)
        self._post(SwitchUp(session.id, session.number, session.identity))

    def _went_down(self, session: Session) -> None:
        with self._lock:
            if session.id is None or self._up.get(session.id) is not session:
                return
            del self._up[session.id]
        self._post(SwitchDown(session.id, session.number))

    def dump(self, command: DumpFlows) -> None:
        """Ask a switch for all its flows. The answer is FlowsDumped, or SwitchDown where there is none."""
        found = self._find(command.dpid, command.session)
        if found is not None:
            found.requests.dump(command)

    def send_bundle(self, dpid: int, session: int, number: int, changes: Changes) -> None:
        """Send changes as one atomic bundle. The answer is BundleDone or BundleFailed."""
        found = self._find(dpid, session)
        if found is None:
            self._post(BundleFailed(dpid, session, number, "the session is over"))
        else:
            found.requests.send_bundle(number, changes)

    def end_session(self, dpid: int, session: int, reason: str) -> None:
        """Close a session; the switch will connect again."""
        found = self._find(dpid, session)
        if found is not None:
            found.end(reason)

    def _find(self, dpid: int, session: int) -> Session | None:
        with self._lock:
            found = self._up.get(dpid)
        return found if found is not None and found.number == session else None

    def close(self) -> None:
        """End all sessions and threads within two seconds. The switches keep their flows. May be called again."""
        if self._closed:
            return
        self._closed = True
        self._close_listeners()
        manager = AppManager.get_instance()
        for name in (self.name, ofp_event.NAME):
            if name in manager.applications:
                manager.uninstantiate(name)

    def _close_listeners(self) -> None:
        deadline = time.monotonic() + _CLOSE_SECONDS
        for listener in self._listeners:
            listener.close()
        for listener in self._listeners:
            listener.join(deadline)


def open_app(
    post: Callable[[Event], None],
    listen: Sequence[HostPort],
    limits: Limits | None = None,
    tls: Credentials | None = None,
) -> HeadgateApp:
    """A running HeadgateApp that listens at all the given addresses, in TLS if `tls` is given; port 0 lets the system
    choose.

    There can be one in a process at a time, since os-ken keeps its applications in one place. Raises StartError.
    """
    manager = AppManager.get_instance()
    app = manager.instantiate(HeadgateApp, post, listen, limits or Limits(), tls)
    handshake = manager.instantiate(Handshake)
    handshake.start()
    app.start()
    return app  # type: ignore[no-any-return]
