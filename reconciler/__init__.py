"""SwiftDeploy: one manifest, converged and kept on Docker hosts."""

__version__ = "0.1.0"
