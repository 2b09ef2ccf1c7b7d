"""A lab on this machine: its nodes, pods and objects, and its controller."""
