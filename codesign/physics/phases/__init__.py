"""Phases of a model's life on a machine: decode, prefill, train, rl.  Each is a composition of operators."""
