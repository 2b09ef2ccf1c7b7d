"""OVSDB connections: what the switches report of their bridges and ports, and the few settings that Headgate writes.

`service.Ovsdb` is the interface. Policy, flows and OpenFlow must not live here; the meaning of an Interface's
external_ids must not either: see `flows.bridge.binding`.
"""
