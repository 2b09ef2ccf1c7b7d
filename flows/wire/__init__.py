"""Flows as bytes of OpenFlow 1.4 and as text of ovs-ofctl, and back."""
