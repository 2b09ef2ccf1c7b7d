"""What both channels to the switches have in common: who may connect how often, and what a peer may cost.

OpenFlow and OVSDB themselves are spoken in `controller.switch` and `controller.ovsdb`; TLS is `controller.tls`'s.
"""
