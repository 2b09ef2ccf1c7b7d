"""The running controller: wiring, the core's loop, and its answers."""
