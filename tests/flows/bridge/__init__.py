"""Tests of `flows.bridge`."""
