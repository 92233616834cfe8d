"""Training by gradient descent: loop, batches, optimizer, budget and history."""
