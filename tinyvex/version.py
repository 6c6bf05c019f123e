"""The package's version: the build reads it here, the server and the command report it."""

__version__ = "0.1.0"
