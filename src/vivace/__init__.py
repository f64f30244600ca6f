"""Machine learning for visual computing, alive: methods you can read, run, and be examined on."""

__version__ = "0.1.0"
