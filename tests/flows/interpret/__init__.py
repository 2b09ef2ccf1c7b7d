"""Tests of `flows.interpret`; what holds the interpreter to the real switch is in tests/flows/render."""
