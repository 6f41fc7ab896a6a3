"""What several test files share: tiny models, bad inputs, runs that can be killed."""
