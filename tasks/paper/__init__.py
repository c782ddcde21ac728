"""The paper's fifteen benchmarks as lmms-eval tasks (docs/benchmarks.md)."""
