"""The OpenFlow side of the controller: our codec for flows in bulk, and the os-ken application with its sessions."""

from __future__ import annotations
