"""Which controller a command asks, and what it says where that was not to be expected."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.cli import main, which_controller
from controller.cli.errors import CommandFailure
from controller.cli.lab.which_lab import lab_errors_as_failures
from controller.cli.which_controller import DEFAULT_SERVER, choose_controller, command_prefix, is_headgate
from controller.config.addresses import HostPort
from controller.http.pages import Application
from controller.http.server import HttpServer
from controller.metrics.registry import Metrics
from tests.helpers.controller.fake_views import FakeViews
from topology.lab.state import LabState

Captured = pytest.CaptureFixture[str]
DEAD = "http://127.0.0.1:1"


@pytest.fixture
def url() -> Iterator[str]:
    application = Application(FakeViews(), Metrics("1", "native").registry, loopback=True)
    server = HttpServer(HostPort("127.0.0.1", 0), application)
    server.start()
    yield f"http://{server.address}"
    server.stop()


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of labs, and a usual address that nobody listens on."""
    monkeypatch.setenv("HEADGATE_LAB_DIR", str(tmp_path))
    monkeypatch.delenv("HEADGATE_SERVER", raising=False)
    monkeypatch.delenv("HEADGATE_LAB", raising=False)
    monkeypatch.setattr(which_controller, "DEFAULT_SERVER", DEAD)
    return tmp_path


def add(labs: Path, name: str, url: str, controller: bool = True, ready: bool = True) -> None:
    """A lab as `lab up` leaves it, with its controller at `url`."""
    (labs / name).mkdir()
    (labs / name / "topology.json").write_text("{}")
    state = LabState("userspace", controller, 1, int(url.rpartition(":")[2]), ready)
    (labs / name / "state.json").write_text(json.dumps(state.__dict__))


def test_the_only_lab_is_found_and_named(url: str, labs: Path, capsys: Captured) -> None:
    add(labs, "mine", url)
    add(labs, "without", DEAD, controller=False)
    add(labs, "half", DEAD, ready=False)
    assert main(["status"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Headgate 1.2.3 at {url}, up ")
    assert err == f"headgate: asking the lab mine at {url}\n"
    assert main(["flows", "-o", "json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)
    assert "mine" in err


def test_of_several_labs_one_must_be_named(url: str, labs: Path, capsys: Captured) -> None:
    add(labs, "one", url)
    add(labs, "two", DEAD)
    assert main(["status"]) == 1
    said = capsys.readouterr().err
    assert said == "headgate: several labs are up: one, two; choose one with --lab NAME or --server URL\n"
    for arguments in (
        ["--lab", "one", "status"],
        ["status", "--lab", "one"],
        ["--lab", "two", "status", "--lab", "one"],
    ):
        assert main(arguments) == 0
        out, err = capsys.readouterr()
        assert (url in out.splitlines()[0], err) == (True, "")
    assert main(["status", "--lab", "three"]) == 1
    assert "no lab three with a controller is up; labs with a controller: one, two" in capsys.readouterr().err


def test_server_stands_before_or_after_the_subcommand(url: str, labs: Path, capsys: Captured) -> None:
    for arguments in (
        ["--server", url, "status"],
        ["status", "--server", url],
        ["--server", DEAD, "flows", "--server", url],
    ):
        assert main(arguments) == 0
        assert capsys.readouterr().err == ""
    for arguments in (["--server", url, "--lab", "x", "status"], ["--server", url, "status", "--lab", "x"]):
        assert main(arguments) == 2
        assert "give --server or --lab, not both" in capsys.readouterr().err


def test_flags_are_stronger_than_the_environment(
    url: str, labs: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(labs, "one", url)
    monkeypatch.setenv("HEADGATE_LAB", "one")
    assert main(["status"]) == 0
    monkeypatch.setenv("HEADGATE_SERVER", DEAD)
    assert main(["status"]) == 3
    assert main(["--lab", "one", "status"]) == 0
    assert main(["status", "--lab", "one"]) == 0
    monkeypatch.setenv("HEADGATE_LAB", "none")
    monkeypatch.setenv("HEADGATE_SERVER", url)
    assert main(["status"]) == 0
    capsys.readouterr()


def test_a_controller_at_the_usual_address_comes_before_a_lab(
    url: str, labs: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    add(labs, "one", DEAD)
    add(labs, "two", "http://127.0.0.1:2")
    monkeypatch.setattr(which_controller, "DEFAULT_SERVER", url)
    assert main(["status"]) == 0
    said = capsys.readouterr().err
    assert said == f"headgate: asking the controller of this machine (labs: --lab one, --lab two) at {url}\n"


def test_without_labs_it_is_the_usual_address() -> None:
    assert choose_controller(None, None, {}) == (DEFAULT_SERVER, "")
    assert choose_controller(None, None, {"demo": DEFAULT_SERVER}) == (DEFAULT_SERVER, "")
    assert choose_controller("http://x:1", None, {"a": "b", "c": "d"}) == ("http://x:1", "")
    with pytest.raises(CommandFailure, match="demo, other"):
        choose_controller(None, None, {"demo": DEFAULT_SERVER, "other": DEAD})


def test_another_server_is_not_taken_for_a_headgate(url: str) -> None:
    assert is_headgate(url)
    assert not is_headgate(DEAD)
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n[1]")

        thread = threading.Thread(target=answer)
        thread.start()
        assert not is_headgate(f"http://127.0.0.1:{other.getsockname()[1]}")
        thread.join()


def test_how_to_ask_leads_there(labs: Path, url: str) -> None:
    add(labs, "one", url)
    assert command_prefix("one", url) == "headgate --lab one"
    assert command_prefix("one", DEAD) == f"headgate --server {DEAD}"
    assert command_prefix("elsewhere", url) == f"headgate --server {url}"


def test_need_of_root_is_the_reason_and_comes_first() -> None:
    with pytest.raises(CommandFailure) as caught, lab_errors_as_failures():
        raise PermissionError(13, "Permission denied", "/run/headgate-lab")
    assert caught.value.message == "labs need root; run this command with sudo (/run/headgate-lab: Permission denied)"
