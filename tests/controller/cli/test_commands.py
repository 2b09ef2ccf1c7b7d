"""The commands as a user meets them: help, errors in one line with their exit codes, tables, and waiting."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace

import pytest
from werkzeug.wrappers import Response

from controller.cli import COMMANDS, INTERRUPTED, errors, main
from controller.cli.output import seconds
from controller.config.addresses import HostPort
from controller.config.load import options
from controller.http.pages import Application
from controller.http.server import HttpServer
from controller.metrics.registry import Metrics
from controller.status.model import StatusView
from tests.helpers.controller.fake_views import CLAUSE, DENY, STATUS, FakeViews
from tests.helpers.paths import ROOT
from tests.helpers.waiting import free_port

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def views() -> FakeViews:
    return FakeViews()


@pytest.fixture
def url(views: FakeViews) -> Iterator[str]:
    application = Application(views, Metrics("1", "native").registry, loopback=True)
    server = HttpServer(HostPort("127.0.0.1", 0), application)
    server.start()
    yield f"http://{server.address}"
    server.stop()


def flat(text: str) -> str:
    """Help without its line breaks."""
    return re.sub(r"\s+", " ", text)


@pytest.mark.process
def test_help_lists_the_commands_without_loading_any() -> None:
    script = "import sys; from controller.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(command.summary in flat(done.stdout) for command in COMMANDS.values())
    assert "Exit codes" in done.stdout and "HEADGATE_SERVER" in done.stdout
    loaded = set(done.stderr.split())
    assert not loaded & {"pydantic", "rich", "eventlet", "os_ken", "werkzeug", "structlog", "yaml", "topology"}


def test_run_help_shows_every_option_with_default_and_variable(capsys: Captured) -> None:
    assert main(["run", "--help"]) == 0
    text = flat(capsys.readouterr().out)
    for option in options():
        assert f"{option.flag} " in text
        assert f"env: {option.variable}]" in text
        assert not option.default or f"default: {option.default}; " in text
    for phrase in (
        "Examples:",
        "SIGTERM",
        "--config FILE",
        "sets the bridge's controller itself",
        "[repeatable; env: HEADGATE_OVSDB]",
    ):
        assert phrase in text


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["statsu"], "there is no command 'statsu'"),
        (["status", "--nope"], "No such option"),
        (["status", "-o", "xml"], "'json'"),
        (["status", "--timeout", "-1"], "--timeout"),
        (["--server", "127.0.0.1:8080", "status"], "http://HOST:PORT"),
        (["--server", "http://h:99999", "status"], "http://HOST:PORT"),
        (["--server", "ftp://h", "status"], "http://HOST:PORT"),
        (["flows", "--pod", "backend-1"], "NAMESPACE/NAME"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(arguments: list[str], hint: str, capsys: Captured) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("headgate: ") and said.err.count("\n") == 1
    assert hint in said.err


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--nope"], "No such option"),
        (["extra"], "unexpected extra argument"),
        (["--hub", "greenlet", "--manifests", "/"], "--hub: 'greenlet' is not one of"),
        (["--hub", "native"], "--manifests DIR"),
        (["--config", "/nowhere.yaml"], "cannot read the configuration file /nowhere.yaml"),
    ],
)
def test_wrong_usage_of_run_is_one_line_and_code_2(arguments: list[str], hint: str) -> None:
    # In a process of its own, since it installs the hub.
    command = [sys.executable, "-m", "controller", "run", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("headgate: ") and done.stderr.count("\n") == 1
    assert hint in done.stderr


def test_no_command_shows_help_as_wrong_usage(capsys: Captured) -> None:
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_version(capsys: Captured) -> None:
    assert main(["version"]) == 0 == main(["--version"])
    assert set(capsys.readouterr().out.split()[::2]) == {"headgate"}


def test_an_absent_controller_is_code_3(capsys: Captured) -> None:
    port = free_port()
    for command in (["status"], ["flows"], ["status", "--wait", "--timeout", "0.3"]):
        assert main(["--server", f"http://127.0.0.1:{port}", *command]) == 3
        said = capsys.readouterr().err
        assert "Connection refused" in said and "--server URL" in said and said.count("\n") == 1


def test_the_server_may_come_from_the_environment(url: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_SERVER", url)
    assert main(["status", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(asdict(STATUS)))


def test_status_in_a_pipe_has_whole_lines(url: str, capsys: Captured) -> None:
    assert main(["--server", url, "status", "--all", "-o", "wide"]) == 0
    text = capsys.readouterr().out
    lines = [re.split(r"\s{2,}", line) for line in text.splitlines()]
    assert lines[0] == [f"Headgate 1.2.3 at {url}, up 3m 12s: 6 problems"]
    assert [
        "node-1", "br-int", "00000000000000a1", "tcp:192.0.2.1:6640", "3.1.0", "netdev", "up0", "connected",
        "connected", "84/84", "2", "1", "2.0 s ago", "31 s ago", "realized", "-",
    ] in lines  # fmt: skip
    assert [
        "node-2", "br-int", "-", "tcp:192.0.2.2:6640", "-", "system", "-", "away", "away", "?/0", "0", "0", "-", "-",
        "not realized", "the switch refused a bundle: no space",
    ] in lines  # fmt: skip
    assert ["tenant-a/pol1", "yes", "ingress", "2", "-"] in lines
    assert ["tenant-a/odd", "no", "-", "1", "spec.ingress[0].ports[0].port: 99999 is no port"] in lines
    assert [
        "tenant-a/backend-1", "node-1", "veth-backend-1", "3", "10.0.0.3, fd00::3", "02:00:00:00:00:03", "ingress",
        "yes", "31 ms", "0", "-",
    ] in lines  # fmt: skip
    assert ["port", "stray0 of node-1 br-int", "no iface-id in external_ids"] in lines
    assert ["object", "odd.yaml, document 1: NetworkPolicy tenant-a/odd", "spec.ingress[0].ports: 99999"] in lines
    assert "\x1b" not in text and all(line == line.rstrip() for line in text.splitlines())


def test_status_says_what_it_waits_for(views: FakeViews, url: str, capsys: Captured) -> None:
    views.state = StatusView("1", 1.0, waiting_for=("source manifests: not read yet",))
    assert main(["--server", url, "status"]) == 0
    text = capsys.readouterr().out
    assert "not ready" in text and "  waiting for source manifests: not read yet\n" in text


def test_names_cannot_steer_the_terminal(views: FakeViews, url: str, capsys: Captured) -> None:
    evil = replace(STATUS.policies[0], reason="\x1b[2J[bold]x[/bold]\r\nnew line")
    views.state = replace(STATUS, policies=(evil,), waiting_for=("\x1b]0;x\x07",))
    assert main(["--server", url, "status"]) == 0 == main(["--server", url, "status", "--all"])
    text = capsys.readouterr().out
    assert "\x1b" not in text and "\x07" not in text and "\r" not in text
    assert "[bold]x[/bold]" in text


def test_flows_are_grouped_by_table_and_say_what_they_are_for(url: str, capsys: Captured) -> None:
    assert main(["--server", url, "flows", "--node", "node-1"]) == 0
    lines = [re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert ["node-1 br-int, table 60 ingress"] in lines and ["node-1 br-int, table 90 deny"] in lines
    assert [
        "100", "0", "tcp,reg3=0x3/0xffff", "conjunction(1,2/3)",
        "rule tenant-a/pol1 ingress[0]; pod tenant-a/backend-1",
    ] in lines  # fmt: skip
    why = "ingress isolated by tenant-a/pol1; pod tenant-a/backend-1; dropped by isolation"
    assert ["100", "7", "reg3=0x3/0xffff", "drop", why] in lines
    assert main(["--server", url, "flows", "--node", "node-1", "-o", "wide"]) == 0
    lines = [re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert ["100", "7", "518", "9 s", "0x4847020000000000", "reg3=0x3/0xffff", "drop", why] in lines


def test_flows_as_json_and_none(url: str, capsys: Captured) -> None:
    assert main(["--server", url, "flows", "-o", "json", "--pod", "tenant-a/backend-1"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(
        json.dumps({"version": 1, "flows": [asdict(CLAUSE), asdict(DENY)], "missing": []})
    )
    assert main(["--server", url, "flows", "--policy", "tenant-a/odd"]) == 0
    assert capsys.readouterr().out == "No flows.\n"


@pytest.mark.parametrize(("arguments", "hint"), [(["--node", "node-9"], "node-1"), (["--node", "node-2"], "OpenFlow")])
def test_flows_that_cannot_be_had_are_code_1(arguments: list[str], hint: str, url: str, capsys: Captured) -> None:
    assert main(["--server", url, "flows", *arguments]) == 1
    assert hint in capsys.readouterr().err


def test_wait_returns_0_when_realized(url: str, capsys: Captured) -> None:
    assert main(["--server", url, "status", "--wait", "--timeout", "30"]) == 0
    assert capsys.readouterr().out == "Everything is realized.\n"


def test_wait_says_what_is_missing_and_returns_1(views: FakeViews, url: str, capsys: Captured) -> None:
    views.missing = ("policy tenant-a/pol1: node-2 is away",)
    assert main(["--server", url, "status", "--wait", "--timeout", "0.2"]) == 1
    assert "missing:\n  policy tenant-a/pol1: node-2 is away\n" in capsys.readouterr().err
    assert main(["--server", url, "status", "--wait", "--timeout", "0", "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "realized": False,
        "missing": list(views.missing),
        "version": 1,
    }


def test_wait_ends_when_the_controller_says_that_waiting_will_not_help(views: FakeViews, url: str) -> None:
    views.missing, views.hopeless = ("policy tenant-a/odd: 99999 is no port",), True
    assert main(["--server", url, "status", "--wait", "--timeout", "3600"]) == 1
    assert len(views.waits) == 1


def test_wait_takes_a_controller_that_comes_up_later(views: FakeViews, capsys: Captured) -> None:
    port = free_port()
    codes: list[int] = []
    command = ["--server", f"http://127.0.0.1:{port}", "status", "--wait", "--timeout", "60"]
    waiter = threading.Thread(target=lambda: codes.append(main(command)))
    waiter.start()
    threading.Event().wait(0.5)
    server = HttpServer(HostPort("127.0.0.1", port), Application(views, Metrics("1", "native").registry, loopback=True))
    server.start()
    waiter.join()
    server.stop()
    assert codes == [0]


def test_another_server_is_not_taken_for_ours(capsys: Captured) -> None:
    class Other:
        def __call__(self, environ: dict[str, object], start_response: object) -> object:
            return Response("<h1>hello</h1>")(environ, start_response)  # type: ignore[arg-type]

        def body_limit(self, method: str, path: str) -> int:
            return 0

    server = HttpServer(HostPort("127.0.0.1", 0), Other())  # type: ignore[arg-type]
    server.start()
    assert main(["--server", f"http://{server.address}", "status"]) == 1
    assert "is it the HTTP address of" in capsys.readouterr().err
    server.stop()


@pytest.mark.process
def test_an_interrupted_wait_ends_cleanly(views: FakeViews, url: str) -> None:
    views.missing = ("much",)
    # A shell's background jobs ignore SIGINT, and so would this process where pytest is one.
    heeding = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('controller', run_name='__main__')"
    )
    waiter = subprocess.Popen(
        [sys.executable, "-c", heeding, "--server", url, "status", "--wait"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while not views.waits:
            threading.Event().wait(0.05)
        waiter.send_signal(2)
        out, err = waiter.communicate(timeout=60)
    finally:
        waiter.kill()
        waiter.wait()
    assert (waiter.returncode, out, err.strip()) == (130, "", "headgate: interrupted")


@pytest.mark.process
def test_a_reader_that_goes_away_is_no_traceback(url: str) -> None:
    command = f"{sys.executable} -m controller --server {url} status | true"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


def test_durations_fit_a_column() -> None:
    shown = [seconds(value) for value in (None, 0.031, 2, 59, 192.5, 3700, 90000)]
    assert shown == ["-", "31 ms", "2.0 s", "59 s", "3m 12s", "1h 1m", "1d 1h"]


WARNING = """
import sys, types, warnings
import click
from controller.cli import COMMANDS, CommandEntry, main

@click.command()
def warn():
    for kind in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
        warnings.warn(f"a library will change {kind.__name__}", kind, stacklevel=1)
    warnings.warn("something is wrong", stacklevel=1)

module = types.ModuleType("made_up")
module.warn = warn
sys.modules["made_up"] = module
COMMANDS["warn"] = CommandEntry("made_up", "warn", "Warns.")
sys.exit(main(["warn"]))
"""


@pytest.mark.process
def test_what_libraries_will_change_is_not_told_to_users() -> None:
    def said(*options: str) -> str:
        command = [sys.executable, *options, "-c", WARNING]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr

    assert "will change" not in said()
    assert "something is wrong" in said()
    assert said("-W", "default").count("will change") == 3  # who asks for them has them


def test_every_exit_code_is_in_the_help(capsys: Captured) -> None:
    main(["--help"])
    text = flat(capsys.readouterr().out)
    for code in (errors.EXIT_OK, errors.EXIT_FAILED, errors.EXIT_USAGE, errors.EXIT_UNREACHABLE, INTERRUPTED):
        assert re.search(rf"(Exit codes: |; ){code} ", text), code
