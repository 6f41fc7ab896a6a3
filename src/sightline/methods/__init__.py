"""Methods that change what a model attends to, reads or writes while it answers; each is a `with` block.

Importing changes nothing; `sightline.methods.base.METHODS` knows each by name and imports it when it is looked up.
"""
