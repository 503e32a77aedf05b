"""Question sets: loaders, questions made from any graph, and expert trajectories (SPEC section 6)."""
