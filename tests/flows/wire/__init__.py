"""Tests of `flows.wire`."""
