"""The systems that the agent is compared with, on the same graph, model client, answer parser and ledger."""
