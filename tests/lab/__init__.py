"""The lab itself: its files, its parts on the machine, its probes; and the product in it, on real packets."""
