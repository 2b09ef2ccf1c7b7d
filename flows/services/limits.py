"""What Services may cost a bridge. Who may write Services and EndpointSlices chooses how many there are of everything,
and each costs flows and buckets of groups on every bridge; what is beyond a limit is left out, refused there, and told.

What one object may name at all is limited where it is parsed (`flows.parse.service`, `endpoint_slice`, `host_ports`).
"""

from __future__ import annotations

MAX_BACKENDS = 10_000  # of a port of a Service, in one family
MAX_SERVICE_BACKENDS = 20_000  # of a Service, over all ports and families
# What of a Service's slices is looked at, whenever one of them changes: its slices, and in them endpoints times ports.
MAX_SLICES = 1_000
MAX_MERGED = 2 * MAX_SERVICE_BACKENDS
MAX_SERVICE_FLOWS = 1 << 14  # of a Service, for its addresses and the sources that may use them
# Of all Services and host ports together: flows, groups and buckets. 10,000 Services of 10 endpoints cost 130,000.
MAX_COST = 1_000_000
# What is new takes no more than that, so that what is in force can go on growing.
MAX_COST_OF_NEW = 900_000
# So many fit one group, whose buckets must fit the 64 KiB of an OpenFlow message; more have flows in its place.
MAX_BUCKETS = 500
# Of larger groups ovs-vswitchd chooses the bucket, and not the datapath (`flows.wire.groups`).
DATAPATH_BUCKETS = 64
