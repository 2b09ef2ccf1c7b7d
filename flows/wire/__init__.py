"""Flows to bytes of OpenFlow 1.4 and back, and to the text of ovs-ofctl."""
