"""Tests on the kernel's datapath, on a machine without it: a Linux as an ordinary program, user-mode Linux, has it.

`build` makes that Linux, `run` runs a command in it, `make kernel-test` the tests on real packets.

Its clock does not go on while a program computes; it is set on when all sleep (`time-travel=inf-cpu`). Waits cost
nothing there, and no test fails for being slow. What never sleeps never sees a timeout end.
"""
