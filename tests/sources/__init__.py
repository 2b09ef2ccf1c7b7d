"""Sources of Kubernetes objects."""

from __future__ import annotations
