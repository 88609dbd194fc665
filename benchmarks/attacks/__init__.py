"""What hostile clients do to a good one: `python -m benchmarks.attacks`. Each attack is a row of docs/limits.md."""
