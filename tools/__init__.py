"""What can be done to a model: sources, corpora, pruning, training, evaluation, export; search spaces; workers."""
