"""The way of the rows from shards to batches: order, reader, windows, memory."""
