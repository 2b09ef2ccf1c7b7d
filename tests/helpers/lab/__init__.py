"""Labs of real packets in the truth tables' layout: probes, streams and raw frames."""
