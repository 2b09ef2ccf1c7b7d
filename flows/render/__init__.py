"""From values to flows. `reference` renders all flows of a bridge from nothing."""
