"""Published question sets: a loader for each format, and what is known about each set.

:func:`kgr1.datasets.published.registry.card` finds a set by name, :func:`kgr1.datasets.published.load.read_published`
reads it, :func:`kgr1.datasets.published.convert.convert` writes it in the plain format, and
:func:`kgr1.datasets.published.hub.fetch` gets it from the Hugging Face hub.
"""
