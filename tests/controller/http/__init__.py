"""Tests of `controller.http`."""
