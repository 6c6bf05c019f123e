"""The version of the package: read by the build, reported by the server and the command."""

__version__ = "0.1.0"
