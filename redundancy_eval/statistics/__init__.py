"""How sure the numbers are; arrays in, arrays out, numpy and scipy only.

`redundancy_eval.uncertainty` joins it to a table.

One method: the delete-one-cluster jackknife's covariance (`covariance`) gives intervals (`intervals`) and tests
(`verdicts`) of everything smooth, and normal draws with it (`draws`) those of everything that takes a maximum (`gap`,
`selection`). No bootstrap: it covers worse where few answers change or few images are there, and not at all for IG.
"""
