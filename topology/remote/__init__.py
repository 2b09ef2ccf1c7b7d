"""A lab over several machines, for instance virtual ones: each runs the pods of a node, one runs the API server.

`node`, `api` and `agent` run on the machines; `session` controls them from elsewhere. Scripts under deploy/ install
Headgate and Open vSwitch on the machines; that does not belong here.
"""
