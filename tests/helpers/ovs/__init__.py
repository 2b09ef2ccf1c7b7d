"""Real Open vSwitch daemons of a test's own, and what talks to them."""
