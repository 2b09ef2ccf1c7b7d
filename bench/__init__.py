"""Measurements of Headgate's cost, run by hand: `make bench` or `headgate bench`. No test asserts a time.

May import everything else; nothing but the command line and the tests may import it.
"""
