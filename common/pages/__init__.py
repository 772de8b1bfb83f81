"""HTML page of a report, and its charts."""
