"""The status as a kept value."""
