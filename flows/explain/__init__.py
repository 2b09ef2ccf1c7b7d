"""Why policy allows or denies a connection, in words and as values for programs.

What is allowed is decided in `flows.policy.verdict` alone; here its answer is taken apart. `ends` finds what a name
means, `scope` cuts a cluster down to what one connection depends on, `differences` says what does not fit in a rule,
and `walk` puts an Explanation (`model`) together. Nothing here knows flows or switches.
"""
