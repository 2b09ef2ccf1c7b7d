"""Bounds on connection peers, for OpenFlow and OVSDB alike: who may connect how often, and what a peer may cost.

The protocols themselves must not live here: see `controller.openflow` and `controller.ovsdb`, and `controller.tls`.
"""
