"""Tests of `flows.reach`."""
