"""A bridge in pure Python: flows carried out on packets as Open vSwitch would; held to the real switch by tests.

`interpreter` carries out, `flow_lookup` finds flows, `conntrack` tracks connections, `packet` is what passes. `journey`
leads a packet over several bridges. What flows should be there is decided elsewhere.
"""
