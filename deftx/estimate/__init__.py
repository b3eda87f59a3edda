"""What a run takes before it runs: jobs, steps, time and disk."""
