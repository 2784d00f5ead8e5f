"""What a machine does: pure functions on numpy arrays that broadcast. No file, no catalog name, no pandas, no optuna.

Reading order: architecture (parameters) -> attention/<kind> -> precision -> layout -> kernels -> collectives -> experts
-> memory -> operators (one transformer block) -> phases (decode, prefill, train, rl).
"""
