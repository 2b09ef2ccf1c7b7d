"""The pure core: policy in, flows out.

Values in, values out. No clock, socket, log, environment or os-ken may live here, so that all of it runs
and is tested without a switch. One change crosses the rooms in this order: `parse` and `cluster` (an object), `policy`
(compiled rules), `plan` (desired flows) with `bridge` (ports), `render` and `wire` (flows, and their bytes).
"""
