"""The lab: nodes, pods and an underlay made of network namespaces, with real Open vSwitch and a real controller.

It uses Headgate as an operator does, through its command line, manifests and HTTP, and imports neither `controller` nor
`flows`. Start reading at `lab.lab`. See `spec.model` for what a topology has, `lab.node` and `lab.pod` for how it is
built on the machine, `probe` for probing with real packets.
"""
