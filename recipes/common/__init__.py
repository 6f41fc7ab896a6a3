"""What the recipes of all families share: questions, packing, the optimiser, the training loop, figures and cards."""
