"""The lab: nodes, pods and an underlay made of network namespaces, with the real switch and the real product inside.

It drives Headgate as a user does, through its command line, manifests and HTTP, and so imports neither `controller` nor
`flows`. Start reading at `lab`; what a lab consists of is in `model`, what it looks like on the machine in `node` and
`pod`.
"""
