"""What runs on a node: the CNI plugin and `headgate-node`. Python 3.9 or newer, the standard library alone, no daemon.

Everything here stands on its own: it imports neither `flows` nor `controller`, and it is packed into one file that a
node runs without an installation. The kubelet starts it for each pod, so what is imported at the start counts.
"""
