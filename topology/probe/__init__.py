"""Probes of reachability with real packets: servers in all pods, clients that connect to them, and a matrix of results.

`matrix` has the results as values, `wire` encodes packets for which the kernel may have no sockets, `servers` and
`client` use sockets, `render` draws tables. Nothing here knows of policies.
"""
