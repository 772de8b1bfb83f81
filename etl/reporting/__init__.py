"""What the gates and the data-quality report look at, and how they show it."""
