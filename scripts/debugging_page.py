"""Writes docs/debugging.md: a session with the commands that explain, with the output that they give now.

Each command is run here, on the manifests of docs/examples and of docs/debugging. Only the words between are written.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
from pathlib import Path

from controller.cli import main

ROOT = Path(__file__).resolve().parent.parent
_INTRODUCTION = """\
# Why is this allowed, why is that denied?

Each question has one command. The commands on this page need no controller: they read manifests, so they can be asked
before anything is applied. Without `--manifests` they ask the running controller, which answers from the cluster as the
switches have it.
"""
_EXPLAIN = """\
## One connection

An API has two pods, and a policy allows its port by name. Does `frontend` reach it?
"""
_DENIED = """\
The name stands for another number in each pod, so the same number is denied at the other one. The rule says what it
has instead:
"""
_BLOCK = """\
An address block with an exception, asked about an address that it excepts:
"""
_INPUT = """\
Exit codes are for scripts: 0 allowed, 1 denied, 2 no answer. `-o json` is for programs; its schema is
[schemas/explain.json](schemas/explain.json). What a cluster has now is read with `--kubeconfig FILE`, or from what
kubectl prints:

```console
$ kubectl get ns,po,no,netpol -A -o yaml | headgate explain shop/web shop/db -p 5432 --manifests -
```
"""


def debugging() -> str:
    """The page."""
    ports, blocks = "docs/examples/05-named-ports/manifests", "docs/examples/06-ip-block-with-except/manifests"
    return "\n".join(
        [
            _INTRODUCTION,
            _EXPLAIN,
            _run(f"headgate explain tenant-a/frontend tenant-a/api-1 -p 8080 --manifests {ports}"),
            _DENIED,
            _run(f"headgate explain tenant-a/frontend tenant-a/api-2 -p 8080 --manifests {ports}"),
            _BLOCK,
            _run(f"headgate explain 198.51.100.20 tenant-a/backend -p 80 --manifests {blocks}"),
            _INPUT,
        ]
    )


def _run(command: str) -> str:
    """A command and its output, as in a terminal that breaks no lines."""
    out = io.StringIO()
    before = Path.cwd()
    os.chdir(ROOT)  # paths in the output are as in a fresh checkout
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            main(shlex.split(command)[1:])
    finally:
        os.chdir(before)
    return f"```console\n$ {command}\n{out.getvalue().rstrip()}\n```\n"
