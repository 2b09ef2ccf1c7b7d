"""Tests of `controller`, room by room."""
