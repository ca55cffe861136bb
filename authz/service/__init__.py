"""Use cases over ports: their steps, the order of the steps, and the reaction to unavailable stores."""
