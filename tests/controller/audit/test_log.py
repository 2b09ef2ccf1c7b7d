"""The ring of events and its writers: numbers without gaps, bounds that hold, and readers that wait."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from controller.base.errors import StartError
from controller.openflow.audit_inbox import MAX_BYTES, MAX_WAITING_OF_SWITCH, AuditInbox
from controller.runtime.audit_log import AuditLog
from controller.runtime.audit_writers import KEPT_FILES, AuditWriters
from controller.status.audit_model import AuditEvent
from tests.helpers.controller.fake_views import EVENT
from tests.helpers.waiting import until


def numbers(log: AuditLog, after: int, most: int = 100, wait: float = 0.0) -> list[int]:
    return [one.number for one in log.after(after, most, wait).events]


def test_the_last_events_are_kept_and_the_rest_is_counted() -> None:
    log = AuditLog(10)
    assert log.after(0, 5).next == 1
    for _ in range(5):
        log.append([EVENT] * 3, {"meter": 2})
    answer = log.after(0, 100)
    assert [one.number for one in answer.events] == list(range(6, 16))
    assert (answer.next, answer.lost, answer.unreported) == (16, 5, {"meter": 10})
    assert numbers(log, 0, 2) == [14, 15]
    assert numbers(log, 13) == [14, 15]
    assert (numbers(log, 15), log.after(15, 5).lost) == ([], 0)
    assert numbers(log, 0, 0) == []


def test_a_number_of_an_earlier_run_is_taken_for_none() -> None:
    log = AuditLog(10)
    log.append([EVENT] * 3)
    assert numbers(log, 700) == [1, 2, 3]


def test_a_reader_waits_for_the_next_event() -> None:
    log, found = AuditLog(10), list[int]()
    reader = threading.Thread(target=lambda: found.extend(numbers(log, 0, wait=60.0)))
    reader.start()
    log.append([EVENT])
    reader.join(60.0)
    assert found == [1]


def test_events_go_to_a_file_that_is_rotated(tmp_path: Path) -> None:
    writers = AuditWriters(tmp_path / "audit.log", 2000, None)
    log = AuditLog(10, writers.write)
    writers.start()
    log.append([EVENT] * 40)
    until(lambda: len(list(tmp_path.iterdir())) == KEPT_FILES + 1, "as many files as are kept")
    writers.stop()
    lines = (tmp_path / "audit.log").read_text().splitlines()
    assert json.loads(lines[-1])["policies"] == ["tenant-a/pol1"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    assert writers.dropped == 0


def test_a_file_that_cannot_be_opened_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot write audit events to file"):
        AuditWriters(tmp_path / "missing" / "audit.log", 2000, None)


def test_events_go_to_syslog() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(60.0)
        writers = AuditWriters(None, 2000, server.getsockname())
        writers.write([EVENT])
        text = server.recv(8192).decode().rstrip("\0")
    assert text.startswith("<14>headgate: {")
    assert json.loads(text.partition("headgate: ")[2])["verdict"] == "denied"


def test_one_switch_does_not_fill_the_inbox_of_all() -> None:
    inbox = AuditInbox()
    for _ in range(MAX_WAITING_OF_SWITCH + 7):
        inbox.put(1, b"x")
    inbox.put(1, bytes(MAX_BYTES + 1))
    inbox.put(2, b"y")
    copies, dropped = inbox.take()
    assert (len(copies), copies[-1].dpid, dropped[1], dropped[2]) == (MAX_WAITING_OF_SWITCH + 1, 2, 8, 0)
    assert inbox.take() == ([], {})
    inbox.put(1, b"x")
    assert len(inbox.take()[0]) == 1


def test_an_event_without_an_end_has_a_text_for_it() -> None:
    assert AuditEvent(1, "", "dropped", "forged", "", "").source.shown == "?"
