"""Tests of `controller.tls`."""
