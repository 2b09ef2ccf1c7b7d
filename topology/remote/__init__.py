"""A lab over several machines, virtual ones for instance: each runs a node's pods, one runs the cluster's API server.

What runs on the machines stands in `node`, `api` and `agent`; what drives them from elsewhere in `session`. How they
come to be, how Headgate and Open vSwitch get onto them, is not decided here: scripts under deploy/ do that.
"""
