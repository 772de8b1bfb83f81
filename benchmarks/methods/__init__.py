"""Claims about ways of training, each measured beside what it is compared with."""
