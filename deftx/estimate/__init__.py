"""What a config will cost, told before anything runs: steps, hours, memory, disk."""
