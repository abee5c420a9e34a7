"""Templates that ship with SwiftDeploy (data only)."""
