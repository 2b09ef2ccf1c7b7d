"""Tests of `flows.explain`."""
