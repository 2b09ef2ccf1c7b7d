"""Tests of `flows.parse`."""
