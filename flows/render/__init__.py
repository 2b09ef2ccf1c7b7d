"""From values to flows. `reference` makes all flows of a bridge from nothing."""
