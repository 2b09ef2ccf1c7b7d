"""The fault suite: schedules of faults over real replicas, switches and pods, and an oracle of every probe.

`schedule`, `history`, `writers`, `wire`, `shrink` and `slopes` are pure: values in, values out. `stage` starts the
world, `faults` breaks it, `changes` changes it, `prober` and `links` are the network. Run as `python -m tests.chaos`,
or `make chaos`.
"""
