"""Reachability of everything with everything, by an indexed decision: who reaches whom, and what a change would change.
`flows.policy.verdict` has the meaning; tests hold the two equal."""
