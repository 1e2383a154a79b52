"""What is fuzzed: a target for each reader of a stranger's bytes, the contract that all of them keep, kept inputs."""
