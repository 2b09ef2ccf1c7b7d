"""The commands of `headgate node`: a file a command. What runs on a node is the package `node`."""

from __future__ import annotations
