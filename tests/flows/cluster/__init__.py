"""Tests of `flows.cluster`."""
