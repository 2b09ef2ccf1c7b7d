"""The OpenFlow side of the controller: our codec for flows in bulk, and the os-ken application that talks to switches."""

from __future__ import annotations
