"""Language models behind the agent: where their weights come from and how tokens are drawn."""
