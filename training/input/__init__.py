"""From shards to batches: order, reader, windows, memory."""
