"""Tests of `controller.sources.kubernetes`."""
