"""What the user says: YAML, units, expressions, the space and the study file."""
