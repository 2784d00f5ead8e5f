"""How designs are chosen: `exhaustive`, `nested` and `joint`, all returning the same `SearchOutcome`.

Every method works on one protocol (`Problem`) and prints nothing. This is the only room that imports optuna,
and it does so only when a sampler is asked for: enumeration does not need it.
"""
