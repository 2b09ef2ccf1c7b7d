"""The page for a browser at `/ui`: fixed files, and what they ask the controller. It changes nothing.

`files` are what a browser loads, `pages` checks requests and answers them, `events` streams what changes.
"""
