"""Reinforcement learning: group-relative policy optimisation with turn-wise credit (SPEC section 5)."""
