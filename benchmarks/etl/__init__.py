"""The data pipeline and its near-duplicate stage, beside what else finds near-duplicates."""
