"""Tests of `flows.render`."""
