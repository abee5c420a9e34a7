"""`reconcilerctl`, which also answers to `swiftdeploy`: one file per verb."""
