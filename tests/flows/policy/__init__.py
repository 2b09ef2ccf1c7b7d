"""Tests of `flows.policy`."""
