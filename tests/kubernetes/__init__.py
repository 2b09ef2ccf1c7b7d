"""Kubernetes as a source, against a real API server: reading, faults, rights, events, and the truth tables."""
