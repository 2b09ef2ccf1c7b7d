"""Tests on the kernel's datapath, on a machine without it: a Linux as an ordinary program, user-mode Linux, has it.

`build` makes that Linux, `run` runs a command in it, `make kernel-test` the tests on real packets.
"""
