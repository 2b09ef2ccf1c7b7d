"""Tests of `flows`, room by room."""
