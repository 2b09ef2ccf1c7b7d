"""Named tuples made in bulk. Nothing else may live here.

A named tuple's own constructor is a Python function that costs three or four times as much as the tuple. That counts
where a value is made for each of a hundred thousand objects; elsewhere the constructor, which is checked, is better.
"""

from __future__ import annotations

# new_tuple(Net, (4, 0x0A000001, 32)) equals Net(4, 0x0A000001, 32); every field has to be given.
new_tuple = tuple.__new__
