"""The parts that families share: multilayer perceptrons, convolutional nets, embeddings of time."""
