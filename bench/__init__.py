"""What SwiftDeploy costs, beside its peers in the same run: `python -m bench [NAME ...]`."""
