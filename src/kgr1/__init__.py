"""KG-R1: a small language model that answers multi-hop questions from any knowledge graph."""

__version__ = "0.1.0"
