"""The agent: prompt, parser, policies and the loop that lets a policy talk to a graph."""
