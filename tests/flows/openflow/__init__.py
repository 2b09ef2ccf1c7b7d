"""Tests of `flows.openflow`."""
