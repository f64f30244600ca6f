"""Neural networks, from the perceptron on."""
