"""Instruments held against models whose truth is known: what each shows, and at what cost.

cases.py        pictures and questions, and the picture that an intervention puts in their place
truths.py       what is known of which model, and the label of each case, by intervention
subject.py      a model under calibration; passes that several instruments read are made once, and counted for each
instruments/    what reads a model, one small class each
scoring.py      AUROC, rank correlation and equality, with intervals over scenes
table.py        readings and labels put together into the rows of the table
reliance.py     how often answers follow the picture, predicted; reliance_fit.py fits it, exchange.py reads
remedies.py     which methods are tried on which model, and what each mends and breaks
"""
