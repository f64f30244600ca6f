"""Style and texture: statistics of features, and pictures made to have them."""
