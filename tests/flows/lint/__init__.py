"""Tests of `flows.lint`."""
