"""Tests of `flows.plan`."""
