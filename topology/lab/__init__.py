"""A lab on this machine: its nodes, pods, objects and the product in it."""
