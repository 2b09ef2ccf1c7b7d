"""A private, real Open vSwitch for tests: its own ovsdb-server and ovs-vswitchd in a folder of its own.

Bridges are of the dummy (or another) datapath type, their ports of type dummy: frames are put in by hand, and what
comes out is read from a capture file for each port. Tables, conntrack and all the rest are the real thing. What a frame
or a flow means does not belong here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.openflow.flow import Flow
from flows.openflow.match import Match
from flows.wire.text import format_flow, format_match
from tests.helpers.ovs.control_socket import Control
from tests.helpers.ovs.daemons import END_WITH_PARENT, SCHEMA, environment
from tests.helpers.ovs.port_capture import Capture

_START_SECONDS = 30.0
_PACKETS = re.compile(r"n_packets=(\d+)")
_COOKIE = re.compile(r"cookie=(0x[0-9a-f]+)")
_RECEIVED = re.compile(r"packets received: (\d+)")
# A port of type dummy keeps at most 100 frames that the switch has not taken yet, and loses the rest.
_AT_ONCE = 64


class OpenVSwitchError(Exception):
    """A daemon did not start, ended early, or a tool refused; the message has its own words."""


class OpenVSwitch:
    """One ovsdb-server with one ovs-vswitchd. Use it as a context manager; `folder` goes when it ends.

    `dummy` is what stands after `--enable-dummy`: "" as it is, "override" so that bridges of every
    datapath type take dummy ports in place of the kernel's.
    """

    def __init__(self, dummy: str = "", hostname: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hg-ovs-"))
        self.bridges: dict[str, Bridge] = {}
        self._dummy = dummy
        self._hostname = hostname
        self._database: subprocess.Popen[bytes] | None = None
        self._switch: subprocess.Popen[bytes] | None = None
        self._control: Control | None = None

    @property
    def remote(self) -> str:
        """The OVSDB remote, as ovs-vsctl's --db takes it."""
        return f"unix:{self.folder}/db.sock"

    @property
    def log(self) -> Path:
        """ovs-vswitchd's log file."""
        return self.folder / "ovs-vswitchd.log"

    def __enter__(self) -> OpenVSwitch:
        try:
            self._run("ovsdb-tool", "create", f"{self.folder}/conf.db", str(SCHEMA))
            self.start_database()
            self.vsctl("--no-wait", "init", "--", "set", "Open_vSwitch", ".", "other_config:n-handler-threads=1",
                       "other_config:n-revalidator-threads=1")  # fmt: skip
            if self._hostname:
                self.vsctl("--no-wait", "set", "Open_vSwitch", ".", f"external_ids:hostname={self._hostname}")
            self.start_switch()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start_database(self) -> None:
        """Start ovsdb-server on the folder's database."""
        self._database = self._start("ovsdb-server", f"--remote=p{self.remote}", f"{self.folder}/conf.db")

    def start_switch(self) -> None:
        """Start ovs-vswitchd; it sets up the bridges that the database names."""
        option = f"--enable-dummy={self._dummy}" if self._dummy else "--enable-dummy"
        self._switch = self._start("ovs-vswitchd", option, self.remote)
        self._control = Control(self.folder / "ovs-vswitchd.ctl")

    def stop_switch(self) -> None:
        """End ovs-vswitchd with all its flows and connections; the database stays."""
        if self._control is not None:
            self._control.close()
            self._control = None
        self._end(self._switch)
        self._switch = None

    def stop(self) -> None:
        """End both daemons and remove the folder. May be called again."""
        self.stop_switch()
        self._end(self._database)
        self._database = None
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the daemons that run."""
        return tuple(one.pid for one in (self._database, self._switch) if one is not None)

    def vsctl(self, *arguments: str) -> str:
        """Run ovs-vsctl and return what it prints."""
        return self._run("ovs-vsctl", f"--db={self.remote}", "--timeout=30", *arguments)

    def ofctl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run ovs-ofctl in OpenFlow 1.4 and return what it prints; bridges are named by their `target`."""
        return self._run("ovs-ofctl", "-O", "OpenFlow14", *arguments, stdin=stdin)

    def appctl(self, command: str, *arguments: str) -> str:
        """Ask ovs-vswitchd over its control socket."""
        if self._control is None:
            raise OpenVSwitchError("ovs-vswitchd is not running")
        return self._control(command, *arguments)

    def send(self, port: str, *frames: bytes) -> None:
        """Let frames arrive at a port and return when the switch is done with them.

        The switch's main thread takes frames and answers commands by turns, so when it says that it has taken as many
        frames as were put in, it is done with all of them. Only one test at a time may send.
        """
        for start in range(0, len(frames), _AT_ONCE):
            some = frames[start : start + _AT_ONCE]
            wanted = self._received() + len(some)
            self.appctl("netdev-dummy/receive", port, *(frame.hex() for frame in some))
            deadline = time.monotonic() + _START_SECONDS
            while self._received() < wanted:
                if time.monotonic() > deadline:
                    raise OpenVSwitchError(f"frames at {port} were never taken")

    def _received(self) -> int:
        return sum(int(number) for number in _RECEIVED.findall(self.appctl("dpif-netdev/pmd-stats-show")))

    def add_bridge(self, name: str = "br-int", datapath_type: str = "dummy", dpid: int | None = None) -> Bridge:
        """A new bridge without flows or controller, whose LOCAL port is captured as well.

        With `datapath_type` netdev the LOCAL port is a real device of this machine unless `dummy` is "override".
        """
        command = ["add-br", name, "--", "set", "Bridge", name, f"datapath_type={datapath_type}", "fail_mode=secure",
                   "protocols=OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15",
                   "--", "set", "Interface", name, f"options:tx_pcap={self.folder}/{name}.pcap"]  # fmt: skip
        if dpid is not None:
            command += ["--", "set", "Bridge", name, f"other_config:datapath-id={dpid:016x}"]
        self.vsctl(*command)
        self.bridges[name] = Bridge(self, name)
        return self.bridges[name]

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        control = self.folder / f"{program}.ctl"
        command = [*END_WITH_PARENT, program, "--no-chdir", f"--unixctl={control}"]
        command += [f"--log-file={self.folder}/{program}.log", "-vconsole:off", *arguments]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(
            command, env=environment(self.folder), stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
        )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if process.poll() is not None:
                raise OpenVSwitchError(f"{program} ended with {process.returncode}: {self._last_words(program)}")
            try:
                Control(control).close()
                return process
            except OSError:
                if time.monotonic() > deadline:
                    self._end(process)
                    raise OpenVSwitchError(f"{program} did not start: {self._last_words(program)}") from None
                time.sleep(0.01)

    @staticmethod
    def _end(process: subprocess.Popen[bytes] | None) -> None:
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _last_words(self, program: str) -> str:
        path = self.folder / f"{program}.log"
        return " | ".join(path.read_text().splitlines()[-5:]) if path.exists() else "it left no log"

    def _run(self, program: str, *arguments: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [program, *arguments],
            env=environment(self.folder),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise OpenVSwitchError(f"{program} {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout


class Bridge:
    """A bridge: its ports, flows, and frames in and out. LOCAL is the port of the bridge's own name."""

    def __init__(self, switch: OpenVSwitch, name: str) -> None:
        self.switch = switch
        self.name = name
        self.captures = {name: Capture(switch.folder / f"{name}.pcap")}
        self._installed: dict[tuple[int, int, Match], Flow] = {}

    def add_ports(self, ports: Mapping[str, int], external_ids: Mapping[str, Mapping[str, str]] | None = None) -> None:
        """Add ports of type dummy: name to ofport. `external_ids` gives what their Interface says, by port name."""
        command: list[str] = []
        for name, number in ports.items():
            capture = self.switch.folder / f"{name}.pcap"
            command += ["--", "add-port", self.name, name, "--", "set", "Interface", name, "type=dummy",
                        f"ofport_request={number}", f"options:tx_pcap={capture}"]  # fmt: skip
            command += [f'external_ids:{key}="{value}"' for key, value in (external_ids or {}).get(name, {}).items()]
            self.captures[name] = Capture(capture)
        self.switch.vsctl(*command)

    def install(self, flows: Iterable[Flow]) -> None:
        """Make these the bridge's flows, by the difference and in one bundle, so that no packet sees a mixture.

        Flows that the switch learned by itself stay, and so do the counters of flows that do not change.
        """
        wanted = {(flow.table, flow.priority, flow.match): flow for flow in flows}
        lines = [
            f"delete_strict table={flow.table},priority={flow.priority},{format_match(flow.match)}".rstrip(",")
            for key, flow in self._installed.items()
            if key not in wanted
        ]
        lines += [f"add {format_flow(flow)}" for key, flow in wanted.items() if self._installed.get(key) != flow]
        if lines:
            self.switch.ofctl("--bundle", "add-flows", self.target, "-", stdin="\n".join(lines) + "\n")
            self.settle()
        self._installed = wanted

    def add_meters(self, *numbers: int, rate: int = 1000, burst: int = 8000) -> None:
        """Make meters of packets a second that drop what is too many."""
        for number in numbers:
            meter = f"meter={number},pktps,burst,stats,band=type=drop,rate={rate},burst_size={burst}"
            self.switch.ofctl("add-meter", self.target, meter)

    def settle(self) -> None:
        """Empty the datapath's cache, so that it agrees with the tables and all that it counted is in their counters.

        The switch does that by itself a little after flows changed or were learned.
        """
        self.switch.appctl("revalidator/purge")

    def clear(self) -> None:
        """Remove all flows, learned ones too."""
        self.switch.ofctl("del-flows", self.target)
        self._installed = {}

    def takes(self, flow: Flow) -> bool:
        """Whether the switch would take this flow; it is not kept."""
        try:
            self.switch.ofctl("add-flow", self.target, format_flow(flow))
        except OpenVSwitchError:
            return False
        self.clear()
        return True

    @property
    def target(self) -> str:
        """The bridge as ovs-ofctl takes it."""
        return f"unix:{self.switch.folder}/{self.name}.mgmt"

    def dump(self) -> list[str]:
        """The flows as ovs-ofctl prints them, counters up to date."""
        self.settle()
        return [line.strip() for line in self.switch.ofctl("dump-flows", self.target, "--no-names").splitlines()]

    def packet_counts(self) -> dict[int, int]:
        """Packets by cookie, summed over the flows that have it. Flows without a cookie count under 0."""
        counts: dict[int, int] = {}
        for line in self.dump():
            packets = _PACKETS.search(line)
            cookie = _COOKIE.search(line)
            if packets:
                key = int(cookie[1], 16) if cookie else 0
                counts[key] = counts.get(key, 0) + int(packets[1])
        return counts

    def inject(self, port: str, *frames: bytes) -> dict[str, list[bytes]]:
        """Let frames arrive at a port, one after the other, and return what then came out, by port name."""
        self.switch.send(port, *frames)
        return self.collect()

    def collect(self) -> dict[str, list[bytes]]:
        """What came out of each port since the last call; ports without a frame are left out."""
        out = {name: capture.new_frames() for name, capture in self.captures.items()}
        return {name: frames for name, frames in out.items() if frames}

    def trace(self, in_port: int, frame: bytes) -> str:
        """What `ofproto/trace` says would happen to a frame (ovs-vswitchd(8))."""
        return self.switch.appctl("ofproto/trace", self.name, f"in_port={in_port}", frame.hex())


@contextmanager
def open_vswitch(dummy: str = "", hostname: str = "") -> Iterator[OpenVSwitch]:
    """A running OpenVSwitch that ends with the block."""
    with OpenVSwitch(dummy, hostname) as switch:
        yield switch


@pytest.fixture
def ovs() -> Iterator[OpenVSwitch]:
    """A private Open vSwitch for one test."""
    with open_vswitch() as switch:
        yield switch


@pytest.fixture(scope="module")
def module_ovs() -> Iterator[OpenVSwitch]:
    """A private Open vSwitch for the tests of one module; each makes a bridge of its own."""
    with open_vswitch() as switch:
        yield switch
