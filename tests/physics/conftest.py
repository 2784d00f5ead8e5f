"""Makes the scalar reference importable as `reference.scalar`; it lives beside the tests and never in the package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
