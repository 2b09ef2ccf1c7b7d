"""A machine with systemd that boots, reboots and loses its power: what `deploy/` says about boots, seen on one.

`disk` makes a Debian with systemd and Open vSwitch, Machine starts it on the Linux of tests/kernel, agent.py runs the
tests' commands in it. `make reboot-test` runs these. Clocks go as they do outside, unlike in tests/kernel.
"""
