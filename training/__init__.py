"""Training on published shards with Petastorm and Horovod."""
