"""Language models: documents, continuations and their scores, the n-gram baseline, and the report's sections."""
