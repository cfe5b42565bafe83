"""Pretraining: text made into blocks of tokens, and the training of a model while and after it is cut."""
