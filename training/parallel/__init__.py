"""Ranks that train together: the communicator, the exchange of gradients, the watchdog."""
