"""Every name of Transformers that is private or may be renamed, and what its releases do differently.

Nothing else in Sightline spells such a name (a test looks for them), so that a new release is met in this folder alone.
Where a release does what these files do not know, a `ModelError` says so: a number read past it would be wrong.

release.py      which releases the tests passed on
cache.py        the cache and other states of a prompt
loading.py      configurations, auto classes, processors, options of training
generation.py   what `generate` is given, and its processors
attention.py    where attention modules look up their functions
"""
