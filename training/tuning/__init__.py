"""Search over settings: each trial a training of its own, whose validations decide how far it goes."""
