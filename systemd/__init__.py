"""Units for systemd and launchd that ship with SwiftDeploy (data only)."""
