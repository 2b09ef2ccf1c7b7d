"""The manifest folder, scan by scan: what comes, goes, breaks and is not what it seems."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from controller.base.native_threads import unpatched
from controller.sources.folder import files as module
from controller.sources.folder.files import FolderReader
from tests.helpers.cluster.broken_manifests import POD, POLICY


class World:
    """A folder and what is in force of it after each scan."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = FolderReader(str(path), lambda: False)
        self.objects: dict[str, list[str]] = {}
        self.problems: dict[str, list[str]] = {}
        self.reason = ""

    def write(self, name: str, text: str | bytes) -> None:
        data = text if isinstance(text, bytes) else text.encode()
        (self.path / name).write_bytes(data)

    def replace(self, name: str, text: str) -> None:
        (self.path / ".new").write_text(text)
        (self.path / ".new").rename(self.path / name)

    def scan(self) -> set[str]:
        """Scan, and return the names of the files about which something changed."""
        scan = self.folder.scan()
        self.reason = scan.reason
        for where, unit in scan.units.items():
            name = os.path.basename(where)
            self.objects[name] = [str(found) for found in unit.objects] if unit else []
            self.problems[name] = [problem.reason for problem in unit.problems] if unit else []
        return {os.path.basename(where) for where in scan.units}

    def in_force(self) -> list[str]:
        return sorted(name for names in self.objects.values() for name in names)

    def wrong(self) -> list[str]:
        return [f"{name}: {reason}" for name in sorted(self.problems) for reason in self.problems[name]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_which_files_are_read(world: World) -> None:
    for name in ("a.yaml", "b.yml", "d.yaml.bak", ".e.yaml", "f.txt", "g.YAML"):
        world.write(name, POD.format(name[0] if name[0] != "." else "e"))
    world.write("c.json", '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "c"}}')
    (world.path / "sub").mkdir()
    (world.path / "sub" / "h.yaml").write_text(POD.format("h"))
    world.scan()
    assert world.in_force() == ["Pod default/a", "Pod default/b", "Pod default/c"]
    assert not world.wrong()
    assert world.folder.scan().passed_over == {module.OTHER_FILES: 3, module.SUBFOLDERS: 1}


def test_a_file_that_vanished_after_it_was_listed_is_no_dangling_link(world: World) -> None:
    world.write("a.yaml", POD.format("a"))
    (world.path / "b.yaml").symlink_to(world.path / "nowhere")
    world.scan()
    assert world.wrong() == ["b.yaml: is a symbolic link to a file that does not exist"]
    settled = world.folder._complete_files

    def vanish() -> dict[str, module.Fingerprint | None]:
        present = settled()
        (world.path / "a.yaml").unlink()
        return present

    world.folder._complete_files = vanish  # type: ignore[method-assign]
    world.scan()
    assert world.wrong() == ["b.yaml: is a symbolic link to a file that does not exist"]
    assert world.in_force() == ["Pod default/a"], "until the next scan finds it gone, or replaced"
    world.folder._complete_files = settled  # type: ignore[method-assign]
    world.scan()
    assert world.in_force() == []


def test_come_change_and_go(world: World) -> None:
    assert world.scan() == set()
    world.write("a.yaml", POD.format("a"))
    assert world.scan() == {"a.yaml"}
    assert world.scan() == set()
    world.write("a.yaml", POD.format("b"))
    assert world.scan() == {"a.yaml"}
    assert world.in_force() == ["Pod default/b"]
    world.replace("a.yaml", POD.format("c"))
    world.scan()
    assert world.in_force() == ["Pod default/c"]
    (world.path / "a.yaml").rename(world.path / "z.yaml")
    assert world.scan() == {"a.yaml", "z.yaml"}
    assert world.in_force() == ["Pod default/c"]
    (world.path / "z.yaml").unlink()
    world.scan()
    assert world.in_force() == []


def test_a_rewrite_with_the_same_times_and_size_is_seen(world: World) -> None:
    """Two writes within one tick of the clock leave the same times."""
    world.write("a.yaml", POD.format("a"))
    world.scan()
    before = (world.path / "a.yaml").stat()
    with (world.path / "a.yaml").open("r+") as file:
        file.write(POD.format("b"))
    os.utime(world.path / "a.yaml", ns=(before.st_atime_ns, before.st_mtime_ns))
    world.scan()
    assert world.in_force() == ["Pod default/b"]


def test_touching_a_file_changes_nothing(world: World) -> None:
    world.write("a.yaml", POD.format("a"))
    world.scan()
    os.utime(world.path / "a.yaml", (0, 0))
    assert world.scan() == set()


@pytest.mark.parametrize(
    "text",
    [
        "a: b: c",
        POD.format("a") + "---\n" + POD.format("B"),
        POD.format("c") + "  labels: {a: 1}\n",
        POLICY.format("p") + "  policyTypes: [Sideways]\n",
        b"\xff",
        "",
        "  \n\n",
    ],
)
def test_a_broken_file_keeps_all_its_last_good_objects(world: World, text: str | bytes) -> None:
    world.write("a.yaml", POD.format("a") + "---\n" + POD.format("b"))
    world.write("other.yaml", POD.format("other"))
    world.scan()
    world.write("a.yaml", text)
    assert world.scan() == {"a.yaml"}
    assert world.in_force() == ["Pod default/a", "Pod default/b", "Pod default/other"]
    assert len(world.problems["a.yaml"]) == 2
    assert world.problems["a.yaml"][1] == "its last version without errors stays in force (2 objects)"
    assert world.scan() == set()
    world.write("a.yaml", POD.format("c"))
    world.scan()
    assert world.in_force() == ["Pod default/c", "Pod default/other"]
    assert not world.wrong()


def test_deleting_a_broken_file_removes_its_objects(world: World) -> None:
    world.write("a.yaml", POD.format("a"))
    world.scan()
    world.write("a.yaml", "{")
    world.scan()
    (world.path / "a.yaml").unlink()
    assert world.scan() == {"a.yaml"}
    assert (world.in_force(), world.wrong()) == ([], [])


def test_comments_alone_remove_what_was_there(world: World) -> None:
    world.write("a.yaml", POD.format("a"))
    world.scan()
    world.write("a.yaml", "# nothing any more\n")
    world.scan()
    assert (world.in_force(), world.wrong()) == ([], [])


def test_without_a_last_good_reading_the_good_documents_count(world: World) -> None:
    world.write("a.yaml", POD.format("a") + "---\n{\n---\n" + POLICY.format("p") + "  ingress: [{from: [{}]}]\n")
    world.scan()
    assert world.in_force() == ["NetworkPolicy default/p", "Pod default/a"]
    assert len(world.wrong()) == 2
    # The next one is broken too: nothing that was in force is lost, and what is new counts.
    world.write("a.yaml", "{\n---\n" + POD.format("b"))
    world.scan()
    assert world.in_force() == ["NetworkPolicy default/p", "Pod default/a", "Pod default/b"]
    world.write("a.yaml", POD.format("b"))
    world.scan()
    assert (world.in_force(), world.wrong()) == (["Pod default/b"], [])


def test_what_is_no_file(world: World) -> None:
    os.mkfifo(world.path / "fifo.yaml")
    (world.path / "folder.yaml").mkdir()
    (world.path / "dangling.yaml").symlink_to("nowhere")
    (world.path / "loop.yaml").symlink_to("loop.yaml")
    (world.path / "device.yaml").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        place = os.getcwd()
        os.chdir(world.path)  # the path of a socket is short
        try:
            listener.bind("socket.yaml")
        finally:
            os.chdir(place)
        world.scan()
    assert world.wrong() == [
        "dangling.yaml: is a symbolic link to a file that does not exist",
        "device.yaml: is not a regular file",
        "fifo.yaml: is not a regular file",
        "folder.yaml: is not a regular file",
        "loop.yaml: cannot be read: Too many levels of symbolic links",
        "socket.yaml: cannot be read: No such device or address",
    ]
    assert world.scan() == set()


def test_a_file_that_is_too_large(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MANIFEST_BYTES", 1 << 20)
    world.write("a.yaml", POD.format("a"))
    world.scan()
    world.write("a.yaml", "#" * ((1 << 20) + 1))
    world.scan()
    assert world.in_force() == ["Pod default/a"]
    assert world.problems["a.yaml"][0] == "has more than 1 MiB; split it"


def test_a_name_that_is_not_text(world: World) -> None:
    with open(os.fsencode(world.path) + b"/\xff\n.yaml", "w") as file:
        file.write("{")
    (unit,) = world.folder.scan().units.values()
    assert unit is not None
    assert unit.problems[0].where.isprintable()


def test_a_mounted_config_map(world: World) -> None:
    """Kubernetes swaps ..data, a link to a folder of a new version, under links that stay."""
    for version, name in (("..1", "a"), ("..2", "b")):
        (world.path / version).mkdir()
        (world.path / version / "x.yaml").write_text(POD.format(name))
    (world.path / "..data").symlink_to("..1")
    (world.path / "x.yaml").symlink_to("..data/x.yaml")
    world.scan()
    assert world.in_force() == ["Pod default/a"]
    (world.path / "..data_tmp").symlink_to("..2")
    (world.path / "..data_tmp").rename(world.path / "..data")
    assert world.scan() == {"x.yaml"}
    assert world.in_force() == ["Pod default/b"]


def test_the_folder_vanishes_and_comes_back(world: World) -> None:
    world.write("a.yaml", POD.format("a"))
    world.scan()
    world.path.rename(world.path.with_name("away"))
    assert world.scan() == set()
    assert world.reason == "cannot be read: No such file or directory; the last known objects stay in force"
    assert world.in_force() == ["Pod default/a"]
    world.path.mkdir()
    world.write("b.yaml", POD.format("b"))
    assert world.scan() == {"a.yaml", "b.yaml"}
    assert (world.reason, world.in_force()) == ("", ["Pod default/b"])


def test_a_name_that_is_only_being_replaced_is_not_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Editors rename the old file away and then write a new one: the policy must not be missing between the two."""
    world.write("a.yaml", POD.format("a"))
    world.scan()
    (world.path / "a.yaml").rename(world.path / "a.yaml~")

    class Clock:
        time_ns = staticmethod(unpatched("time").time_ns)

        @staticmethod
        def sleep(seconds: float) -> None:
            if not (world.path / "a.yaml").exists():
                world.replace("a.yaml", POD.format("b"))

    monkeypatch.setattr(world.folder, "_time", Clock)
    assert world.scan() == {"a.yaml"}
    assert world.objects["a.yaml"] == ["Pod default/b"]


def test_a_file_that_is_being_written_is_read_when_it_is_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write("a.yaml", POD.format("a"))
    rest = ["---\n" + POD.format("b"), "---\n" + POD.format("c")]

    class Clock:
        time_ns = staticmethod(lambda: (world.path / "a.yaml").stat().st_mtime_ns + (0 if rest else 10**9))

        @staticmethod
        def sleep(seconds: float) -> None:
            with (world.path / "a.yaml").open("a") as file:
                file.write(rest.pop(0))

    monkeypatch.setattr(world.folder, "_time", Clock)
    world.scan()
    assert world.in_force() == ["Pod default/a", "Pod default/b", "Pod default/c"]
