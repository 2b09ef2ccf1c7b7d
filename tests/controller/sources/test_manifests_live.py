"""The manifest folder as it runs, under both hubs, each in a process of its own: a hub is for the life of a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from controller.sources.folder.source import ManifestFolder
from controller.sources.source import SourceError
from controller.sources.store import Store
from tests.helpers.paths import ROOT

PRELUDE = """
import sys, warnings
warnings.simplefilter("ignore")
from controller.base import hub
hub.install(sys.argv[1])
import os, queue, threading, time
from pathlib import Path
from controller.sources.folder.source import ManifestFolder
from controller.sources.store import Store
from tests.helpers.cluster.broken_manifests import POD

folder = Path(sys.argv[2])
posted = queue.Queue()
store = Store(posted.put)
source = ManifestFolder(folder, store, rescan=float(sys.argv[3]))

def names(event):
    return sorted(key.name for key in event.cluster.pods)

def wait_for(*expected):
    while names(event := posted.get(timeout=60)) != sorted(expected):
        pass
    return event

def replace(name, text):
    (folder / ".new").write_text(text)
    (folder / ".new").rename(folder / name)

turns = 0
def turn():
    global turns
    while True:
        turns += 1
        time.sleep(0.001)
threading.Thread(target=turn, daemon=True).start()
"""

SCRIPTS = {
    "watching": """
replace("a.yaml", POD.format("a"))
store.start()
first = wait_for("a")
assert first.generation == 1, first
assert source.state().synced and not source.state().problems
replace("b.yaml", POD.format("b"))
wait_for("a", "b")
replace("a.yaml", POD.format("c"))
wait_for("b", "c")
(folder / "b.yaml").unlink()
wait_for("c")
(folder / "a.yaml").write_text("{")
while not (event := posted.get(timeout=60)).problems:
    pass
assert names(event) == ["c"], event
assert source.state().problems == 2, source.state()
folder.rename(folder.with_name("away"))
while len((event := posted.get(timeout=60)).problems) != 3:
    pass
assert names(event) == ["c"] and "stay in force" in str(event.problems[0])
assert "cannot be read" in source.state().reason
folder.mkdir()
replace("d.yaml", POD.format("d"))
wait_for("d")
replace("d.yaml", POD.format("e"))  # the watch is on the new folder
wait_for("e")
assert not source.state().reason
""",
    "rereading": """
store.start()
wait_for()
for number in range(30):
    replace("a.yaml", POD.format(f"n{number}"))
    generation = store.reread(60)
    latest = None
    while latest is None or latest.generation < generation:
        latest = posted.get(timeout=60)
    assert names(latest) == [f"n{number}"], (number, latest)
assert store.reread(60) >= generation
(folder / "a.yaml").unlink()
generation = store.reread(60)
while (latest := posted.get(timeout=60)).generation < generation:
    pass
assert names(latest) == []
try:
    source.reread(0)
except TimeoutError:
    pass
else:
    raise SystemExit("no timeout")
""",
    "other threads go on": """
replace("big.yaml", "---\\n".join(POD.format(f"p{number}") for number in range(3000)))
before = turns
store.start()
event = posted.get(timeout=60)
assert len(event.cluster.pods) == 3000
assert turns > before + 5, turns
""",
    "looking without being told": """
target = folder.with_name("target")
target.write_text(POD.format("a"))
(folder / "a.yaml").symlink_to(target)
store.start()
wait_for("a")
target.write_text(POD.format("b"))  # nothing happens in the folder itself
wait_for("b")
""",
    "a fifo and a bomb": """
os.mkfifo(folder / "fifo.yaml")
replace("deep.yaml", "[" * 1000000)
replace("a.yaml", POD.format("a"))
store.start()
event = wait_for("a")
assert len(event.problems) == 2, event
""",
    "stopping twice, and never started": """
Store(posted.put).stop()
store.start()
store.stop()
""",
}

CODA = """
store.stop()
before = set(threading.enumerate())
left = [thread.name for thread in before if thread.name in ("store", "manifests", "manifests-scan", "manifests-watch")]
assert not left, left
if sys.argv[1] == "eventlet":
    from eventlet import tpool
    tpool.killall()  # the threads of `offload` stay for the next work
# The kernel's view: watching ends its own thread shortly after. The native hub has the turning thread.
while len(os.listdir("/proc/self/task")) > (1 if sys.argv[1] == "eventlet" else 2):
    time.sleep(0.01)
print("done")
"""


@pytest.mark.process
@pytest.mark.parametrize("hub", ["eventlet", "native"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_live(tmp_path: Path, name: str, hub: str) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    rescan = "0.05" if name == "looking without being told" else "3600"
    script = PRELUDE + SCRIPTS[name] + CODA
    done = subprocess.run(
        [sys.executable, "-c", script, hub, str(folder), rescan],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@pytest.mark.parametrize(
    ("name", "words"), [("missing", "does not exist: create it (mkdir -p"), ("file", "is not a folder")]
)
def test_a_folder_that_cannot_be_read_at_the_start(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").write_text("")
    store = Store(lambda event: None)
    ManifestFolder(tmp_path / name, store)
    with pytest.raises(SourceError, match=words.replace("(", r"\(")):
        store.start()
