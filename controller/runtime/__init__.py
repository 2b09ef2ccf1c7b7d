"""The running controller: its wiring, the event loop, and the answers to HTTP."""
