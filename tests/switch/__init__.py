"""Tests against a real Open vSwitch, and the harness that starts one."""
