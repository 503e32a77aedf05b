"""Building a store out of core: what does not fit in memory lies in files of a working directory beside the target.

``dictionary`` numbers the names of the rows as they come, ``naming`` renumbers them in the order in which a store shows
them, ``edges`` sorts the facts both ways, ``name_index`` makes the tables by which names are found, ``workspace`` keeps
the files and removes them.
"""
