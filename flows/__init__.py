"""The pure core: policy in, flows out.

Values in, values out. No clock, socket, log, environment or os-ken may live here, so that all of it runs
and is tested without a switch. One event crosses the modules in this order: parse, model, compile, render, diff.
"""
