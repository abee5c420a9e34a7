"""JSON Schemas that ship with SwiftDeploy (data only)."""
