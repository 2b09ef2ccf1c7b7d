"""OVSDB, both ways: what the switches say of their bridges and ports, and the few settings Headgate writes there.

`service.Ovsdb` is the way in. Policy, flows and OpenFlow must not live here; neither must the meaning of external_ids,
which is `flows.bridge.binding`.
"""
