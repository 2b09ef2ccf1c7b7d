"""Measurements of Headgate's cost, started with `make bench` or `headgate bench`. No test asserts a time.

May import everything else; only tests may import it. `controller.cli` names its command by a string.
"""
