"""A fast constructor for named tuples. Nothing else may live here.

A named tuple's own constructor is a Python function that takes three to four times as long as `tuple.__new__`. Use
`new_tuple` only where a value is made for each of a hundred thousand objects: it does not check the fields.
"""

from __future__ import annotations

# new_tuple(Net, (4, 0x0A000001, 32)) equals Net(4, 0x0A000001, 32); every field has to be given.
new_tuple = tuple.__new__
