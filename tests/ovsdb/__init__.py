"""OVSDB against a real ovs-vswitchd: what is seen, what is written, and above all what is not."""
