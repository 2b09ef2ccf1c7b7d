"""The Prometheus metrics: declared in `series`, moved by `event_counters` (events) and `gauges` (state).

Must not live here: what is only shown to the operator (`controller.status`), and HTTP (`controller.http`).
"""
