"""Tests of `flows.pipeline`."""
