"""`make chaos`: what it writes of a failure, and that this runs again. What a schedule does is made up here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.chaos import __main__ as command
from tests.chaos.run import Report
from tests.chaos.schedule import Schedule, make_schedule, read_schedule

SEED = 11


@pytest.fixture(autouse=True)
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has what schedules need."""
    monkeypatch.setattr(command, "can_build", lambda: True)
    monkeypatch.setattr(command, "skipped", lambda: "")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Schedule]:
    """The schedules that were run. One fails if it has the third and the fifth step of the seed's."""
    guilty = {make_schedule(SEED, 40.0, faults=6).steps[place] for place in (2, 4)}
    found: list[Schedule] = []

    def reports(schedules: Sequence[Schedule], out: Path, tell: Callable[[str], None]) -> list[Report]:
        found.extend(schedules)
        return [Report(one, wrong=["leaked"] if guilty <= set(one.steps) else []) for one in schedules[:1]]

    monkeypatch.setattr(command, "_reports", reports)
    return found


def test_a_failure_is_made_smaller_written_and_runs_again(
    ran: list[Schedule], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--out", str(tmp_path), "--shrink", "100"]
    assert command.main(["run", "--seed", str(SEED), "--schedules", "1", *where]) == 1
    whole, small = (read_schedule((tmp_path / f"seed-{SEED}{end}.json").read_text()) for end in ("", "-small"))
    assert whole == make_schedule(SEED, 40.0, faults=6)
    assert small == whole.only([whole.steps[2], whole.steps[4]])
    said = capsys.readouterr().out
    assert "WRONG: leaked" in said
    assert f"make chaos SEED={SEED} SCHEDULE={tmp_path}/seed-{SEED}-small.json" in said
    ran.clear()
    again = ["run", "--seed", "1", "--schedule", f"{tmp_path}/seed-{SEED}-small.json", "--shrink", "0", *where[:2]]
    assert command.main(again) == 1
    assert ran == [small]


def test_nothing_wrong_is_said_in_one_line(
    ran: list[Schedule], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["run", "--seed", "12", "--schedules", "1", "--out", str(tmp_path)]) == 0
    assert "never two writers" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_schedule_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.json").write_text("[]")
    assert command.main(["run", "--schedule", str(tmp_path / "bad.json")]) == 2
