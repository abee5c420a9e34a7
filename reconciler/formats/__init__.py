"""Pure: text to values and back. May know YAML, JSON Schema, Jinja and crossplane; does no I/O."""
