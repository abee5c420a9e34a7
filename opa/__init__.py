"""Rego policies that ship with SwiftDeploy (data only)."""
