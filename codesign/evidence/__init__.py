"""Evidence: predictions beside measurements.

    validate("mine.csv", "training")        every row predicted; codesign.evidence.score counts the errors
    validate(None, "inference")             the published measurements that come with the package (data/)

A row is mapped to one scenario of `codesign.point.evaluate_point`; what cannot be mapped is skipped with the reason, never guessed.
"""

from codesign.evidence.rows import KINDS, load
from codesign.evidence.validation import Line, Validation, validate

__all__ = ["KINDS", "Line", "Validation", "load", "validate"]
