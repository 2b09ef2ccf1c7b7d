"""Waits for changes of the files of one folder, with the kernel's inotify(7). What has changed is found by `files`.

Example: `kubectl create -o yaml > policies/web.yaml` gives events of `web.yaml` (created, modified, closed), and `wait`
returns at once. An editor's `.web.yaml.swp` gives events that are passed over, for no file of that name is read.
"""

from __future__ import annotations

import ctypes
import os
import struct

from controller.base.native_threads import unpatched

_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = (
    0x2, 0x4, 0x8, 0x40, 0x80, 0x100, 0x200, 0x400, 0x800,
)  # fmt: skip
_CHANGES = _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
_ONLY_FOLDERS = 0x01000000
_BUFFER_BYTES = 1 << 16


class FolderChanges:
    """The changes of a folder from now on. For use in one native thread; the folder may be gone or replaced meanwhile,
    which only its `identity` tells.

    Raises OSError where there is no such folder, and where the user has no inotify instance or watch left.
    """

    def __init__(self, path: str) -> None:
        self._os = unpatched("os")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._call("inotify_add_watch", self._descriptor, os.fsencode(path), _CHANGES | _ONLY_FOLDERS)
        except OSError:
            self.close()
            raise
        self._poll = unpatched("select").poll()
        self._poll.register(self._descriptor)

    def close(self) -> None:
        """End watching."""
        self._os.close(self._descriptor)

    def wait(self, seconds: float) -> bool:
        """Wait for a change of a file that may be read; False after `seconds`, and after a change of another file."""
        if not self._poll.poll(seconds * 1e3):
            return False
        data = self._os.read(self._descriptor, _BUFFER_BYTES)
        place, found = 0, False
        while place < len(data):
            _, _, _, length = _EVENT.unpack_from(data, place)
            place += _EVENT.size + length
            name = data[place - length : place].rstrip(b"\0")
            # `..data` is how Kubernetes replaces mounted files. No name: the folder itself, or a queue that was full.
            found |= not name.startswith(b".") or name.startswith(b"..")
        return found

    def _call(self, function: str, *arguments: object) -> int:
        found: int = getattr(self._libc, function)(*arguments)
        if found < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{function}: {os.strerror(number)}")
        return found
