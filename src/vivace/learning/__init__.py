"""Core machine learning: models with scikit-learn's manners."""
