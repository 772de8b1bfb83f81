"""Data pipeline and near-duplicate stage, beside other systems that find near-duplicates."""
