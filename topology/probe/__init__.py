"""Reachability with real packets: servers that stay in the pods, clients that try every way, and the matrix of what
got through.

`matrix` holds results as values, `wire` the packets for which the kernel may have no sockets, `servers` and `client`
do the input and output, `render` draws. Nothing here knows of policy.
"""
