"""Tests of flows.dns."""
