"""What a question set can show on a graph, before any model answers it.

:func:`kgr1.datasets.audit.audit.audit_questions` is the entry: how far the gold answers are from the topics
(:mod:`.reach`), and what the splits share (:mod:`.leaks`).
"""
